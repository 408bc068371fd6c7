"""The rows of the evidence table: which images of which pack are learned from in each draw, which choose, and which judge.

`DATA` is a folder with the packs `bccd/`, `magnetic_tile/`, `nuclei/`, `noto_emoji/` and `cifar10/`, as their authors published them.
Draws of one row differ in their training images alone, except where a protocol fixes those: then in what chooses too.
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from benchmarks.evidence.folder import FolderView
from infra.formats.segmentation import mask_of, run_lengths
from longtail.expansion import OBJECTS
from longtail.samples import Annotation, Sample, Split, Task
from trainers.uplift.bench import Setting

Files = dict[str, Callable[[], bytes]]


@dataclass(frozen=True)
class Row:
    """One line of the table. `grown` are the classes that are added to, `ratios` how many images are added for each real one."""

    name: str
    title: str
    setting: Setting
    grown: tuple[str, ...]
    draw: Callable[[Path, int], FolderView]
    ratios: tuple[float, float]
    draws: int = 6
    seeds: int = 2
    budget_s: float = 300.0
    own_grounds: bool = False
    foundation: Literal["shipped", "without_nuclei"] = "shipped"
    policy: str = "upright"
    """The classical arm's."""
    objects: int = OBJECTS
    """New objects in each image that is added to a detection dataset, pasted ones as well."""
    rare: tuple[str, ...] | None = None
    """The classes whose figure decides; those grown, unless said otherwise, and all of them where every class is grown."""


def detection(
    root: Path, parts: dict[Split, tuple[str, Callable[[dict[str, Any]], bool]]], classes: Sequence[str], label_of: Callable[[dict[str, Any], str], str]
) -> FolderView:
    """A COCO pack: of each split a file of its folder and which of its images count. Masks are the annotation's, or a picture's beside the image."""
    samples: list[Sample] = []
    files: Files = {}
    for split, (file, keep) in parts.items():
        body = json.loads((root / file).read_text())
        names, inside = {c["id"]: c["name"] for c in body["categories"]}, defaultdict(list)
        for a in body["annotations"]:
            inside[a["image_id"]].append(a)
        for image in body["images"]:
            if keep(image):
                key, path = f"{split}-{image['id']}", root / image["file_name"]
                files[key] = path.read_bytes
                said = tuple(annotation(a, path, image, classes.index(label_of(image, names[a["category_id"]])) + 1) for a in inside[image["id"]])
                samples.append(sample(key, image["file_name"], image["width"], image["height"], split, said))
    return FolderView(samples, files, classes, task="detection")


def sample(key: str, path: str, width: int, height: int, split: Split, annotations: tuple[Annotation, ...]) -> Sample:
    return Sample(id=key, path=path, uri=key, etag=key, size_bytes=0, width=width, height=height, split=split, annotations=annotations)


def annotation(found: dict[str, Any], path: Path, image: dict[str, Any], category: int) -> Annotation:
    x, y, w, h = found["bbox"]
    beside, width, height = path.with_suffix(".png"), image["width"], image["height"]
    extra = {"iscrowd": found["iscrowd"]} if found.get("iscrowd") else {}
    mask = mask_of(found["segmentation"], width, height) if found.get("segmentation") else None
    if mask is None and path.suffix != ".png" and beside.exists():
        inside = np.zeros((height, width), dtype=bool)
        inside[int(y) : round(y + h), int(x) : round(x + w)] = True
        mask = (np.asarray(Image.open(beside).convert("L")) > 127) & inside
    if mask is not None and mask.any():
        extra |= {"segmentation": run_lengths(mask)}
    return Annotation(category_id=category, bbox_xywh=(x, y, w, h), extra=extra)


def listed(path: Path) -> frozenset[str]:
    return frozenset(path.read_text().split())


def bccd(data: Path, draw: int, *, images: int) -> FolderView:
    """The published lists of so many images; where there is none for the draw, another of as many training images that hold every class."""
    root = data / "bccd"
    published = root / "splits" / f"fewshot_{images}_seed{draw}.txt"
    chosen = listed(published) if published.exists() else few_of(root, listed(root / "splits" / "train.txt"), images, draw)
    wanted = {"train": chosen, **{split: listed(root / "splits" / f"{split}.txt") for split in ("val", "test")}}
    parts = {s: (f"coco_{s}.json", functools.partial(in_list, stems=stems)) for s, stems in wanted.items()}
    return detection(root, parts, ["RBC", "WBC", "Platelets"], lambda image, name: name)  # type: ignore[arg-type]


