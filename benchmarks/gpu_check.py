"""Everything that only a GPU can show, in one go: parity with the CPU, parity of the fast paths, that it learns, how fast it is.

    make gpu-check          or, with torch, numpy and pillow alone:   python -m benchmarks.gpu_check [--compiled]

Ends with 1 if a check fails. Without a GPU it says so and ends with 2.
"""

from __future__ import annotations

import functools
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks import generation, training
from benchmarks.report import Figure, save
from longtail.recipes import NetworkConfig, Recipe
from trainers import device
from trainers.captured import PLAIN_FIRST, CapturedSteps
from trainers.sampling import complete
from trainers.state import Phase, TrainState
from trainers.steps import Figures, fast, judged, painted, pair_plan, reconstruct, step, transplant
from trainers.windows import Windows

SMALL = Recipe(network=NetworkConfig(resolution_px=32, widths=(16, 24, 32)), batch=16, whole_image_share=0.0, half=False)
PHASES: tuple[Phase, ...] = ("warm", "catch_up", "adversarial")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@contextmanager
def exact() -> Iterator[None]:
    """float32 as a CPU does it, without the shortened products of tensor cores."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def gradients(here: torch.device, recipe: Recipe, *, penalise: bool = True) -> dict[str, Tensor]:
    """Gradients of a reconstruction and of a penalised judgement, of the same weights and the same numbers, on the CPU."""
    with torch.device(CPU):
        torch.manual_seed(0)
        windows = training.random_windows(32, count=64)
        donor = TrainState.fresh(recipe, num_classes=3)
        scene, _, fake = transplant(donor, windows, 8, with_gradient=False)
        plan = pair_plan(donor, scene)
        latent = torch.randn(8, recipe.network.latent)
    with here:
        state = TrainState.resumed(recipe, num_classes=3, tensors=donor.tensors(), numbers=donor.numbers())
        moved = type(scene)(**{k: v.to(here) for k, v in scene.__dict__.items()})
        with device.precision(half=recipe.half):
            out = fast(complete, recipe)(state.generator, moved, latent.to(here))
        out.float().square().mean().backward()
        plan = replace(plan, draws=plan.draws.to(here))
        logits, norms = judged(state, painted(moved, fake.to(here)), moved.label_B, plan, penalise=penalise)
        (logits.square().mean() + 0.1 * norms.mean()).backward()
        named = [*state.generator.named_parameters(prefix="g"), *state.discriminator.named_parameters(prefix="d")]
        return {name: p.grad.detach().float().cpu() for name, p in named if p.grad is not None}


def agreement(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Largest difference between two sets of gradients, as a share of the largest entry of each."""
    assert first.keys() == second.keys()
    return max(float((first[k] - second[k]).abs().max() / first[k].abs().max().clamp_min(1e-6)) for k in first)


