"""What each arm adds to a draw: a generator trained on it, and images made, filtered and encoded as a batch would make them."""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evidence.code import LEARNING, OUTLINES, code
from benchmarks.evidence.folder import FolderView
from benchmarks.evidence.rows import Row, counts_of
from longtail.gates import usual_novelty
from longtail.policies import PRESETS
from longtail.recipes import preset_recipe
from longtail.samples import Mode
from longtail.seeds import derive_seed
from trainers import weights
from trainers.additions import Batch, made, varied
from trainers.checkpoints import recipe_of
from trainers.gating import Judge
from trainers.loop import train
from trainers.planning import Model
from trainers.render import Painter
from trainers.state import TrainState
from trainers.training_data import TrainingData
from trainers.uplift.images import Labelled
from trainers.upscale import sharpened
from trainers.windows import gray_labels

OUT = Path("out") / "evidence"
FOUNDATIONS = Path("out") / "foundation"
SPARE = 1.3
"""How many are made for each that is wanted: filters take some."""
ROUNDS = 3
SHOWN = 24
PX = 96


def grown_classes(row: Row, view: FolderView) -> list[str]:
    return list(row.grown) or list(view.names)


def novelty_of(view: FolderView, classes: Sequence[str]) -> float:
    """What the rarest of the classes is usually grown with."""
    counts = counts_of(view)
    return usual_novelty(min(counts[c] for c in classes))


def generator_of(row: Row, view: FolderView, draw: int, say: Callable[[str], None]) -> tuple[Painter, str]:
    """(the draw's generator, the name of its weights), trained for the row's seconds or read back where that was done before."""
    learned = code(LEARNING if view.task == "classification" else (*LEARNING, *OUTLINES))
    rests = f"{learned} {view.fingerprint()} {row.budget_s} {grown_classes(row, view)} {hashlib.sha256(foundation_path(row).read_bytes()).hexdigest()}"
    name = f"{row.name.removesuffix('_random')}-{draw}-{hashlib.sha256(rests.encode()).hexdigest()[:8]}"
    kept = OUT / "generators" / f"{name}.safetensors"
    if not kept.exists():
        data = fine_tuned(row, view, say)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
    return weights.from_bytes(kept.read_bytes()), hashlib.sha256(kept.read_bytes()).hexdigest()[:12]


def fine_tuned(row: Row, view: FolderView, say: Callable[[str], None]) -> bytes:
    classes = grown_classes(row, view)
    recipe = preset_recipe("tiny", "foundation", budget_s=row.budget_s)
    if view.task == "classification":
        recipe = replace(recipe, whole_image_share=1.0, symmetries="none")
    data = TrainingData.of(view, classes, resolution=recipe.network.resolution_px, seed=recipe.seed)
    tensors, meta = weights.foundation(foundation_path(row))
    network = replace(recipe_of(meta).network, gray_labels=gray_labels(data.windows))
    state = TrainState.fresh(replace(recipe, network=network), num_classes=len(view.names))
    state.adopt(tensors)
    state.strength = data.strength
    judge = Judge(data.singles, data.select, data.judging, data.names, mirrored=recipe.symmetries != "none", counts=data.counts)
    for at in train(state, data.windows, data.val, clock=time.process_time, score=judge.score, report_every_s=30):
        say(f"{at.phase} {at.fraction:.0%} {at.images} images" + ("" if at.score is None else f" KID {at.score:.2f}"))
    upscaler, gains = sharpened(
        data.crops, data.held_crops, seconds=recipe.upscaler_s, seed=recipe.seed, clock=time.process_time, told=lambda done, figures: None
    )
    say(f"enlarging: {gains or 'no need'}")
    return weights.to_bytes(state.ema.module, classes=view.names, upscaler=upscaler, mirrored=recipe.symmetries != "none")


def grow(row: Row, view: FolderView, count: int, *, mode: Mode, draw: int, painter: Painter | None) -> Batch:
    """`count` accepted images, the grown classes in turn, fewer where three rounds do not bring them."""
    classes = grown_classes(row, view)
    found = {name: Batch() for name in classes}
    wanted = math.ceil(count / len(classes))
    for name, batch in found.items():
        among = view.of_class(name) if row.own_grounds else view
        among = among if painter is None else among.with_painter(painter)
        for attempt in range(ROUNDS):
            seed = derive_seed(row.name, draw, attempt)
            request = {
                "class_name": name, "mode": "synthesis" if view.task == "classification" else mode, "novelty": novelty_of(view, [name]),
                "count": math.ceil((wanted - len(batch.images)) * SPARE), "seed": seed,
                "objects": row.objects if view.task == "detection" else 1,
            }  # fmt: skip
            batch.add(made(among, request, key=f"evidence-{seed}", model=Model("evidence", 1, "evidence")))
            if len(batch.images) >= wanted:
                break
    turns = itertools.zip_longest(*(batch.images[:wanted] for batch in found.values()))
    whole = Batch([image for turn in turns for image in turn if image is not None][:count])
    for batch in found.values():
        whole.add(replace(batch, images=[]))
    return whole


def vary(row: Row, view: FolderView, count: int, *, draw: int) -> list[Labelled]:
    """Copies after the row's classical policy, as many of images that hold each grown class."""
    classes = grown_classes(row, view)
    shares = {name: count // len(classes) + (k < count % len(classes)) for k, name in enumerate(classes)}
    return varied(view, view.real("train"), shares, PRESETS[row.policy], seed=("classical", draw))


def picture(images: Sequence[Labelled], path: Path) -> None:
    """A strip of the added objects in twice their box, or of the images where each is the object."""
    tiles: list[NDArray[np.uint8]] = []
    for image in images[:SHOWN]:
        shown = Image.fromarray(image.pixels)
        if image.boxes_xyxy:
            x0, y0, x1, y1 = image.boxes_xyxy[-1]
            x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)
            shown = shown.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
        tiles.append(np.asarray(shown.resize((PX, PX))))
    if not tiles:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half_row = math.ceil(len(tiles) / 2)
    tiles += [np.zeros_like(tiles[0])] * (2 * half_row - len(tiles))
    Image.fromarray(np.concatenate([np.concatenate(tiles[:half_row], 1), np.concatenate(tiles[half_row:], 1)])).save(path)


def foundation_path(row: Row) -> Path:
    """The weights that a row's generators start from."""
    return weights.FOUNDATION if row.foundation == "shipped" else FOUNDATIONS / f"{row.foundation}.safetensors"


def record_of(added: Batch) -> dict[str, object]:
    return {"added": len(added.images), "made": added.made, "rejected": added.rejected}
