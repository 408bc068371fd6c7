"""Reading a dataset where it lies: its format found or given, its images checked, its problems listed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from infra.formats import coco, imagefolder, masks, voc, yolo
from infra.formats.listing import SourceDataset
from infra.images import size_of
from infra.objects import ObjectInfo, Objects
from longtail.errors import BrokenDataset, LongtailError
from longtail.samples import Sample

SourceFormat = Literal["auto", "coco", "yolo", "voc", "masks", "imagefolder"]
READERS = 8


def read_source(objects: Objects, uri: str, *, format: SourceFormat) -> tuple[SourceDataset, str]:
    """(what lies below the prefix, its format); images are not read yet. Raises NotFound, BrokenDataset."""
    listed = list(objects.list(uri))
    found = format if format != "auto" else detect(listed, uri)
    source = READ[found](listed, objects.read)
    if not source.samples and not source.problems:
        raise BrokenDataset(f"{uri}: holds no image that is laid out as {found}")
    return source, found


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
    source: SourceDataset, objects: Objects, *, max_pixels: int, report: Callable[[float, str], None]
) -> tuple[list[Sample], list[str]]:
    """(samples with their true sizes, problems): every image is decoded once, in full."""

    def check(sample: Sample) -> Sample | str:
        try:
            width, height = size_of(objects.read(sample.uri), what=sample.path, max_pixels=max_pixels)
        except LongtailError as error:
            return str(error)
        if sample.width and (sample.width, sample.height) != (width, height):
            return f"{sample.path}: the annotations say {sample.width}x{sample.height}, the image is {width}x{height}"
        try:
            return source.place(replace(sample, width=width, height=height))
        except LongtailError as error:
            return str(error)

    good: list[Sample] = []
    problems: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        for i, checked in enumerate(pool.map(check, source.samples)):
            if isinstance(checked, str):
                problems.append(checked)
            else:
                good.append(checked)
            report((i + 1) / len(source.samples), f"checked {i + 1} of {len(source.samples)} images")
    return good, problems
