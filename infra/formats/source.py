"""Reading a dataset where it lies: its format found or given, its images checked, its problems listed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from infra.formats import coco, imagefolder
from infra.formats.listing import SourceDataset
from infra.images import size_of
from infra.objects import ObjectInfo, Objects
from longtail.errors import BrokenDataset, LongtailError
from longtail.samples import Sample

SourceFormat = Literal["auto", "coco", "imagefolder"]
READERS = 8


def read_source(objects: Objects, uri: str, *, format: SourceFormat) -> tuple[SourceDataset, str]:
    """(what lies below the prefix, its format); images are not read yet. Raises NotFound, BrokenDataset."""
    listed = list(objects.list(uri))
    found = format if format != "auto" else detect(listed, uri)
    source = coco.read(listed, objects.read) if found == "coco" else imagefolder.read(listed)
    if not source.samples and not source.problems:
        raise BrokenDataset(f"{uri}: holds no image that is laid out as {found}")
    return source, found


def detect(listed: list[ObjectInfo], uri: str) -> str:
    if coco.looks_like(listed):
        return "coco"
    if imagefolder.looks_like(listed):
        return "imagefolder"
    raise BrokenDataset(f"{uri}: neither COCO (a .json at the prefix or one folder down) nor ImageFolder (CLASS/IMAGE) was found")


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
        return replace(sample, width=width, height=height)

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
