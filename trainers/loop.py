"""A training run, told as it goes: warm start, the discriminator catches up, both learn; the best checkpoint is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainers.captured import stepper
from trainers.networks import Generator, ProjectionDiscriminator, grow
from trainers.remedies import apply_remedy
from trainers.state import Phase, TrainState, forget
from trainers.watchdogs import Finding, inspect
from trainers.windows import Windows


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
    score: Callable[[Generator, int], float] | None = None,
    report_every_s: float = 2.0,
) -> Iterator[Progress]:
    """Runs until the recipe's time is spent, yielding progress; `clock` gives seconds, `score` is lower for better, of a generator at the
    size that is trained.

    The state is changed in place and may be saved at any yield. At the end its average is that of the best evaluation.
    Losses or weights that are not finite, looked for at each report, put the last good weights back and halve the rates; the next
    evaluation names it. So no state that is saved at a yield is broken.
    """
    recipe = state.recipe
    if recipe.freeze_high_resolution and isinstance(state.discriminator, ProjectionDiscriminator):
        freeze(state.discriminator.trunk.stems[0], state.discriminator.trunk.blocks[0])
    sized, sized_val = at_size(state, windows, val)
    good = snapshot(state)
    take = stepper(recipe)
    sums: dict[str, list[Tensor]] = {}
    faults: list[Finding] = []
    last, reported = clock(), state.elapsed_s
    while (phase := phase_at(state)) != "done":
        if recipe.size_px(state.elapsed_s) != state.size_px:
            if not sound(state):
                faults.append(mend(state, good, len(faults)))
            grow_up(state)
            sized, sized_val = at_size(state, windows, val)
            good = snapshot(state)
        for name, value in take(state, sized, phase).items():
            sums.setdefault(name, []).append(value)
        now = clock()
        state.elapsed_s += now - last
        last = now
        evaluating = state.elapsed_s - state.evaluated_s >= recipe.evaluate_every_s or phase_at(state) == "done"
        if not evaluating and state.elapsed_s - reported < report_every_s:
            continue
        reported = state.elapsed_s
        at = progress(state, phase, sums)
        sums.clear()
        if not all(math.isfinite(v) for v in at.figures.values()) or not sound(state):
            faults.append(mend(state, good, len(faults)))
        elif evaluating:
            good = snapshot(state)
        if evaluating:
            state.evaluated_s = state.elapsed_s
            at = evaluate(state, sized, sized_val, at, score, faults)
            faults.clear()
        yield at
        last = clock()  # looking at a run is not training time
    if state.best:
        state.ema.module.load_state_dict(state.best)


def at_size(state: TrainState, windows: Windows, val: Windows | None) -> tuple[Windows, Windows | None]:
    """The windows at the size that is trained now."""
    return windows.reduced(state.size_px), None if val is None else val.reduced(state.size_px)


def grow_up(state: TrainState) -> None:
    """Doubles the size that is trained; every network computes at first what it computed before. The best so far was of another size."""
    state.size_px *= 2
    level = int(math.log2(state.recipe.network.resolution_px // state.size_px))
    for module in state.modules().values():
        grow(module, to_level=level)
    state.best, state.best_score = {}, math.inf


def sound(state: TrainState) -> bool:
    """Whether every weight is finite: a finite loss may have had a gradient that was not."""
    parameters = (p for module in state.modules().values() for p in module.parameters())
    return bool(torch.stack([p.isfinite().all() for p in parameters]).all())


def mend(state: TrainState, good: list[dict[str, object]], before: int) -> Finding:
    """Puts the last good weights back, at half the rates."""
    restore(state, good)
    halve_rates(state)
    return Finding("nan", float(before + 1), "finite losses and weights", True, "the last good weights, at half the rates")


def halve_rates(state: TrainState) -> None:
    recipe = state.recipe
    state.recipe = replace(
        recipe,
        rate_generator=recipe.rate_generator / 2,
        rate_discriminator=recipe.rate_discriminator / 2,
        rate_warm=recipe.rate_warm / 2,
    )


def evaluate(
    state: TrainState, windows: Windows, val: Windows | None, at: Progress, score: Callable[[Generator, int], float] | None, faults: Sequence[Finding]
) -> Progress:
    """Reads the watchdogs, applies their remedies, and remembers the averaged generator if it is the best so far.

    `faults` are what was found, and remedied, since the last time.
    """
    findings = [*faults, *inspect(state, windows, val)]
    tell(state, findings, [apply_remedy(state, finding) for finding in findings])
    value = score(state.ema.module, state.size_px) if score else None
    if value is not None and math.isfinite(value) and value <= state.best_score:
        state.best_score = value
        state.best = {k: v.detach().clone() for k, v in state.ema.module.state_dict().items()}
    return replace(at, findings=tuple(findings), score=value)


def tell(state: TrainState, findings: Sequence[Finding], remedies: Sequence[str]) -> None:
    """Writes down each bark with the remedy that was tried, and how every earlier one reads now."""
    now = {f.name: f for f in findings}
    for event in state.events:
        if event["name"] in now and not event["gone"]:
            event |= {"figure_after": now[event["name"]].figure, "gone": not now[event["name"]].bad}
        elif event["name"] == "nan":
            event["gone"] = event["gone"] or "nan" not in now
    for finding, remedy in zip(findings, remedies, strict=True):
        if finding.bad:
            event = {"name": finding.name, "step": state.step, "elapsed_s": round(state.elapsed_s, 1), "figure": finding.figure, "limit": finding.limit}
            state.events.append(event | {"remedy": remedy, "figure_after": None, "gone": False})


def progress(state: TrainState, phase: Phase, sums: dict[str, list[Tensor]]) -> Progress:
    """Where the run is, its figures averaged on the device and fetched at once."""
    means = torch.stack([torch.stack(values).mean() for values in sums.values()]).tolist() if sums else []
    figures = dict(zip(sums, means, strict=True)) | {"strength": state.strength, "size_px": float(state.size_px)}
    return Progress(phase, state.step, state.images, state.elapsed_s, min(1.0, state.elapsed_s / state.recipe.total_s), figures)


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
        forget(optimizer)
