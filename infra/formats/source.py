"""Reading a dataset where it lies: its format found or given, its images checked, its problems listed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

from infra.formats import coco, imagefolder, masks, voc, yolo
from infra.formats.listing import SIDECAR, SourceDataset
from infra.images import peek, size_of
from infra.marks import Mark, read_mark
from infra.objects import ObjectInfo, Objects
from longtail.datasets import ClassMap
from longtail.errors import BrokenDataset, InvalidRequest, LongtailError
from longtail.samples import Provenance, Sample

SourceFormat = Literal["auto", "coco", "yolo", "voc", "masks", "imagefolder"]
READERS = 8
HEAD_BYTES, TAIL_BYTES = 65_536, 64
MARK = "longtail"
"""Where exports mark synthetic images: a file of its own, or a field of COCO's image record."""


def read_source(objects: Objects, uri: str, *, format: SourceFormat) -> tuple[SourceDataset, str]:
    """(what lies below the prefix, its format); images are not read yet. Raises NotFound, BrokenDataset."""
    listed = list(objects.list(uri))
    found = format if format != "auto" else detect(listed, uri)
    source = with_marks(READ[found](listed, objects.read), sidecar(listed, objects))
    if not source.samples and not source.problems:
        raise BrokenDataset(f"{uri}: holds no image that is laid out as {found}")
    return source, found


def sidecar(listed: list[ObjectInfo], objects: Objects) -> dict[str, Any]:
    """{path: {"id", "provenance"}} of an earlier export's synthetic images, from its longtail.json. Raises BrokenDataset."""
    item = next((o for o in listed if o.path == SIDECAR), None)
    if item is None:
        return {}
    try:
        return dict(json.loads(objects.read(item.uri))["synthetic"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenDataset(f"{SIDECAR}: not readable as what an export writes, so its synthetic images cannot be told from real ones: {error}") from error


def with_marks(source: SourceDataset, marks: dict[str, Any]) -> SourceDataset:
    """What was exported as synthetic comes back as synthetic, with its id and its provenance."""
    problems = list(source.problems)
    samples = []
    for sample in source.samples:
        fields = dict(sample.extra.get("fields", {}))
        mark = fields.pop(MARK, None) or marks.get(sample.path)
        if mark is not None and sample.split != "train":
            problems.append(f"{sample.path}: is marked as synthetic and lies in {sample.split}; nothing synthetic enters val or test")
            continue
        if mark is not None:
            try:
                record = Provenance.from_json(mark["provenance"])
                ClassMap(source.classes).id_of(record.class_name)
            except (KeyError, TypeError, IndexError, InvalidRequest) as error:
                problems.append(f"{sample.path}: is marked as synthetic, and its provenance cannot be read: {error!r}")
                continue
            extra = {**sample.extra, "fields": fields} if fields or "fields" in sample.extra else sample.extra
            sample = replace(sample, id=mark["id"], origin="synthetic", provenance=record, extra=extra)
        samples.append(sample)
    return replace(source, samples=tuple(samples), problems=tuple(problems))


READ: dict[str, Callable[[list[ObjectInfo], Callable[[str], bytes]], SourceDataset]] = {
    "yolo": yolo.read, "coco": coco.read, "voc": voc.read, "masks": masks.read, "imagefolder": imagefolder.read,
}  # fmt: skip
LOOKS: dict[str, tuple[Callable[[list[ObjectInfo]], bool], str]] = {
    "yolo": (yolo.looks_like, "YOLO (a data.yaml at the prefix or one folder down)"),
    "coco": (coco.looks_like, "COCO (a .json at the prefix or one folder down)"),
    "voc": (voc.looks_like, "VOC (Annotations/*.xml)"),
    "masks": (masks.looks_like, "image + mask pairs (NAME.jpg beside NAME.png, or images/ and masks/)"),
    "imagefolder": (imagefolder.looks_like, "ImageFolder (CLASS/IMAGE)"),
}
"""In the order in which they are looked for: the first that fits is taken."""


def detect(listed: list[ObjectInfo], uri: str) -> str:
    """The format's name. Raises BrokenDataset where none fits."""
    for name, (looks_like, _) in LOOKS.items():
        if looks_like(listed):
            return name
    raise BrokenDataset(f"{uri}: found none of " + ", ".join(said for _, said in LOOKS.values()))


def check_images(
    format: str, samples: Sequence[Sample], objects: Objects, *, classes: ClassMap, max_pixels: int, report: Callable[[int], None]
) -> tuple[list[Sample], list[str]]:
    """(samples finished with their true sizes and marks, problems): every image's header and end is read, once.

    `report` hears how many are done.
    """

    def check(sample: Sample) -> Sample | str:
        try:
            size, mark = look(sample, objects, max_pixels=max_pixels)
            return marked(finish(format, sample, size, objects.read), mark, classes)
        except LongtailError as error:
            return str(error)

    good: list[Sample] = []
    problems: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        for i, checked in enumerate(pool.map(check, samples)):
            if isinstance(checked, str):
                problems.append(checked)
            else:
                good.append(checked)
            report(i + 1)
    return good, problems


def look(sample: Sample, objects: Objects, *, max_pixels: int) -> tuple[tuple[int, int], Mark | None]:
    """((width, height), mark) of the image itself; decoded whole only where its ends do not tell. Raises LongtailError."""
    head, tail = objects.read_ends(sample.uri, etag=sample.etag, size_bytes=sample.size_bytes, head=HEAD_BYTES, tail=TAIL_BYTES)
    size = peek(head, tail, what=sample.path, max_pixels=max_pixels)
    if size is None:
        head = objects.read(sample.uri, etag=sample.etag)
        size = size_of(head, what=sample.path, max_pixels=max_pixels)
    return size, read_mark(head)


def marked(sample: Sample, mark: Mark | None, classes: ClassMap) -> Sample:
    """The sample as its file says that it came to be. Raises InvalidRequest for a synthetic image where none may be, or of unknown making."""
    if mark is None or not mark.synthetic:
        return sample
    if sample.origin == "synthetic":
        if mark.sample not in (None, sample.id):
            raise InvalidRequest(f"{sample.path}: its file is marked as sample {mark.sample}, and what lies beside it says {sample.id}")
        return sample
    if sample.split != "train":
        raise InvalidRequest(f"{sample.path}: its file is marked as synthetic and lies in {sample.split}; nothing synthetic enters val or test")
    if mark.sample is None or mark.provenance is None:
        raise InvalidRequest(f"{sample.path}: its file is marked as synthetic ({mark.source_type}), and nothing says from what it was made; take it out")
    classes.id_of(mark.provenance.class_name)
    return replace(sample, id=mark.sample, origin="synthetic", provenance=mark.provenance)


def finish(format: str, sample: Sample, size: tuple[int, int], load: Callable[[str], bytes]) -> Sample:
    """The sample with its true size, and with the boxes that depend on it. Raises LongtailError where claims and image differ."""
    if sample.width and (sample.width, sample.height) != size:
        raise InvalidRequest(f"{sample.path}: the annotations say {sample.width}x{sample.height}, the image is {size[0]}x{size[1]}")
    claimed = bool(sample.width)
    sample = replace(sample, width=size[0], height=size[1])
    if format == "coco" and not claimed:
        return coco.place(sample)
    if format == "yolo":
        return yolo.place(sample)
    if format == "voc":
        return voc.place(sample)
    if format == "masks":
        return masks.with_objects(sample, load(sample.extra["mask"]))
    return sample