def direction(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Cosine between two sets of gradients, each as one vector."""
    a, b = (torch.cat([v.flatten() for v in side.values()]) for side in (first, second))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def cpu_parity() -> Figure:
    with exact():
        return at_most("gradients_gpu_to_cpu", agreement(gradients(CPU, SMALL), gradients(GPU, SMALL)), 2e-2)


def compiled_parity() -> Figure:
    with exact():
        return at_most("gradients_compiled_to_eager", agreement(gradients(GPU, SMALL), gradients(GPU, replace(SMALL, compiled=True))), 2e-2)


def told(take: Callable[[TrainState, Windows, Phase], Figures], *, half: bool) -> list[Figures]:
    """The figures of steps of the same seed: every kind is played, with and without its penalty, while the class fades in and the augmentation
    grows stronger."""
    recipe = replace(SMALL, captured=True, half=half, projection_fade_steps=10)
    each = recipe.penalty_every * (PLAIN_FIRST + 2)
    with GPU, nullcontext() if half else exact():
        torch.manual_seed(0)
        windows = training.random_windows(32, count=64)
        state = TrainState.fresh(recipe, num_classes=3)
        found = []
        for k in range(3 * each):
            state.strength = k / (3 * each)
            found.append(take(state, windows, PHASES[k // each]))
    return found


def furthest(first: list[Figures], second: list[Figures]) -> float:
    """Largest difference of any figure of any step, as a share of that figure's largest."""
    apart = 0.0
    for name in first[-1].keys() | first[0].keys():
        one, other = (torch.stack([f[name] for f in side if name in f]) for side in (first, second))
        apart = max(apart, float((one - other).abs().max() / one.abs().max()))
    return apart


def captured_parity() -> Figure:
    return at_most("captured_steps_to_plain", furthest(told(step, half=False), told(CapturedSteps(), half=False)), 2e-2)


def captured_half_parity() -> Figure:
    """The same in bfloat16, as training does it: a step's rounding is another where kernels run in another order, so less is asked."""
    return at_most("captured_steps_to_plain_half", furthest(told(step, half=True), told(CapturedSteps(), half=True)), 0.2)


def plain_again() -> Figure:
    """How far plain steps in bfloat16 are from plain steps: what the figure above is to be held against."""
    return Figure("plain_steps_to_plain_half", furthest(told(step, half=True), told(step, half=True)), "")


def half_parity() -> Figure:
    value = direction(gradients(GPU, SMALL), gradients(GPU, replace(SMALL, half=True)))
    return Figure("gradients_bfloat16_cosine", value, "cosine", ">= 0.99", value >= 0.99)


def learns() -> Figure:
    """L1 after 400 steps on 16 windows, as a share of what it began with."""
    with GPU:
        blobs = torch.nn.functional.interpolate(torch.rand(16, 3, 4, 4), size=(32, 32), mode="bilinear") * 255
        windows = Windows.plain(blobs.byte(), torch.tensor([[0.25, 0.25, 0.75, 0.75]]).repeat(16, 1), torch.arange(16) % 2, torch.arange(16))
        state = TrainState.fresh(replace(SMALL, rate_warm=3e-3, half=True), num_classes=2)
        l1 = [float(step(state, windows, "warm")["l1"]) for _ in range(400)]
    return at_most("sixteen_images_l1_after_to_before", sum(l1[-20:]) / sum(l1[:20]), 0.6)


def resumes() -> Figure:
    """Difference of the next losses between a run that went on and one that was resumed from its tensors."""
    with GPU:
        windows = training.random_windows(32, count=64)
        state = TrainState.fresh(SMALL, num_classes=3)
        for _ in range(5):
            step(state, windows, "adversarial")
        tensors = {k: v.clone() for k, v in state.tensors().items()}
        again = TrainState.resumed(SMALL, num_classes=3, tensors=tensors, numbers=state.numbers())
        first, second = (reconstruct(s, windows, 8)[1]["l1"] for s in (state, again))
        return at_most("resumed_l1_difference", abs(float(first) - float(second)), 1e-4)


def waits_for_nothing() -> Figure:
    """Synchronisations of host and device inside ten steps, as torch counts them."""
    with GPU:
        windows = training.random_windows(32, count=64)
        state = TrainState.fresh(replace(SMALL, half=True), num_classes=3)
        step(state, windows, "adversarial")
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(10):
                step(state, windows, "adversarial")
            waited = 0.0
        except RuntimeError as error:
            print(f"  a step waits: {error}", file=sys.stderr)
            waited = 1.0
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return at_most("steps_that_wait_for_the_device", waited, 0.0)


def at_most(name: str, value: float, limit: float) -> Figure:
    return Figure(name, value, "", f"<= {limit:g}", value <= limit)


CHECKS: tuple[Callable[[], Figure], ...] = (cpu_parity, half_parity, learns, resumes, waits_for_nothing, captured_parity, captured_half_parity, plain_again)


def main() -> None:
    if not torch.cuda.is_available():
        print("no GPU here: nothing was checked", file=sys.stderr)
        sys.exit(2)
    figures: list[Figure] = []
    compiled = "--compiled" in sys.argv
    broken = [check.__name__ for check in (*CHECKS, *[compiled_parity] * compiled) if not ran(check.__name__, functools.partial(alone, check), figures)]
    failed = [f.name for f in figures if f.holds is False]
    with device.best_device():
        broken += [] if ran("bare generation", functools.partial(generation.bare, quick=True), figures) else ["bare generation"]
    for preset in training.BATCHES["cuda"]:
        with GPU:
            broken += [] if ran(preset, functools.partial(training.measure, preset, rounds=3, steps=12, compiled=compiled), figures) else [preset]
    print(f"failed: {failed or 'none'}; broke: {broken or 'none'}")
    sys.exit(1 if failed or broken else 0)


def alone(check: Callable[[], Figure]) -> list[Figure]:
    return [check()]


def ran(name: str, measure: Callable[[], list[Figure]], figures: list[Figure]) -> bool:
    """Adds what is measured and saves all that there is so far; one that breaks says so and costs no other its turn."""
    start = time.perf_counter()
    try:
        figures += (found := measure())
    except Exception:
        traceback.print_exc()
        return False
    print(f"{name} ({time.perf_counter() - start:.0f} s): " + ", ".join(f"{f.name} {f.value:.4g}" for f in found), flush=True)
    save("gpu", figures, quick=False, gpu=device.name())
    return True


if __name__ == "__main__":
    main()
