"""Generators for the benchmarks: trained on a pack for so long, kept under out/, read back where today's code and foundation made them."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.code import LEARNING, OUTLINES, code
from benchmarks.packs import Pack
from benchmarks.yardstick import some
from longtail.recipes import Preset, Start, preset_recipe
from trainers import checkpoints, weights
from trainers.gating import Judge
from trainers.loop import train
from trainers.networks import Generator
from trainers.state import TrainState
from trainers.windows import cut_windows, gray_labels

OUT = Path("out") / "generators"


def tuned(pack: Pack, *, preset: Preset = "tiny", start: Start = "foundation", budget_s: float, name: str) -> Generator:
    """The pack's generator of that name. Half of what is held out for choosing chooses; judges are not looked at."""
    kept = OUT / f"{name}-{todays()}.safetensors"
    if not kept.exists():
        learn, select = some(pack.train), some(pack.select, most=60)
        singles, chosen = (cut_windows(part, resolution=64, per_instance=1, seed=0, fixed=True) for part in (learn, select))
        windows = cut_windows(learn, resolution=64, per_instance=max(1, min(6, 4000 // len(learn))), seed=0)
        state = begun(preset, start, budget_s, num_classes=len(pack.classes), gray=gray_labels(windows))
        scorer = Judge(singles, chosen, chosen, pack.classes)
        for at in train(state, windows, chosen, clock=time.monotonic, score=scorer.score, report_every_s=20):
            print(f"{name} {at.phase} {at.fraction:.0%} {at.images} images" + ("" if at.score is None else f" KID {at.score:.2f}"), flush=True)
        OUT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(weights.to_bytes(state.ema.module, classes=list(pack.classes.values())))
    return weights.from_bytes(kept.read_bytes()).generator


def todays() -> str:
    """Which code and which foundation a generator of today rests on, in eight letters."""
    return hashlib.sha256(code((*LEARNING, *OUTLINES)).encode() + weights.FOUNDATION.read_bytes()).hexdigest()[:8]


def begun(preset: Preset, start: Start, budget_s: float, *, num_classes: int, gray: tuple[int, ...]) -> TrainState:
    recipe = preset_recipe(preset, start, budget_s=budget_s)
    if start == "random":
        return TrainState.fresh(replace(recipe, network=replace(recipe.network, gray_labels=gray)), num_classes=num_classes)
    tensors, meta = weights.foundation()
    state = TrainState.fresh(replace(recipe, network=replace(checkpoints.recipe_of(meta).network, gray_labels=gray)), num_classes=num_classes)
    state.adopt(tensors)
    return state
