"""Images per second of a training step, against the same networks run plainly in the same run.

    python -m benchmarks.training [--quick] [--presets tiny,base,large] [--compiled]

Plain is eager, float32, contiguous memory, an unfused optimiser, and a look at the losses after each step. Fast is what training
does: channels last, fused optimisers, figures left on the device, bfloat16 where the device multiplies it; on a GPU captured steps as well,
as by default there, and compiled ones if wanted. Both take the same penalties at the same steps. Needs torch, numpy and pillow alone.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Figure, save
from longtail.recipes import NETWORKS, Preset, Recipe
from trainers import device
from trainers.captured import PLAIN_FIRST, stepper
from trainers.state import TrainState
from trainers.steps import step
from trainers.windows import Windows

BATCHES: dict[str, dict[Preset, int]] = {"cpu": {"tiny": 16, "base": 4}, "cuda": {"tiny": 256, "base": 128, "large": 64}}
TARGETS: dict[Preset, float] = {"base": 1500.0, "large": 500.0}
"""Images a second on one H100."""
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16, from the vendor's data sheets."""
PEAK_RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
"""Where Linux forgets and tells a process's peak of memory (proc(5)); some kernels and all other systems do not."""


@dataclass(frozen=True)
class Side:
    """One way of running a step, with its state."""

    name: str
    step: Callable[[], None]


def random_windows(resolution: int, *, count: int = 512) -> Windows:
    """Noise with a box in its middle, an outline in that and bare ground beside it, as most objects of real packs have: steps take longer with those."""
    images, grounds = (torch.randint(0, 256, (count, 3, resolution, resolution), dtype=torch.uint8) for _ in range(2))
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).repeat(count, 1)
    across = (torch.arange(resolution) + 0.5) / resolution * 4 - 2
    inside = (across[:, None] ** 2 + across[None] ** 2 < 1).to(torch.uint8) * 255
    outlines = inside.expand(count, 1, resolution, resolution).contiguous()
    return Windows(images, boxes, torch.arange(count) % 3, torch.arange(count), outlines, grounds, boxes.clone())


def fast_side(recipe: Recipe, windows: Windows) -> tuple[Side, TrainState]:
    state = TrainState.fresh(recipe, num_classes=3)
    take = stepper(recipe)
    return Side("fast", lambda: void(take(state, windows, "adversarial"))), state


def plain_side(recipe: Recipe, windows: Windows) -> Side:
    state = TrainState.fresh(replace(recipe, compiled=False, captured=False, half=False), num_classes=3)
    for module in state.modules().values():
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for optimizer in (state.optimizer_g, state.optimizer_d):
        for group in optimizer.param_groups:
            group |= {"fused": False, "foreach": False}

    def watched() -> None:
        for value in step(state, windows, "adversarial").values():
            value.item()

    return Side("plain", watched)


def void(_: object) -> None:
    """Leaves the figures on the device."""


def seconds(side: Side, steps: int) -> float:
    device.wait()
    start = time.perf_counter()
    for _ in range(steps):
        side.step()
    device.wait()
    return (time.perf_counter() - start) / steps


def step_flops(recipe: Recipe, windows: Windows) -> float:
    """Floating-point operations of one step without a penalty, whose second derivatives torch does not count: the share of the peak is so much the less."""
    side, _ = fast_side(replace(recipe, compiled=False, captured=False, penalty_weight=0.0), windows)
    with FlopCounterMode(display=False) as counter:
        side.step()
    return float(counter.get_total_flops())


def cpu_peak() -> float:
    """Operations a second of a large product or of a large convolution on the CPU, whichever does more, in the precision that fast steps have there."""
    kind = torch.bfloat16 if device.fast_at_half(torch.get_default_device().type) else torch.float32
    a, kernel = torch.randn(2048, 2048, dtype=kind), torch.randn(256, 256, 3, 3, dtype=kind)
    x = torch.randn(8, 256, 64, 64, dtype=kind).to(memory_format=torch.channels_last)
    product, convolution = 2.0 * 2048**3, 2.0 * x.numel() * kernel[:, 0].numel()
    return max(reached(lambda: void(a @ a), product), reached(lambda: void(conv2d(x, kernel, padding=1)), convolution))


