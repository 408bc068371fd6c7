"""Captured steps against plain ones, on a CPU: a tape stands for the CUDA graph. Like one it repeats the same operations on the same
memory and knows nothing that the host has learned since; unlike one it does the work while it is recorded, so that is undone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from longtail.recipes import NetworkConfig, Recipe
from trainers import loop
from trainers.captured import PLAIN_FIRST, CapturedSteps
from trainers.loop import train
from trainers.state import TrainState
from trainers.steps import step
from trainers.windows import Windows

SMALL = Recipe(
    network=NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 8, 8), latent=4, style=8), batch=4, warm_s=8, catch_up_s=8, adversarial_s=24, half=False,
    projection_fade_steps=10, penalty_every=2, evaluate_every_s=9,
)  # fmt: skip
HOST = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Tape(TorchDispatchMode):
    """Notes every operation with the tensors that it read and those that it wrote."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in HOST, f"{function} brings the device's numbers to the host"
        out = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, out))
        return out


class TapeRecording:
    plays = 0

    def __init__(self, work, random):
        tensors = [*torch_tensors_of(work)]
        before, stream = [t.detach().clone() for t in tensors], random.get_state()
        with Tape() as tape:
            self.figures = work()
        self.operations = tape.operations
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        random.set_state(stream)

    def play(self):
        TapeRecording.plays += 1
        with torch.no_grad():
            for function, args, kwargs, out in self.operations:
                for wrote, new in zip(tree_iter(out), tree_iter(function(*args, **kwargs)), strict=True):
                    if isinstance(wrote, torch.Tensor) and wrote.data_ptr() != new.data_ptr():
                        wrote.detach().copy_(new)
        return self.figures


def torch_tensors_of(work):
    """What the work may change: weights, their average, the optimisers' slots."""
    state = next(c.cell_contents for c in work.__closure__ if isinstance(c.cell_contents, TrainState))
    for module in state.modules().values():
        yield from module.state_dict().values()
    for optimizer in (state.optimizer_g, state.optimizer_d):
        for slots in optimizer.state.values():
            yield from slots.values()


def on_tape():
    return CapturedSteps(record=TapeRecording, plainly=lambda work: work())


@pytest.fixture
def windows():
    torch.manual_seed(1)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    return Windows.plain(images, torch.tensor([0.25, 0.25, 0.75, 0.75]).repeat(12, 1), torch.arange(12) % 2, torch.arange(12))


def test_captured_steps_learn_what_plain_ones_do(windows):
    """The class fades in and the augmentation's strength moves while the same recordings are played; penalties come and go."""
    losses = []
    for take in (step, on_tape()):
        state, seen = TrainState.fresh(SMALL, num_classes=2), []
        for k in range(24):
            state.strength = k / 24
            seen.append({name: float(v) for name, v in take(state, windows, "warm" if k < 6 else "adversarial").items()})
        losses.append(seen)
        if take is not step:
            assert len(take.recordings) >= 3 and max(take.taken.values()) > PLAIN_FIRST
    for plain, captured in zip(*losses, strict=True):
        assert captured == pytest.approx(plain, rel=1e-4, abs=1e-6)


def test_a_whole_run_is_the_same_captured_remedies_nan_and_growth_included(windows, monkeypatch):
    """Rates are halved, the averages begin anew and the size doubles in the middle: no recording of before is played."""
    recipe = replace(SMALL, captured=True, size_shares=(0.5, 0.5), warm_s=14, catch_up_s=10, adversarial_s=46, evaluate_every_s=12)
    played = TapeRecording.plays

    def broken_once(take):
        def breaking(state, *rest):
            figures = take(state, *rest)
            if state.step in (9, 44):
                with torch.no_grad():
                    state.generator.tails[0].last.weight.fill_(torch.nan)
            return figures

        return breaking

    ends = []
    for captured in (False, True):
        taker = on_tape()
        monkeypatch.setattr(loop, "on_gpu", lambda captured=captured: captured)
        monkeypatch.setattr(loop, "CapturedSteps", lambda taker=taker: broken_once(taker))
        monkeypatch.setattr(loop, "step", broken_once(step))
        state, ticks = TrainState.fresh(recipe, num_classes=2), iter(range(10_000))
        seen = [copy.deepcopy(at.figures) for at in train(state, windows, windows, clock=lambda ticks=ticks: float(next(ticks)))]
        ends.append((seen, [e["name"] for e in state.events], state))
    assert TapeRecording.plays > played + 12
    (plain, events, first), (captured, also, second) = ends
    assert events == also and events.count("nan") == 2
    for one, other in zip(plain, captured, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-5, nan_ok=True)
    for mine, theirs in zip(first.generator.parameters(), second.generator.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5)
