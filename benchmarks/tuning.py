"""Generators for the benchmarks: trained on a pack for so long, kept under out/, read back where today's code and foundation made them.

Nuclei are learned from a foundation that has not seen them: `make foundation EXCLUDE=nuclei` first.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.evidence.additions import FOUNDATIONS
from benchmarks.evidence.code import LEARNING, OUTLINES, code
from benchmarks.packs import PACKS, Pack
from benchmarks.yardstick import some
from longtail.recipes import Preset, Start, finetune_recipe
from trainers import weights
from trainers.finetune import begun
from trainers.gating import Judge
from trainers.loop import train
from trainers.networks import Generator
from trainers.windows import cut_windows, gray_labels

OUT = Path("out") / "generators"
WITHOUT_NUCLEI = FOUNDATIONS / "without_nuclei.safetensors"


def tuned(
    pack: Pack,
    *,
    preset: Preset = "tiny",
    start: Start = "foundation",
    budget_s: float,
    name: str,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    foundation: Path | None = None,
) -> Generator:
    """The pack's generator of that name, trained with the product's recipe and these of its options for so many seconds of a core.

    Half of what is held out for choosing chooses; judges are not looked at. `foundation` is the pack's own unless another is given.
    """
    foundation = foundation or foundation_for(pack.name)
    kept = OUT / f"{name}-{todays(foundation)}.safetensors"
    if not kept.exists():
        learn, select = some(pack.train), some(pack.select, most=60)
        singles, chosen = (cut_windows(part, resolution=64, per_instance=1, seed=0, fixed=True) for part in (learn, select))
        windows = cut_windows(learn, resolution=64, per_instance=max(1, min(6, 4000 // len(learn))), seed=0)
        recipe = finetune_recipe(preset=preset, start=start, budget_s=budget_s, seed=seed, options=options or {})
        recipe = replace(recipe, network=replace(recipe.network, gray_labels=gray_labels(windows)))
        state = begun(recipe, start, num_classes=len(pack.classes), foundation=foundation)
        scorer = Judge(singles, chosen, chosen, pack.classes, aim=recipe.aim)
        for at in train(state, windows, chosen, clock=time.process_time, score=scorer.score, report_every_s=20):
            print(f"{name} {at.phase} {at.fraction:.0%} {at.images} images" + ("" if at.score is None else f" KID {at.score:.2f}"), flush=True)
        OUT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(weights.to_bytes(state.ema.module, classes=list(pack.classes.values())))
    return weights.from_bytes(kept.read_bytes()).generator


def asked_for(packs: str) -> list[str]:
    """The packs of a comma-separated list. Exits, before hours are spent, where one is unknown or its foundation has to be made first."""
    names = packs.split(",")
    if unknown := sorted(set(names) - set(PACKS)):
        raise SystemExit(f"unknown pack {unknown[0]!r}; there are {', '.join(PACKS)}")
    for name in names:
        foundation_for(name)
    return names


def foundation_for(pack: str) -> Path:
    """The foundation that has not seen the pack. Exits where that has to be made first."""
    if pack != "nuclei":
        return weights.FOUNDATION
    if not WITHOUT_NUCLEI.exists():
        raise SystemExit("nuclei: the shipped foundation has seen them; leave them out, or make one that has not (100 minutes): make foundation EXCLUDE=nuclei")
    return WITHOUT_NUCLEI


def todays(foundation: Path) -> str:
    """Which code and which foundation a generator of today rests on, in eight letters."""
    return hashlib.sha256(code((*LEARNING, *OUTLINES)).encode() + foundation.read_bytes()).hexdigest()[:8]


def parser_of(doc: str | None, *, packs: str, budget_s: float, quick: str) -> argparse.ArgumentParser:
    """What every benchmark that trains on packs is asked with."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--packs", default=packs)
    parser.add_argument("--budget", type=float, default=budget_s, help="seconds of a core to train each generator")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser
