"""A version in a format: what is written, under which path, and as a stream of tar chunks. Never all in memory."""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from infra.formats import coco, imagefolder, voc, webdataset, yolo
from infra.formats.listing import VERSION_FILE, Entry
from longtail.errors import BrokenDataset, InvalidRequest
from longtail.samples import Sample, Task

Format = Literal["coco", "yolo", "voc", "imagefolder", "webdataset"]
FITS: dict[Task, tuple[Format, ...]] = {"detection": ("coco", "yolo", "voc", "webdataset"), "classification": ("imagefolder", "webdataset")}
READ_BYTES = 1 << 20


def check_fits(format: Format, task: Task) -> None:
    """Raises InvalidRequest for a format that cannot hold the task."""
    if format not in FITS[task]:
        raise InvalidRequest(f"a {task} dataset cannot be exported as {format}; use {' or '.join(FITS[task])}")


def layout(
    format: Format, samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], *, task: Task, scratch: Path
) -> Iterator[Entry]:
    """Every file of the version as the samples come; what ties them together is last, so that its presence means a whole export.

    Files of ours lie in `scratch` until the caller is done with them. Raises InvalidRequest, BrokenDataset.
    """
    check_fits(format, task)
    some = False
    for entry in write(format, samples, classes, meta, scratch):
        some = some or isinstance(entry[1], Sample)
        yield entry
    if not some:
        raise BrokenDataset("this version holds no image to export")


def version_file(version: Mapping[str, Any]) -> tuple[str, bytes]:
    """What an export says of the version that it holds: (its path, its content)."""
    proof = {"proof": version["proof"], "accepted_unproven": bool(version["accepted_unproven"])}
    told = {"dataset": version["dataset"], "version": version["number"], "synthetic_images": version["health"]["synthetic_images"], **proof}
    return VERSION_FILE, json.dumps(told, indent=1).encode()


def tar_of(
    format: Format, samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], *, task: Task, load: Callable[[Sample], bytes],
    version: Mapping[str, Any],
) -> Iterator[bytes]:  # fmt: skip
    """The version as a tar, chunk by chunk; what is proven of it comes first, except where whoever reads shards takes each file for a sample's."""
    with TemporaryDirectory(prefix="longtail-export-") as scratch:
        first = [] if format == "webdataset" else [version_file(version)]
        yield from archive(itertools.chain(first, layout(format, samples, classes, meta, task=task, scratch=Path(scratch))), load)


def write(format: Format, samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], scratch: Path) -> Iterator[Entry]:
    if format == "coco":
        return coco.write(samples, classes, meta, scratch)
    if format == "yolo":
        return yolo.write(samples, classes, meta)
    if format == "voc":
        return voc.write(samples, classes, meta)
    if format == "webdataset":
        return webdataset.write(samples, classes)
    return imagefolder.write(samples, meta)


def archive(entries: Iterable[Entry], load: Callable[[Sample], bytes]) -> Iterator[bytes]:
    """A tar as a stream of chunks; no more than one image is in memory at a time."""
    for path, content in entries:
        if isinstance(content, Path):
            yield from header(path, content.stat().st_size)
            with content.open("rb") as file:
                while chunk := file.read(READ_BYTES):
                    yield chunk
            yield b"\0" * (-content.stat().st_size % 512)
            continue
        data = content if isinstance(content, bytes) else load(content)
        yield from header(path, len(data))
        yield data
        yield b"\0" * (-len(data) % 512)
    yield b"\0" * 1024


def header(path: str, size: int) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.size = size
    yield info.tobuf(tarfile.PAX_FORMAT)