def few_of(root: Path, stems: frozenset[str], images: int, draw: int) -> frozenset[str]:
    body = json.loads((root / "coco_train.json").read_text())
    held: dict[str, set[int]] = defaultdict(set)
    stem_of = {i["id"]: Path(i["file_name"]).stem for i in body["images"]}
    for a in body["annotations"]:
        held[stem_of[a["image_id"]]].add(a["category_id"])
    rng, every = np.random.default_rng((draw, images)), {c["id"] for c in body["categories"]}
    while True:
        chosen = [str(s) for s in rng.choice(sorted(stems), images, replace=False)]
        if every <= set().union(*(held[s] for s in chosen)):
            return frozenset(chosen)


def in_list(image: dict[str, Any], *, stems: frozenset[str]) -> bool:
    return Path(image["file_name"]).stem in stems


def drawn(root: Path, draw: int, *, counts: Callable[[dict[str, Any]], str], most: dict[str, int], val_share: float) -> dict[Split, tuple[str, Any]]:
    """Parts of a pack with no val: of each kind of training image a share chooses, and at most so many of the others are learned from."""
    body = json.loads((root / "coco_train.json").read_text())
    rng = np.random.default_rng(draw)
    groups: dict[str, list[int]] = defaultdict(list)
    for image in body["images"]:
        groups[counts(image)].append(image["id"])
    train, val = set(), set()
    for kind in sorted(groups):
        mixed = [groups[kind][i] for i in rng.permutation(len(groups[kind]))]
        cut = max(1, round(len(mixed) * val_share))
        val |= set(mixed[:cut])
        train |= set(mixed[cut:][: most.get(kind, 0)])
    return {
        "train": ("coco_train.json", lambda i: i["id"] in train),
        "val": ("coco_train.json", lambda i: i["id"] in val),
        "test": ("coco_test.json", lambda i: True),
    }


def magnetic_tile(data: Path, draw: int) -> FolderView:
    """Twelve images of each kind of defect and as many free ones. One tile's exposures may lie on both sides of train and val, never in test."""
    root, names = data / "magnetic_tile", ["Blowhole", "Break", "Crack", "Fray", "Uneven"]
    return detection(root, drawn(root, draw, counts=folder_of, most={f"MT_{n}": 12 for n in (*names, "Free")}, val_share=0.3), names, lambda i, name: name)


def folder_of(image: dict[str, Any]) -> str:
    return str(image["file_name"].split("/")[0])


def nuclei(data: Path, draw: int) -> FolderView:
    """Thirty fluorescence images beside five histology ones; brightfield, of which three images would judge, is left out."""
    root, most = data / "nuclei", {"fluorescence": 30, "histology": 5}
    parts = drawn(root, draw, counts=lambda image: str(image["modality"]), most=most, val_share=0.2)
    known: dict[Split, tuple[str, Any]] = {s: (f, functools.partial(seen_by, keep=keep)) for s, (f, keep) in parts.items()}
    return detection(root, known, list(most), lambda image, name: str(image["modality"]))


def seen_by(image: dict[str, Any], *, keep: Callable[[dict[str, Any]], bool]) -> bool:
    return image["modality"] != "brightfield" and keep(image)


def classification(parts: dict[Split, Iterable[tuple[str, str, Callable[[], bytes]]]], classes: Sequence[str], *, side: int) -> FolderView:
    """Whole images: (class, path, bytes) of each split."""
    samples, files = [], {}
    for split, found in parts.items():
        for name, path, read in found:
            key = f"{split}-{path}"
            files[key] = read
            samples.append(sample(key, path, side, side, split, (Annotation(category_id=classes.index(name) + 1),)))
    return FolderView(samples, files, classes, task="classification")


