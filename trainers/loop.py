"""A training run, told as it goes: warm start, the discriminator catches up, both learn; the best checkpoint is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from trainers.networks import Generator
from trainers.state import TrainState
from trainers.steps import NotFinite, adversarial_step, warm_step
from trainers.watchdogs import Finding, inspect
from trainers.windows import Windows

Phase = Literal["warm", "catch_up", "adversarial", "done"]
STRENGTH_STEP = 0.1
MOST_WEIGHT = 8.0
"""A remedy that doubles a weight stops here: beyond it the weight is the disease."""


@dataclass(frozen=True)
class Progress:
    """Where a run is. `figures` are means since the last report; `findings` and `score` come with evaluations alone."""

    phase: Phase
    step: int
    images: int
    elapsed_s: float
    fraction: float
    figures: dict[str, float]
    findings: tuple[Finding, ...] = ()
    score: float | None = None


def phase_at(state: TrainState) -> Phase:
    recipe, t = state.recipe, state.elapsed_s
    if t < recipe.warm_s:
        return "warm"
    if t < recipe.warm_s + recipe.catch_up_s:
        return "catch_up"
    return "adversarial" if t < recipe.warm_s + recipe.catch_up_s + recipe.adversarial_s else "done"


def train(
    state: TrainState,
    windows: Windows,
    val: Windows | None,
    *,
    clock: Callable[[], float],
    score: Callable[[Generator], float] | None = None,
    report_every_s: float = 2.0,
) -> Iterator[Progress]:
    """Runs until the recipe's time is spent, yielding progress; `clock` gives seconds, `score` is lower for better.

    The state is changed in place and may be saved at any yield. At the end its average is that of the best evaluation.
    A step that is not finite puts the last good weights back and halves the rates; the next evaluation names it.
    """
    recipe = state.recipe
    total = recipe.warm_s + recipe.catch_up_s + recipe.adversarial_s
    if recipe.freeze_high_resolution:
        freeze(state.discriminator.trunk.stem, state.discriminator.trunk.blocks[0])
    good = snapshot(state)
    sums: dict[str, list[float]] = {}
    faults: list[Finding] = []
    last, reported, evaluated = clock(), state.elapsed_s, state.elapsed_s
    while (phase := phase_at(state)) != "done":
        try:
            figures = warm_step(state, windows) if phase == "warm" else adversarial_step(
                state, windows, train_generator=phase == "adversarial"
            )
        except NotFinite:
            restore(state, good)
            state.recipe = replace(
                state.recipe,
                rate_generator=state.recipe.rate_generator / 2,
                rate_discriminator=state.recipe.rate_discriminator / 2,
                rate_warm=state.recipe.rate_warm / 2,
            )
            figures = {"nan": 1.0}
            faults.append(Finding("nan", float(len(faults) + 1), "finite losses", True, "the last good weights, at half the rates"))
        for name, value in figures.items():
            sums.setdefault(name, []).append(value)
        now = clock()
        state.elapsed_s += now - last
        last = now
        if state.elapsed_s - reported >= report_every_s:
            reported = state.elapsed_s
            yield progress(state, phase, total, sums)
            sums.clear()
        if state.elapsed_s - evaluated >= recipe.evaluate_every_s or phase_at(state) == "done":
            evaluated = state.elapsed_s
            good = snapshot(state)
            yield evaluate(state, windows, val, progress(state, phase, total, sums), score, faults)
            faults.clear()
            last = clock()  # evaluation is not training time
    if state.best:
        state.ema.module.load_state_dict(state.best)


def evaluate(
    state: TrainState, windows: Windows, val: Windows | None, at: Progress, score: Callable[[Generator], float] | None, faults: Sequence[Finding]
) -> Progress:
    """Reads the watchdogs, applies their remedies, and remembers the averaged generator if it is the best so far.

    `faults` are what was found, and remedied, since the last time.
    """
    findings = [*faults, *inspect(state, windows, val)]
    for finding in findings:
        apply_remedy(state, finding)
    value = score(state.ema.module) if score else None
    if value is not None and math.isfinite(value) and value <= state.best_score:
        state.best_score = value
        state.best = {k: v.detach().clone() for k, v in state.ema.module.state_dict().items()}
    return replace(at, findings=tuple(findings), score=value)


def apply_remedy(state: TrainState, finding: Finding) -> None:
    """Acts on one finding. Augmentation strength follows r_v up and down; the others act when they bark."""
    if finding.name == "d_memorises":
        step = STRENGTH_STEP if finding.figure > 0.5 else -STRENGTH_STEP
        state.strength = min(1.0, max(0.0, state.strength + step))
    elif not finding.bad:
        return
    elif finding.name == "d_overpowers":
        state.recipe = replace(state.recipe, rate_discriminator=state.recipe.rate_discriminator / 2)
    elif finding.name == "latent_ignored":
        state.recipe = replace(state.recipe, kl_weight=state.recipe.kl_weight / 2)
    elif finding.name == "seams":
        state.recipe = replace(state.recipe, ring_weight=min(MOST_WEIGHT, state.recipe.ring_weight * 2))
    elif finding.name == "class_ignored":
        state.recipe = replace(state.recipe, projection_weight=min(MOST_WEIGHT, state.recipe.projection_weight * 2))
    elif finding.name == "class_collapse" and state.best:
        state.generator.load_state_dict(state.best)


def progress(state: TrainState, phase: Phase, total: float, sums: dict[str, list[float]]) -> Progress:
    figures = {name: sum(values) / len(values) for name, values in sums.items()}
    figures |= {"strength": state.strength}
    return Progress(phase, state.step, state.images, state.elapsed_s, min(1.0, state.elapsed_s / total), figures)


def freeze(*modules: nn.Module) -> None:
    for module in modules:
        module.requires_grad_(False)


def snapshot(state: TrainState) -> list[dict[str, object]]:
    return [
        {k: v.detach().clone() for k, v in m.state_dict().items()}
        for m in (state.generator, state.discriminator, state.encoder, state.ema.module)
    ]


def restore(state: TrainState, saved: list[dict[str, object]]) -> None:
    modules = (state.generator, state.discriminator, state.encoder, state.ema.module)
    for module, weights in zip(modules, saved, strict=True):
        module.load_state_dict(weights)
    for optimizer in (state.optimizer_g, state.optimizer_d):
        optimizer.state.clear()
