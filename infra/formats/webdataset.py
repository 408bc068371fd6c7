"""WebDataset, out: tar shards in which an image, its labels and its provenance stand together under one key."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count, islice
from typing import Any

from infra.formats.listing import Entry
from longtail.datasets import ClassMap
from longtail.samples import Sample

SHARD_IMAGES = 1000


def write(samples: Iterable[Sample], classes: Mapping[int, str]) -> Iterator[Entry]:
    """SPLIT-NUMBER.json, then SPLIT-NUMBER.jpg (or whatever the image is), for each sample; numbers are its place in the split."""
    class_map = ClassMap(classes)
    counts: Counter[str] = Counter()
    for sample in samples:
        # a key without dots or folders of the sample's own, since the first dot ends it
        stem = f"{sample.split}-{counts[sample.split]:09d}"
        counts[sample.split] += 1
        yield f"{stem}.json", json.dumps(labels(sample, class_map), ensure_ascii=False).encode()
        yield f"{stem}{posixpath.splitext(sample.path)[1].lower() or '.bin'}", sample


def labels(sample: Sample, class_map: ClassMap) -> dict[str, Any]:
    """What is known of an image: `class` counts from 0 in ascending order of id, `bbox` is xywh in pixels."""
    annotations = [
        {"class": class_map.index_of(a.category_id), "category_id": a.category_id, "name": class_map.names[a.category_id], "bbox": a.bbox_xywh, **a.extra}
        for a in sample.annotations
    ]
    return {
        "id": sample.id, "path": sample.path, "split": sample.split, "width": sample.width, "height": sample.height, "origin": sample.origin,
        "annotations": annotations, "provenance": sample.provenance.to_json() if sample.provenance else None,
    }  # fmt: skip


def shards(split: str, entries: Iterable[Entry]) -> Iterator[tuple[str, Iterator[Entry]]]:
    """(name, members) of each shard of one split: SHARD_IMAGES images, each beside its labels. Read each before the next."""
    rest = iter(entries)
    for number in count():
        first = next(rest, None)
        if first is None:
            return
        yield f"{split}-{number:06d}.tar", chain([first], islice(rest, 2 * SHARD_IMAGES - 1))
