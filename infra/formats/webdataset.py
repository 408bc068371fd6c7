"""WebDataset, out: tar shards in which an image, its labels and its provenance stand together under one key."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping

from longtail.datasets import ClassMap
from longtail.samples import Sample

SHARD_IMAGES = 1000


def key(sample: Sample, position: int) -> str:
    """A key without dots or folders of the sample's own, since the first dot ends it."""
    return f"{sample.split}-{position:09d}"


def members(sample: Sample, position: int, classes: Mapping[int, str]) -> tuple[str, bytes, str]:
    """(name of the JSON, its bytes, name of the image)."""
    class_map = ClassMap(classes)
    labels = [
        {"class": class_map.index_of(a.category_id), "category_id": a.category_id, "name": classes[a.category_id], "bbox": a.bbox_xywh, **a.extra}
        for a in sample.annotations
    ]
    body = {
        "id": sample.id, "path": sample.path, "split": sample.split, "width": sample.width, "height": sample.height, "origin": sample.origin,
        "annotations": labels, "provenance": sample.provenance.to_json() if sample.provenance else None,
    }  # fmt: skip
    stem, suffix = key(sample, position), posixpath.splitext(sample.path)[1].lower() or ".bin"
    return f"{stem}.json", json.dumps(body, ensure_ascii=False).encode(), f"{stem}{suffix}"
