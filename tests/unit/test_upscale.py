"""The learned enlargement of windows that are larger than the network paints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from longtail.recipes import NetworkConfig
from trainers import weights
from trainers.architectures import build_generator
from trainers.render import Order, Painter, render
from trainers.upscale import FACTORS, WORTH, PatchCritic, Upscaler, UpscalerConfig, bicubic, crops, enlarge, gain, train_upscaler, upscaler_step
from trainers.windows import Instance

NETWORK = NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16), latent=8, style=16)


def stripes(count, *, size=32, seed=0):
    """Sharp slanted stripes, [N, 3, size, size] uint8: what bicubic blurs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    found = []
    for _ in range(count):
        angle, width = rng.uniform(0, np.pi), rng.uniform(6, 10)
        wave = ((x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 10)) // width) % 2
        found.append(np.where(wave[..., None] > 0, rng.integers(140, 256, 3), rng.integers(0, 100, 3)))
    return torch.from_numpy(np.stack(found).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()


def counting_clock():
    ticks = iter(range(1_000_000))
    return lambda: float(next(ticks))


@pytest.mark.parametrize("factor", FACTORS)
def test_it_begins_as_bicubic(factor):
    image = torch.rand(2, 3, 12, 12) * 2 - 1
    made = Upscaler(UpscalerConfig())(image, factor)
    assert made.shape == (2, 3, 12 * factor, 12 * factor)
    assert torch.allclose(made, bicubic(image, factor), atol=1e-6)
    with pytest.raises(ValueError, match="factor"):
        Upscaler(UpscalerConfig())(image, 3)


def test_it_learns_to_be_sharper_than_bicubic_on_what_it_has_not_seen():
    torch.manual_seed(0)
    upscaler = Upscaler(UpscalerConfig(width=12, blocks=1))
    for done, figures in train_upscaler(upscaler, stripes(64), seconds=240, seed=0, clock=counting_clock()):
        assert 0 < done <= 1 and all(np.isfinite(v) for v in figures.values())
    assert "critic" in figures, "the critic was to join"
    for factor in FACTORS:
        assert gain(upscaler, stripes(32, seed=1), factor) > 0.1
    assert gain(Upscaler(UpscalerConfig()), stripes(32, seed=1), 2) == pytest.approx(0, abs=1e-6)


def test_a_step_that_is_not_finite_changes_nothing():
    upscaler, critic = Upscaler(UpscalerConfig(width=8, blocks=1)), PatchCritic(8)
    before = {k: v.clone() for k, v in upscaler.state_dict().items()}
    optimizers = tuple(torch.optim.Adam(m.parameters()) for m in (upscaler, critic))
    broken = torch.full((2, 3, 32, 32), float("nan"))
    upscaler_step(upscaler, critic, optimizers, broken, 2, adversarial=True, penalise=True)
    assert all(torch.equal(v, before[k]) for k, v in upscaler.state_dict().items())


@pytest.mark.parametrize("side", [20, 32, 45, 64, 100, 200])
def test_windows_are_enlarged_to_any_side(side):
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert enlarge(Upscaler(UpscalerConfig()), image, side).shape == (1, 3, side, side)
    if side <= WORTH * 32:
        assert torch.equal(enlarge(Upscaler(UpscalerConfig()), image, side), enlarge(None, image, side))


def test_crops_hold_their_boxes_at_the_images_own_resolution():
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    image[40:60, 100:120] = 255
    found = crops([image, np.zeros((20, 20, 3), dtype=np.uint8)], [(100.0, 40.0, 120.0, 60.0), (0.0, 0.0, 9.0, 9.0)], size=64, count=20, seed=0)
    assert found.shape == (20, 3, 64, 64)
    assert bool(((found[:, 0] == 255).sum((1, 2)) == 400).all())
    assert len(crops([np.zeros((20, 20, 3), dtype=np.uint8)], [(0.0, 0.0, 9.0, 9.0)], size=64, count=20, seed=0)) == 0


def order(novelty, side=150):
    rng = np.random.default_rng(0)
    background = rng.integers(90, 110, (200, 240, 3)).astype(np.uint8)
    exemplar = np.full((200, 200, 3), 60, dtype=np.uint8)
    exemplar[40:160:4, 40:160] = 250
    box = (30.0, 30.0, 30.0 + side / 1.8, 30.0 + side / 1.8)
    return Order("inpaint", 0, 3, novelty, box, background, Instance(exemplar, (40.0, 40.0, 160.0, 160.0), 0))


def test_it_serves_what_is_invented_and_leaves_real_detail_alone():
    generator = build_generator(NETWORK, num_classes=1).eval()
    upscaler = Upscaler(UpscalerConfig(width=8, blocks=1))
    torch.nn.init.normal_(upscaler.outs[0].weight, std=0.3)
    torch.nn.init.normal_(upscaler.outs[1].weight, std=0.3)
    plain, sharp = Painter(generator), Painter(generator, upscaler)
    assert np.array_equal(render(plain, order(0.2)).pixels, render(sharp, order(0.2)).pixels), "below the cut all of the exemplar is valid"
    assert not np.array_equal(render(plain, order(1.0)).pixels, render(sharp, order(1.0)).pixels)
    assert np.array_equal(render(plain, order(1.0, side=36)).pixels, render(sharp, order(1.0, side=36)).pixels), "a small window needs none"


def test_it_travels_with_its_generator():
    generator = build_generator(NETWORK, num_classes=2).eval().to(memory_format=torch.channels_last)  # as it will be read back: sums have an order
    upscaler = Upscaler(UpscalerConfig(width=8, blocks=2)).to(memory_format=torch.channels_last)
    torch.nn.init.normal_(upscaler.outs[1].weight, std=0.1)
    again = weights.from_bytes(weights.to_bytes(generator, classes=["a", "b"], upscaler=upscaler))
    assert again.upscaler.config == upscaler.config
    assert np.array_equal(render(Painter(generator, upscaler), order(1.0)).pixels, render(again, order(1.0)).pixels)
    assert weights.from_bytes(weights.to_bytes(generator, classes=["a", "b"])).upscaler is None


@pytest.mark.parametrize(("novelty", "share"), [(0.0, 0.95), (0.35, 0.9), (0.5, 0.65)], ids=["held", "low", "default"])
def test_a_network_of_32_px_serves_an_object_of_300_px_as_sharp_as_it_was(novelty, share):
    """The residual alone is as coarse as the network: what is left of the exemplar keeps the detail of its own resolution, beside a busy generator."""
    torch.manual_seed(0)
    generator = build_generator(NETWORK, num_classes=1).eval()
    for tail in generator.tails:
        torch.nn.init.normal_(tail.last.weight, std=0.5)
    y, x = np.mgrid[:700, :700]
    texture = ((x // 3 + y // 3) % 2 * 120 + 60).astype(np.uint8)[..., None].repeat(3, 2)
    background = np.full((700, 700, 3), 110, dtype=np.uint8)
    box = (150.0, 150.0, 450.0, 450.0)
    asked = Order("inpaint", 0, 3, novelty, box, background, Instance(texture, (200.0, 200.0, 500.0, 500.0), 0))

    def detail(pixels):
        inside = torch.from_numpy(pixels[200:400, 200:400].astype(np.float32)).permute(2, 0, 1)[None]
        return float((inside - F.avg_pool2d(inside, 5, 1, 2)).abs().mean())

    real, pasted = detail(texture), detail(render(None, replace(asked, mode="copy_paste")).pixels)
    painted, invented = render(Painter(generator), asked).pixels, render(Painter(generator), replace(asked, novelty=1.0)).pixels
    assert detail(painted) > share * pasted > 0.4 * share * real, (detail(painted), pasted, real)
    assert detail(invented) < 0.6 * detail(painted)
    still = build_generator(NETWORK, num_classes=1).eval()
    for tail in still.tails:
        torch.nn.init.zeros_(tail.last.weight)
    moved = np.abs(painted.astype(int) - render(Painter(still), asked).pixels).max()
    assert moved <= 2 if novelty == 0 else moved > 20, "the generator has its say where something is cut away, and nowhere else"