def noto(data: Path, draw: int) -> FolderView:
    """Twenty a class of the hundred-shot list are learned from, twenty choose, the rest of the pack judges."""
    root = data / "noto_emoji"
    groups: dict[str, list[str]] = defaultdict(list)
    for path in (root / "splits" / "train_100_shot.txt").read_text().split():
        groups[path.split("/")[0]].append(path)
    rng = np.random.default_rng(draw)
    mixed = {name: [paths[i] for i in rng.permutation(len(paths))] for name, paths in sorted(groups.items())}
    lists: dict[Split, list[str]] = {
        "train": [p for paths in mixed.values() for p in paths[:20]],
        "val": [p for paths in mixed.values() for p in paths[20:40]],
        "test": (root / "splits" / "rest.txt").read_text().split(),
    }
    parts = {s: [(p.split("/")[0], p, functools.partial((root / p).read_bytes)) for p in paths] for s, paths in lists.items()}
    return classification(parts, sorted(groups), side=128)  # type: ignore[arg-type]


def cifar(data: Path, draw: int) -> FolderView:
    """The long-tailed list; of each class a fifth chooses, two images at least. Draws differ in which those are."""
    root, rng = data / "cifar10", np.random.default_rng(draw)
    groups: dict[str, list[str]] = defaultdict(list)
    for path in (root / "splits" / "train_longtail_if100.txt").read_text().split():
        groups[path.split("/")[1]].append(path)
    train, val = [], []
    for _, paths in sorted(groups.items()):
        mixed = [paths[i] for i in rng.permutation(len(paths))]
        cut = min(200, max(2, len(mixed) // 5))
        val += mixed[:cut]
        train += mixed[cut:]
    test = [n for n in zipped(root / "cifar10_test.zip").namelist() if n.endswith(".webp")]
    lists: dict[Split, tuple[str, list[str]]] = {"train": ("cifar10_train.zip", train), "val": ("cifar10_train.zip", val), "test": ("cifar10_test.zip", test)}
    parts = {s: [(p.split("/")[1], p, functools.partial(zipped(root / z).read, p)) for p in paths] for s, (z, paths) in lists.items()}
    return classification(parts, sorted(groups), side=32)  # type: ignore[arg-type]


@functools.cache
def zipped(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


DETECTOR = Setting("detector", steps=900)
FEW = ("WBC", "Platelets")
ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("noto", "Noto emoji, 20 a class", Setting("classifier", 200, side_px=128), (), noto, (1, 4), policy="standard"),
        Row("bccd20", "BCCD, 20 images", DETECTOR, FEW, functools.partial(bccd, images=20), (1, 4)),
        Row("bccd5", "BCCD, 5 images", DETECTOR, FEW, functools.partial(bccd, images=5), (4, 12)),
        Row("cifar_longtail", "CIFAR-10, long tail 100", Setting("classifier", 600, side_px=64, batch=48), ("horse", "ship", "truck"), cifar,
             (0.03, 0.1), policy="standard"),
        Row("bccd10", "BCCD, 10 images", DETECTOR, FEW, functools.partial(bccd, images=10), (2, 6)),
        Row("magnetic_tile", "Magnetic tile, 12 a defect", DETECTOR, (), magnetic_tile, (1, 4)),
        Row("nuclei", "Nuclei, 5 histology beside 30 fluorescence", replace(DETECTOR, side_px=384), ("histology",), nuclei, (0.3, 1),
            own_grounds=True, foundation="without_nuclei"),
        Row("bccd50", "BCCD, 50 images", DETECTOR, FEW, functools.partial(bccd, images=50), (0.5, 2)),
    )
}  # fmt: skip
RANDOM = {"bccd20": "bccd20_random", "noto": "noto_random"}
"""Rows that are repeated with a model that starts from random weights, and borrows nothing from what the gates look with."""
ROWS |= {
    again: replace(ROWS[row], name=again, title=f"{ROWS[row].title}, random weights", setting=replace(ROWS[row].setting, weights="random"))
    for row, again in RANDOM.items()
}


def tasks_of(row: Row) -> Task:
    return "detection" if row.setting.model == "detector" else "classification"


def counts_of(view: FolderView) -> Counter[str]:
    """Training objects of each class."""
    return Counter(view.names[o.label] for o in view.objects("train"))