@torch.no_grad()
def reached(work: Callable[[], None], operations: float) -> float:
    """Operations a second, the best of a few rounds: what else the machine does is no limit of it."""
    work()
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return operations / best


def peak_flops() -> float:
    if device.on_gpu():
        return next((peak for card, peak in PEAK_FLOPS.items() if card in device.name()), float("nan"))
    return cpu_peak()


def forget_peak_memory() -> None:
    """Begins to look for the peak anew: on a GPU torch's own, where Linux tells it the process's."""
    if device.on_gpu():
        torch.cuda.reset_peak_memory_stats()
    elif PEAK_RESET.exists():
        PEAK_RESET.write_text("5")


def peak_memory() -> float | None:
    """Bytes held at the most since `forget_peak_memory`, by both sides, recordings and all: on the GPU, else by the process; None where nothing tells."""
    if device.on_gpu():
        return float(torch.cuda.max_memory_reserved())
    if not PEAK_RESET.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return float(line.split()[1]) * 1024


def measure(preset: Preset, *, rounds: int, steps: int, compiled: bool = False) -> list[Figure]:
    """Figures of one preset; the sides take turns, so that a busy machine is unkind to both."""
    kind, on_gpu = torch.get_default_device().type, device.on_gpu()
    batch = BATCHES[kind][preset]
    network = NETWORKS[preset]
    recipe = Recipe(network=network, batch=batch, captured=on_gpu, compiled=compiled)
    windows = random_windows(network.resolution_px)
    fast, state = fast_side(recipe, windows)
    plain = plain_side(recipe, windows)
    for side in (fast, plain):
        seconds(side, recipe.penalty_every * (PLAIN_FIRST + 1) + 1 if on_gpu else recipe.penalty_every + 1)  # warms and records both kinds of step
    forget_peak_memory()
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    for _ in range(rounds):
        for side in (fast, plain):
            times[side.name].append(seconds(side, steps))
    rates = [batch / t for t in times["fast"]]
    ratios = [slow / quick for quick, slow in zip(times["fast"], times["plain"], strict=True)]
    rate, ratio = statistics.median(rates), statistics.median(ratios)
    target = TARGETS.get(preset) if on_gpu and "H" in device.name() else None
    wanted = 2.0 if on_gpu else 1.5
    held = peak_memory()  # before a third state counts operations
    share = step_flops(recipe, windows) / batch * rate / peak_flops()
    name = f"{preset}_compiled" if compiled else preset
    found = [
        Figure(f"{name}_{network.resolution_px}px_rate", rate, "images/s", f">= {target:.0f}" if target else "", rate >= target if target else None,
               (min(rates), max(rates))),
        Figure(f"{name}_fast_to_plain", ratio, "ratio", f">= {wanted}", ratio >= wanted, (min(ratios), max(ratios))),
        Figure(f"{name}_share_of_peak", share, "ratio"),
    ]  # fmt: skip
    if held is not None:
        found.append(Figure(f"{name}_memory_held", held / 1e9, "GB"))
    del state
    return found


def run(presets: list[Preset], *, quick: bool, compiled: bool) -> list[Figure]:
    steps = 20 if device.on_gpu() else 4
    return [figure for preset in presets for figure in measure(preset, rounds=2 if quick else 6, steps=steps, compiled=compiled)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny alone, fewer rounds")
    parser.add_argument("--presets", help="comma-separated; by default all that the device is fit for")
    parser.add_argument("--compiled", action="store_true", help="compile the fast side's steps, which takes minutes")
    arguments = parser.parse_args()
    with device.best_device():
        kind = torch.get_default_device().type
        wanted = arguments.presets.split(",") if arguments.presets else ["tiny"] if arguments.quick else BATCHES[kind]
        presets = [preset for preset in BATCHES[kind] if preset in wanted]
        save("training", run(presets, quick=arguments.quick, compiled=arguments.compiled), quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()
