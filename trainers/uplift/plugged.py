"""A team's own trainer as the reference model: a command that gets a folder of images and a path for its results.

    COMMAND... --data FOLDER --results FILE --seed N

A folder of a detection dataset has `train.json`, `val.json`, `test.json` (COCO, class ids from 1 in the order of the classes) and `images/`; one
of a classification dataset `train/CLASS/`, `val/CLASS/`, `test/CLASS/`, a folder for every class in each; both have `classes.json`, the names.
Every image is a PNG, real or made, so that no arm is told by its encoding. The file is to hold {"figures": {"AP50": 0.61, ...}}, measured
on test, and may hold "on_val" beside it, the same figures on val, from which the share to keep is chosen.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from longtail.errors import InvalidRequest
from trainers.uplift.images import Labelled

TIMEOUT_S = 24 * 3600
FOLDER = "longtail-trainer-"
TOLD = 2000
"""Characters of what a failed command printed that are told."""


def run_command(
    command: Sequence[str], images: Mapping[str, Iterable[Labelled]], names: Sequence[str], *, task: str, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """({"test": figures, "val": figures where it gives them}, how many images each split has), of the images of train, val and test, one at a time in memory.

    Raises InvalidRequest where it fails, or gives what is no figure.
    """
    sweep()
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-") as folder:
        root, results = Path(folder) / "data", Path(folder) / "results.json"
        written = write(root, images, names, task=task)
        line = [*leash(), *command, "--data", str(root), "--results", str(results), "--seed", str(seed)]
        if shutil.which(command[0]) is None:
            raise InvalidRequest(f"trainer: {command[0]!r} cannot be started: no such program")
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment())
        except OSError as error:
            raise InvalidRequest(f"trainer: {command[0]!r} cannot be started: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise InvalidRequest(f"trainer: {' '.join(command)} was ended after {TIMEOUT_S / 3600:g} hours") from error
        if done.returncode:
            raise InvalidRequest(f"trainer: {' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-TOLD:].strip()}")
        return read(results), written


def sweep() -> None:
    """Removes what workers that were killed have left: the images of an arm, each."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        owner = left.name.removeprefix(FOLDER).split("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def leash() -> list[str]:
    """What ends a command (itself, not what it starts) with the worker that started it, where the machine's util-linux knows how."""
    held = ["setpriv", "--pdeathsig", "KILL", "--"]
    known = shutil.which(held[0]) is not None and subprocess.run([*held, "true"], capture_output=True).returncode == 0
    return held if known else []


def environment() -> dict[str, str]:
    """Ours without the stack's keys and addresses, which are no business of a trainer's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("LONGTAIL_", "RAY_AUTH_"))}


def read(results: Path) -> dict[str, dict[str, float]]:
    try:
        body = json.loads(results.read_text())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"trainer: expected JSON at its results path: {error}") from error
    found = {}
    for split, name in (("test", "figures"), ("val", "on_val")):
        figures = body.get(name) if isinstance(body, dict) else None
        if figures is None and split == "val":
            continue
        if not isinstance(figures, dict) or not figures:
            raise InvalidRequest(f'trainer: expected {{"figures": {{"NAME": number}}}} in its results, found {str(body)[:200]}')
        for key, value in figures.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise InvalidRequest(f"trainer: {name}: {key!r} is {value!r}, expected a number")
        found[split] = {str(k): float(v) for k, v in figures.items()}
    return found


def write(root: Path, parts: Mapping[str, Iterable[Labelled]], names: Sequence[str], *, task: str) -> dict[str, int]:
    """The folder that a command reads, and how many images each split has; `classes.json` has the names in the order of their numbers, from 0."""
    root.mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps(list(names)))
    if task == "classification":
        return {split: write_folders(root / split, images, names) for split, images in parts.items()}
    (root / "images").mkdir()
    return {split: write_coco(root, split, images, names) for split, images in parts.items()}


def write_folders(root: Path, images: Iterable[Labelled], names: Sequence[str]) -> int:
    """A folder for each class."""
    for name in names:
        (root / name).mkdir(parents=True)
    count = 0
    for image in images:
        Image.fromarray(image.pixels).save(root / names[image.labels[0]] / f"{count:06d}.png", compress_level=1)
        count += 1
    return count


def write_coco(root: Path, split: str, images: Iterable[Labelled], names: Sequence[str]) -> int:
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for k, image in enumerate(images):
        name = f"images/{split}-{k:06d}.png"
        Image.fromarray(image.pixels).save(root / name, compress_level=1)
        height, width = image.pixels.shape[:2]
        listed.append({"id": k, "file_name": name, "width": width, "height": height})
        for (x0, y0, x1, y1), label in zip(image.boxes_xyxy, image.labels, strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({"id": len(annotations), "image_id": k, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(names)]
    (root / f"{split}.json").write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
    return len(listed)
