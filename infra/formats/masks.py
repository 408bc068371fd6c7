"""Image + mask pairs: CLASS/.../NAME.jpg beside NAME.png, or images/NAME.* with masks/NAME.png."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from infra.formats.listing import SourceDataset, bare_sample, by_path, is_image
from infra.formats.segmentation import run_lengths
from infra.images import gray
from infra.objects import ObjectInfo
from longtail.errors import InvalidRequest
from longtail.samples import SPLITS, Annotation, Sample, Split

ONLY_CLASS = "object"
MASK_TIMES = 100
"""A mask of more pixels than so many times its image's is refused before it is decoded."""
MERGE_PX = 4
SMALLEST_PX = 8
"""Parts of a mask nearer than twice MERGE_PX are one object; objects of fewer pixels than SMALLEST_PX are dust."""


def looks_like(objects: list[ObjectInfo]) -> bool:
    return bool(pairs(by_path(objects)))


def pairs(known: Mapping[str, ObjectInfo]) -> dict[str, str]:
    """{image: mask} for every pair below the prefix."""
    found = {}
    for path in known:
        stem, suffix = posixpath.splitext(path)
        mask = f"{stem}.png"
        if path.startswith("images/"):
            mask = f"masks/{stem.removeprefix('images/')}.png"
        elif suffix == ".png":
            continue
        if is_image(path) and mask in known:
            found[path] = mask
    return found


def read(objects: list[ObjectInfo], load: Callable[[str], bytes]) -> SourceDataset:
    """One sample a pair; its class is the first folder, "object" in the images/ and masks/ form.

    Masks are read with their images: pixels above 127 are object, its connected parts become boxes. An empty mask is an
    image without objects. Lists in splits/{train,val,test}.txt say the splits where they are; else all of it is train.
    """
    known = by_path(objects)
    found = pairs(known)
    masks = set(found.values())
    problems = [f"{p}: an image without a mask" for p in sorted(known) if is_image(p) and p not in found and p not in masks]
    splits = read_splits(known, load, problems)
    names = sorted({class_of(p) for p in found})
    ids = {name: i for i, name in enumerate(names)}
    samples = []
    for path in sorted(found):
        if splits and path not in splits:
            problems.append(f"{path}: is in no list of splits/")
            continue
        claim = {"mask": known[found[path]].uri, "category_id": ids[class_of(path)]}
        samples.append(bare_sample(known[path], splits.get(path, "train"), extra=claim))
    return SourceDataset("detection", dict(enumerate(names)), tuple(samples), tuple(problems))


def class_of(path: str) -> str:
    first, _, rest = path.partition("/")
    return first if rest and first != "images" else ONLY_CLASS


def read_splits(known: Mapping[str, ObjectInfo], load: Callable[[str], bytes], problems: list[str]) -> dict[str, Split]:
    """{image path: split} from lists of image paths, one a line."""
    splits: dict[str, Split] = {}
    for split in SPLITS:
        path = f"splits/{split}.txt"
        for line in load(known[path].uri).decode(errors="replace").split("\n") if path in known else ():
            image = line.strip()
            if image and image not in known:
                problems.append(f"{path}: {image!r} is not below the prefix")
            elif image and splits.setdefault(image, split) != split:
                problems.append(f"{path}: {image} is in {splits[image]} and in {split}")
    return splits


def with_objects(sample: Sample, mask_png: bytes) -> Sample:
    """The sample with a box and a run-length mask for each object. Raises BrokenImage, InvalidRequest."""
    what = sample.extra["mask"]
    mask = gray(mask_png, what=what, max_pixels=MASK_TIMES * sample.width * sample.height) > 127
    if mask.shape != (sample.height, sample.width):
        raise InvalidRequest(f"{sample.path}: its mask is {mask.shape[1]}x{mask.shape[0]}, the image is {sample.width}x{sample.height}")
    category = sample.extra["category_id"]
    annotations = tuple(Annotation(category_id=category, bbox_xywh=box, extra=extra) for box, extra in objects_of(mask))
    return replace(sample, annotations=annotations, extra={"mask": what})


def objects_of(mask: NDArray[np.bool_]) -> list[tuple[tuple[float, float, float, float], dict[str, Any]]]:
    """(box xywh, COCO fields) of each object in a mask [H, W], from top to bottom."""
    size = 2 * MERGE_PX + 1
    merged = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    count, parts = cv2.connectedComponents(merged, connectivity=8)
    found = []
    for part in range(1, count):
        own = mask & (parts == part)
        ys, xs = np.nonzero(own)
        if len(xs) < SMALLEST_PX:
            continue
        box = (float(xs.min()), float(ys.min()), float(xs.max() - xs.min() + 1), float(ys.max() - ys.min() + 1))
        found.append((box, {"area": len(xs), "segmentation": run_lengths(own), "iscrowd": 0}))
    return found
