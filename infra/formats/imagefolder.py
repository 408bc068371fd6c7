"""ImageFolder: class folders, optionally below split folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from infra.formats.listing import DEALT, SIDECAR, Entry, SourceDataset, bare_sample, is_image, split_of
from infra.objects import ObjectInfo
from longtail.samples import Annotation, Sample, Split


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any("/" in o.path and is_image(o.path) for o in objects)


def read(objects: list[ObjectInfo], _load: Callable[[str], bytes] | None = None) -> SourceDataset:
    """CLASS/NAME, all of it train, or SPLIT/CLASS/NAME; classes are numbered in order of name."""
    found: list[tuple[ObjectInfo, str, Split]] = []
    problems: list[str] = []
    for item in objects:
        if not is_image(item.path):
            continue
        parts = item.path.split("/")
        split = split_of(parts[0]) if len(parts) > 2 else None
        if len(parts) < 2:
            problems.append(f"{item.path}: an image outside any class folder")
            continue
        found.append((item, parts[1] if split else parts[0], split or "train"))
    names = sorted({name for _, name, _ in found})
    ids = {name: i for i, name in enumerate(names)}
    samples = tuple(bare_sample(item, split, annotations=(Annotation(category_id=ids[name]),)) for item, name, split in found)
    return SourceDataset("classification", dict(enumerate(names)), samples, tuple(problems))


def write(samples: Iterable[Sample], meta: Mapping[str, Any]) -> Iterator[Entry]:
    """Paths as at the source, below SPLIT/ where splits were dealt on request, and a sidecar of what is synthetic.

    What is synthetic lies where the source's own training images lie.
    """
    marks, train = {}, ""
    for sample in samples:
        path = sample.path
        if DEALT in meta:
            path = f"{sample.split}/{path}"
        elif sample.provenance is None and sample.split == "train" and path.count("/") > 1 and split_of(path.split("/")[0]):
            train = path.split("/")[0]
        elif sample.provenance is not None and train and not path.startswith(f"{train}/"):
            path = f"{train}/{path}"
        if sample.provenance is not None:
            marks[path] = {"id": sample.id, "provenance": sample.provenance.to_json()}
        yield path, sample
    yield SIDECAR, json.dumps({"synthetic": marks}).encode()
