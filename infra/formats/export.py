"""A version in a format: its annotation files, and under which path each image goes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from infra.formats import coco, yolo
from longtail.errors import InvalidRequest
from longtail.samples import Sample, Task

Format = Literal["coco", "yolo", "imagefolder"]


def layout(
    format: Format, samples: Sequence[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], *, task: Task
) -> tuple[dict[str, bytes], list[tuple[str, Sample]]]:
    """(annotation files by path, [(path, sample)]). Raises InvalidRequest for a format that cannot hold the task."""
    if (task == "classification") != (format == "imagefolder"):
        wanted = "imagefolder" if task == "classification" else "coco or yolo"
        raise InvalidRequest(f"a {task} dataset cannot be exported as {format}; use {wanted}")
    if format == "coco":
        return coco.write(samples, classes, meta), [(s.path, s) for s in samples]
    if format == "yolo":
        return yolo.write(samples, classes), [(yolo.image_path(s), s) for s in samples]
    sidecar = {s.path: {"id": s.id, "provenance": s.provenance.to_json()} for s in samples if s.provenance}
    return {"longtail.json": json.dumps({"synthetic": sidecar}).encode()}, [(s.path, s) for s in samples]


def archive(files: Mapping[str, bytes], images: Sequence[tuple[str, Sample]], load: Callable[[Sample], bytes]) -> Iterator[bytes]:
    """A tar as a stream of chunks; no more than one image is in memory at a time."""
    for path, data in files.items():
        yield from member(path, data)
    for path, sample in images:
        yield from member(path, load(sample))
    yield b"\0" * 1024


def member(path: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.size = len(data)
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield data
    yield b"\0" * (-len(data) % 512)
