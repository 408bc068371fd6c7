"""The packs that generators are measured on, as labelled objects: read from a folder that holds them, none of it ours.

`DATA` is a folder with `bccd/`, `nuclei/` and `magnetic_tile/`, each with COCO files and split lists.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infra.formats.segmentation import mask_of
from longtail.boxes import BoxXyxy
from trainers.cutout import estimated_outline
from trainers.windows import Instance, box_pixels, on_grounds

BORDER_PX = 1.5
MIN_SIDE_PX = 14.0
MOST_GROUNDED = 400


@dataclass(frozen=True)
class Pack:
    """Objects to learn from, to choose by and to judge by (no image in two of them), and what their labels are called."""

    name: str
    train: list[Instance]
    select: list[Instance]
    judge: list[Instance]
    classes: dict[int, str]


@dataclass(frozen=True)
class Part:
    """Some images of a COCO file in a folder, and what the class of an annotation of an image is."""

    path: Path
    folder: Path
    keep: Callable[[dict[str, Any]], bool]
    label_of: Callable[[dict[str, Any], dict[str, Any]], str]


@dataclass(frozen=True)
class Shown:
    """A whole image and all that is annotated in it: boxes xyxy in pixels and their classes' names."""

    image: int
    pixels: NDArray[np.uint8]
    boxes: list[BoxXyxy]
    names: list[str]


def shown(part: Part) -> list[Shown]:
    """Every image of the part with something in it, in the file's order, with all that lies in it, cut off or not."""
    body = json.loads(part.path.read_text())
    names, inside = {c["id"]: c["name"] for c in body["categories"]}, defaultdict(list)
    for a in body["annotations"]:
        inside[a["image_id"]].append(a)
    found = []
    for image in body["images"]:
        if part.keep(image) and inside[image["id"]]:
            mine = inside[image["id"]]
            boxes = [(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in mine)]
            labels = [part.label_of(image, {**a, "name": names[a["category_id"]]}) for a in mine]
            pixels = np.asarray(Image.open(part.folder / image["file_name"]).convert("RGB")).copy()
            found.append(Shown(image["id"], pixels, boxes, labels))
    return found


def objects(part: Part) -> list[tuple[int, str, Instance]]:
    """(image id, class, object) of each annotated object that no border cuts off and that shows something.

    Outlines are the annotation's, those of a mask picture beside the image, or estimated.
    """
    body, folder, label_of = json.loads(part.path.read_text()), part.folder, part.label_of
    images = {i["id"]: i for i in body["images"] if part.keep(i)}
    names = {c["id"]: c["name"] for c in body["categories"]}
    pixels: dict[int, NDArray[np.uint8]] = {}
    found, occupied = [], defaultdict(list)
    for a in body["annotations"]:
        x, y, w, h = a["bbox"]
        occupied[a["image_id"]].append((x, y, x + w, y + h))
    for a in body["annotations"]:
        image = images.get(a["image_id"])
        if image is None or a.get("iscrowd"):
            continue
        x, y, w, h = a["bbox"]
        if max(w, h) < MIN_SIDE_PX or min(x, y, image["width"] - x - w, image["height"] - y - h) < BORDER_PX:
            continue
        if image["id"] not in pixels:
            pixels[image["id"]] = np.asarray(Image.open(folder / image["file_name"]).convert("RGB")).copy()
        drawn = outline(a, folder / image["file_name"], image["width"], image["height"])
        box = (x, y, x + w, y + h)
        others = [o for o in occupied[a["image_id"]] if o != box]
        guess = estimated_outline(pixels[image["id"]], box, others) if drawn is None else None
        instance = Instance(pixels[image["id"]], (x, y, x + w, y + h), 0, outline=guess if drawn is None else drawn, estimated=drawn is None)
        found.append((image["id"], label_of(image, {**a, "name": names[a["category_id"]]}), instance))
    rng = np.random.default_rng(0)
    grounded = []
    for label in sorted({label for _, label, _ in found}):  # each class on grounds of its own images
        mine = [f for f in found if f[1] == label]
        keys = sorted({i for i, _, _ in mine})
        some = set(rng.permutation(len(mine))[:MOST_GROUNDED].tolist())
        placed = iter(on_grounds([i for k, (*_, i) in enumerate(mine) if k in some], [pixels[k] for k in keys], [occupied[k] for k in keys], rng))
        grounded += [(key, label, next(placed) if k in some else i) for k, (key, _, i) in enumerate(mine)]
    return grounded


def outline(annotation: dict[str, Any], path: Path, width: int, height: int) -> NDArray[np.bool_] | None:
    """What the object's mask covers of its box, if there is one: the annotation's, or a mask picture's beside the image."""
    beside = path.with_suffix(".png")
    if "segmentation" in annotation:
        mask = mask_of(annotation["segmentation"], width, height)
    elif path.suffix != ".png" and beside.exists():
        mask = np.asarray(Image.open(beside).convert("L")) > 127
    else:
        mask = None
    if mask is None:
        return None
    x, y, w, h = annotation["bbox"]
    left, top, right, bottom = box_pixels((x, y, x + w, y + h))
    seen = mask[top:bottom, left:right].copy()
    return seen if seen.any() else None


def bccd(data: Path, *, few: str = "fewshot_50_seed0") -> dict[str, Part]:
    root, parts = data / "bccd", {}
    for part, file, listed in (("train", "coco_train.json", few), ("select", "coco_val.json", "val"), ("judge", "coco_test.json", "test")):
        wanted = set((root / "splits" / f"{listed}.txt").read_text().split())
        parts[part] = Part(root / file, root, lambda i, w=wanted: Path(i["file_name"]).stem in w, named)  # type: ignore[misc]
    return parts


def magnetic_tile(data: Path) -> dict[str, Part]:
    return halved(data / "magnetic_tile", named)


def nuclei(data: Path) -> dict[str, Part]:
    return halved(data / "nuclei", lambda image, a: str(image["modality"]))


def named(image: dict[str, Any], annotation: dict[str, Any]) -> str:
    return str(annotation["name"])


def halved(root: Path, label_of: Callable[[dict[str, Any], dict[str, Any]], str]) -> dict[str, Part]:
    """Of a pack with no val: a fifth of its training images chooses, its test images judge."""
    train, test = root / "coco_train.json", root / "coco_test.json"
    return {
        "train": Part(train, root, lambda i: i["id"] % 5 != 0, label_of),
        "select": Part(train, root, lambda i: i["id"] % 5 == 0, label_of),
        "judge": Part(test, root, lambda i: True, label_of),
    }


PACKS: dict[str, Callable[[Path], dict[str, Part]]] = {"bccd": bccd, "magnetic_tile": magnetic_tile, "nuclei": nuclei}


def read_pack(name: str, data: Path, *, images: set[int] | None = None) -> Pack:
    """The pack of that name; of its training images only the given ones. Classes are those to learn and to judge by, numbered by name."""
    parts = {part: objects(source) for part, source in PACKS[name](data).items()}
    if images is not None:
        parts["train"] = [found for found in parts["train"] if found[0] in images]
    classes = sorted({c for _, c, _ in parts["train"]} & {c for _, c, _ in parts["judge"]})
    numbered = {part: [replace(i, label=classes.index(c)) for _, c, i in found if c in classes] for part, found in parts.items()}
    return Pack(name, numbered["train"], numbered["select"], numbered["judge"], dict(enumerate(classes)))
