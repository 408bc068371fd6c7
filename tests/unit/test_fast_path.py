"""The fast path computes what the plain one computes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from benchmarks import generation, training
from benchmarks.gpu_check import CPU, SMALL, agreement, direction, gradients
from trainers import device
from trainers.state import TrainState
from trainers.steps import reconstruct, step


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_gradients_penalty_and_all_equal_the_eager_ones():
    eager, compiled = gradients(CPU, SMALL), gradients(CPU, replace(SMALL, compiled=True))
    assert agreement(eager, compiled) < 1e-3


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_generator_paints_what_the_plain_one_paints():
    """Of -1 to 1: less than a fifth of a level of 255 apart."""
    generator, inputs = generation.built("tiny", batch=2)
    with torch.inference_mode():
        plain, compiled = generator(*inputs), torch.compile(generator)(*inputs)
    assert plain.std() > 0.01
    assert (plain - compiled).abs().max() < 0.2 / 127.5


@pytest.mark.skipif(not device.fast_at_half("cpu"), reason="this processor does not multiply bfloat16 itself")
def test_bfloat16_gradients_penalty_and_all_point_where_those_of_float32_do():
    assert direction(gradients(CPU, SMALL), gradients(CPU, replace(SMALL, half=True))) > 0.99


def test_bfloat16_only_where_the_processor_multiplies_it(monkeypatch):
    for known, wanted in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        device.fast_at_half.cache_clear()
        with device.precision():
            assert torch.is_autocast_enabled("cpu") is wanted
        with device.precision(half=False):
            assert not torch.is_autocast_enabled("cpu")
    monkeypatch.undo()
    device.fast_at_half.cache_clear()


def test_channels_last_and_a_fused_optimiser_change_no_loss():
    """A memory layout is not a model: after three steps the losses of both sides agree."""
    recipe = replace(SMALL, batch=8)
    windows = training.random_windows(32, count=16)
    losses = []
    for plain in (False, True):
        state = TrainState.fresh(recipe, num_classes=3)
        if plain:
            for module in state.modules().values():
                module.to(memory_format=torch.contiguous_format)
            for optimizer in (state.optimizer_g, state.optimizer_d):
                for group in optimizer.param_groups:
                    group |= {"fused": False, "foreach": False}
        for _ in range(3):
            figures = step(state, windows, "adversarial")
        losses.append([float(figures[k]) for k in ("d_loss", "g_loss", "l1", "kl")] + [float(reconstruct(state, windows, 8)[1]["l1"])])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3, abs=2e-4)


@pytest.mark.skipif(not training.PEAK_RESET.exists(), reason="this kernel does not tell a process's peak")
def test_the_peak_of_memory_is_told_anew_for_each_preset():
    held = torch.zeros(100_000_000, dtype=torch.uint8)
    training.forget_peak_memory()
    before = training.peak_memory()
    more = torch.ones(200_000_000, dtype=torch.uint8)
    assert training.peak_memory() - before > 0.9 * more.nbytes
    del more, held
    training.forget_peak_memory()
    assert training.peak_memory() < before + 1e8
