"""Captured steps against plain ones, on a CPU: a tape stands for the CUDA graph. Like one it repeats the same operations on the same
memory and knows nothing that the host has learned since; unlike one it does the work while it is recorded, so that is undone."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from longtail.recipes import NetworkConfig, Recipe, finetune_recipe
from services.api.schemas import RecipeOptions
from trainers import device, loop, tasks
from trainers.captured import PLAIN_FIRST, CapturedSteps
from trainers.loop import train
from trainers.remedies import apply_remedy
from trainers.state import TrainState
from trainers.steps import step
from trainers.watchdogs import Finding
from trainers.windows import Windows

SMALL = Recipe(
    network=NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 8, 8), latent=4, style=8), batch=4, warm_s=8, catch_up_s=8, adversarial_s=24, half=False,
    projection_fade_steps=10, penalty_every=2, evaluate_every_s=9,
)  # fmt: skip
aten = torch.ops.aten
HOST = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.lift_fresh.default}


class Tape(TorchDispatchMode):
    """Notes every operation with the tensors that it read and those that it wrote."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masks = [m for m in (args[1] if function is aten.index.Tensor else ()) if m is not None and m.dtype in (torch.bool, torch.uint8)]
        assert function not in HOST and not masks, f"{function} has host and device wait for each other"
        out = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, out))
        return out


class TapeRunner:
    def plainly(self, work):
        return work()

    def record(self, work, random):
        return TapeRecording(work, random)

    def keep_pace(self):
        pass


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

    def __call__(self):
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
    return CapturedSteps(TapeRunner)


@pytest.fixture
def windows():
    torch.manual_seed(1)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    return Windows.plain(images, torch.tensor([0.25, 0.25, 0.75, 0.75]).repeat(12, 1), torch.arange(12) % 2, torch.arange(12))


OTHERS = {
    "outlines, grounds and a frozen block": replace(SMALL, freeze_high_resolution=True),
    "two steps of a critic with bounded layers": replace(SMALL, discriminator_steps=2, network=replace(SMALL.network, spectral_norm=True)),
    "bfloat16": replace(SMALL, half=True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_step_is_captured(windows, name):
    if name == "bfloat16" and not device.fast_at_half("cpu"):
        pytest.skip("this processor does not multiply bfloat16 itself")
    recipe = OTHERS[name]
    if recipe.freeze_high_resolution:
        inside = torch.zeros(12, 1, 32, 32, dtype=torch.uint8)
        inside[:, :, 10:22, 10:22] = 255
        windows = replace(windows, outlines=inside, grounds=windows.images.flip(0), ground_boxes=windows.boxes)
    losses = []
    for take in (step, on_tape()):
        state, seen = TrainState.fresh(recipe, num_classes=2), []
        if recipe.freeze_high_resolution:
            loop.freeze(state.discriminator.trunk.stems[0], state.discriminator.trunk.blocks[0])
        for k in range(12):
            seen.append({name: float(v) for name, v in take(state, windows, "catch_up" if k < 6 else "adversarial").items()})
        losses.append(seen)
    for plain, captured in zip(*losses, strict=True):
        assert captured == pytest.approx(plain, rel=1e-4, abs=1e-6)


def test_what_a_remedy_puts_back_is_what_is_recorded_anew(windows):
    """A collapse puts weights back and halves a rate: no recording of before is played."""
    ends = []
    for take in (step, on_tape()):
        state = TrainState.fresh(replace(SMALL, penalty_weight=0.0), num_classes=2)
        for k in range(16):
            if k == 4:
                state.best = {name: v.detach().clone() for name, v in state.ema.module.state_dict().items()}
            if k == 10:
                apply_remedy(state, Finding("class_collapse", 0.0, "", True, ""))
            figures = take(state, windows, "adversarial")
        ends.append({name: float(v) for name, v in figures.items()})
        if take is not step:
            assert len(take.recordings) == 1
    assert ends[1] == pytest.approx(ends[0], rel=1e-4, abs=1e-6)


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


@pytest.mark.long
def test_a_whole_run_is_the_same_captured_remedies_nan_and_growth_included(windows, monkeypatch, breaking):
    """Rates are halved, the averages begin anew and the size doubles in the middle: no recording of before is played."""
    recipe = replace(SMALL, size_shares=(0.5, 0.5), warm_s=14, catch_up_s=10, adversarial_s=46, evaluate_every_s=12)
    played = TapeRecording.plays

    ends = []
    for take in (step, on_tape()):
        monkeypatch.setattr(loop, "stepper", lambda recipe, take=take: breaking(take, 9, 44))
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


def test_a_request_may_ask_for_captured_steps():
    asked = RecipeOptions.model_validate({"captured": True}).model_dump(exclude_none=True)
    assert finetune_recipe(preset="tiny", start="random", budget_s=60, seed=0, options=asked).captured


@pytest.mark.parametrize(
    ("gpu", "asked", "expected"), [(True, {}, True), (True, {"captured": False}, False), (True, {"compiled": True}, False), (False, {}, False)]
)
def test_on_a_gpu_a_fine_tune_captures_its_steps_unless_it_is_asked_not_to(monkeypatch, gpu, asked, expected):
    monkeypatch.setattr(tasks, "at_work", lambda threads: nullcontext(SimpleNamespace(database=None)))
    monkeypatch.setattr(tasks, "view_of", lambda catalogue, dataset, version: SimpleNamespace(task="detection"))
    monkeypatch.setattr("trainers.captured.on_gpu", lambda: gpu)
    monkeypatch.setattr(tasks, "run_finetune", lambda catalogue, view, *, recipe, **rest: recipe)
    recipe = tasks.finetune(job="j", dataset="d", version=1, classes=["a"], preset="tiny", start="random", budget_s=60, seed=0, recipe=asked)
    assert recipe.captured is expected
