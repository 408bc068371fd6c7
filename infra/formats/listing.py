"""What a dataset at its source looks like once read: its samples, its classes, its problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.objects import ObjectInfo
from longtail.samples import Sample, Task


@dataclass(frozen=True)
class SourceDataset:
    """Samples without image headers yet: width and height are as the annotations claim, 0 where they claim nothing.

    `problems` is one line each, naming file and sample. `meta` keeps what an export must give back.
    """

    task: Task
    classes: Mapping[int, str]
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)


def by_path(objects: list[ObjectInfo]) -> dict[str, ObjectInfo]:
    return {o.path: o for o in objects}


def split_of(path: str) -> str | None:
    """train, val or test, if a part of the path or file name says so."""
    words = path.lower().replace(".", "/").replace("_", "/").replace("-", "/").split("/")
    for names, split in ((("test",), "test"), (("val", "valid", "validation"), "val"), (("train", "training"), "train")):
        if any(name in words for name in names):
            return split
    return None
