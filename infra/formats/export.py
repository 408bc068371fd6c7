"""A version in a format: what is written, under which path, and as a stream of tar chunks."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from infra.formats import coco, voc, webdataset, yolo
from longtail.errors import InvalidRequest
from longtail.samples import SPLITS, Sample, Task

Format = Literal["coco", "yolo", "voc", "imagefolder", "webdataset"]
Entry = tuple[str, bytes | Sample]
"""A path and what lies there: bytes, or the image of a sample."""
FITS: dict[Task, tuple[Format, ...]] = {"detection": ("coco", "yolo", "voc", "webdataset"), "classification": ("imagefolder", "webdataset")}


def check_fits(format: Format, task: Task) -> None:
    """Raises InvalidRequest for a format that cannot hold the task."""
    if format not in FITS[task]:
        raise InvalidRequest(f"a {task} dataset cannot be exported as {format}; use {' or '.join(FITS[task])}")


def layout(format: Format, samples: Sequence[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], *, task: Task) -> list[Entry]:
    """Every file of the version, images first, so that a whole set of annotation files means a whole export."""
    check_fits(format, task)
    if format == "webdataset":
        return [entry for _, shard in shards(samples, classes) for entry in shard]
    place: Callable[[Sample], str]
    if format == "coco":
        files, place = coco.write(samples, classes, meta), lambda s: s.path
    elif format == "yolo":
        files, place = yolo.write(samples, classes, meta), lambda s: yolo.image_path(s, meta)
    elif format == "voc":
        files, place = voc.write(samples, classes, meta), voc.image_path
    else:
        sidecar = {s.path: {"id": s.id, "provenance": s.provenance.to_json()} for s in samples if s.provenance}
        files, place = {"longtail.json": json.dumps({"synthetic": sidecar}).encode()}, lambda s: s.path
    return [*((place(s), s) for s in samples), *files.items()]


def shards(samples: Sequence[Sample], classes: Mapping[int, str]) -> Iterator[tuple[str, list[Entry]]]:
    """(name, members) of each WebDataset shard: SHARD_IMAGES images of one split, each beside its labels."""
    for split in SPLITS:
        own = [s for s in samples if s.split == split]
        for start in range(0, len(own), webdataset.SHARD_IMAGES):
            entries: list[Entry] = []
            for position, sample in enumerate(own[start : start + webdataset.SHARD_IMAGES], start):
                label_name, label, image_name = webdataset.members(sample, position, classes)
                entries += [(label_name, label), (image_name, sample)]
            yield f"{split}-{start // webdataset.SHARD_IMAGES:06d}.tar", entries


def archive(entries: Iterable[Entry], load: Callable[[Sample], bytes]) -> Iterator[bytes]:
    """A tar as a stream of chunks; no more than one image is in memory at a time."""
    for path, content in entries:
        yield from member(path, content if isinstance(content, bytes) else load(content))
    yield b"\0" * 1024


def member(path: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.size = len(data)
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield data
    yield b"\0" * (-len(data) % 512)
