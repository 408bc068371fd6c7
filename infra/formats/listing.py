"""What a dataset at its source looks like once read: its samples, its classes, its problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.objects import ObjectInfo
from longtail.errors import LongtailError
from longtail.samples import Sample, Split, Task
from longtail.seeds import derive_id

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
READERS = 16
SIDECAR, VERSION_FILE = "longtail.json", "longtail-version.json"
"""Beside an export's own files: which of its images are synthetic, where its format has no place for that; and which version it is, with its proof."""
DEALT = "splits"
"""In a dataset's `meta`: how its splits were dealt, since its source has none."""
Entry = tuple[str, bytes | Path | Sample]
"""A path in an export and what lies there: bytes, a file of ours, or the image of a sample."""


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


def is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def bare_sample(item: ObjectInfo, split: Split, **fields: Any) -> Sample:
    """A real sample of that object whose size is not known yet; its path names it."""
    return Sample(
        id=derive_id("real", item.path), path=item.path, uri=item.uri, etag=item.etag, size_bytes=item.size_bytes, width=0, height=0, split=split,
        **{"annotations": (), **fields},
    )  # fmt: skip


def load_all(items: Iterable[ObjectInfo], load: Callable[[str], bytes], problems: list[str]) -> Iterator[tuple[ObjectInfo, bytes]]:
    """Each object with its bytes, in order, read side by side; one that cannot be read is a problem and is left out."""

    def read(item: ObjectInfo) -> tuple[ObjectInfo, bytes | LongtailError]:
        try:
            return item, load(item.uri)
        except LongtailError as error:
            return item, error

    with ThreadPoolExecutor(READERS) as pool:
        for item, data in pool.map(read, items):
            if isinstance(data, bytes):
                yield item, data
            else:
                problems.append(f"{item.path}: {data}")


def by_path(objects: list[ObjectInfo]) -> dict[str, ObjectInfo]:
    return {o.path: o for o in objects}


def split_of(path: str) -> Split | None:
    """train, val or test, if a part of the path or file name says so."""
    words = path.lower().replace(".", "/").replace("_", "/").replace("-", "/").split("/")
    said: list[tuple[tuple[str, ...], Split]] = [(("test",), "test"), (("val", "valid", "validation"), "val"), (("train", "training"), "train")]
    for names, split in said:
        if any(name in words for name in names):
            return split
    return None
