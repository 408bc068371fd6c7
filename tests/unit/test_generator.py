"""The networks, the loop and rendering, on tiny worlds; laying exemplars is in test_laying.py, figures of quality in test_quality.py."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from longtail.recipes import NetworkConfig, Recipe
from trainers import checkpoints, weights
from trainers.architectures import build_generator
from trainers.compose import Warp
from trainers.ema import Ema
from trainers.loop import train
from trainers.networks import ComodulatedGenerator
from trainers.remedies import apply_remedy
from trainers.render import Order, Painter, masked, render, visibility
from trainers.state import TrainState
from trainers.steps import step
from trainers.training_data import halve
from trainers.watchdogs import Finding
from trainers.windows import Instance, cut_windows, window_around

NETWORK = NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16), latent=8, style=16)
SMALL = Recipe(network=NETWORK, batch=8, evaluate_every_s=1e9, whole_image_share=0.0, half=False)


def discs(count, *, size=48, seed=0):
    """Images with a bright disc on a dark ground, two classes by colour, each with its box."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        image = np.full((size, size, 3), 40, dtype=np.uint8)
        radius, (x, y) = rng.integers(6, 10), rng.integers(14, size - 14, 2)
        yy, xx = np.mgrid[:size, :size]
        image[(xx - x) ** 2 + (yy - y) ** 2 <= radius**2] = (220, 60, 60) if i % 2 else (60, 60, 220)
        found.append(Instance(image, (x - radius, y - radius, x + radius, y + radius), i % 2))
    return found


@pytest.fixture(scope="module")
def windows():
    return cut_windows(discs(16), resolution=32, per_instance=1, seed=0, fixed=True)


def counting_clock():
    """A clock that advances a second a call, so that a run's length is counted in steps."""
    ticks = iter(range(1_000_000))
    return lambda: float(next(ticks))


def test_a_second_instance_changes_what_is_made_and_its_absence_nothing():
    generator = build_generator(SMALL.network, num_classes=2).eval()
    asked = order(novelty=0.5)
    other = discs(2)[1]
    plain = render(Painter(generator), asked).pixels
    assert np.array_equal(plain, render(Painter(generator), replace(asked, mixed=None)).pixels)
    assert not np.array_equal(plain, render(Painter(generator), replace(asked, mixed=other)).pixels)


def test_a_sample_on_the_way_begins_as_itself_and_ends_as_the_other():
    generator = build_generator(SMALL.network, num_classes=2).eval()
    for tail in generator.tails:
        torch.nn.init.normal_(tail.last.weight, std=0.3)
    asked = order(novelty=1.0)
    start, near, far, end = (render(Painter(generator), replace(asked, towards=(9, share))).pixels.astype(int) for share in (0.0, 0.2, 0.8, 1.0))
    assert np.array_equal(start, render(Painter(generator), asked).pixels)
    assert np.abs(near - start).sum() < np.abs(far - start).sum()
    assert np.abs(far - end).sum() < np.abs(near - end).sum()


def test_truncation_changes_the_sample_and_the_same_again_does_not():
    generator = build_generator(SMALL.network, num_classes=2).eval()
    asked = order(novelty=1.0)
    cut = render(Painter(generator), replace(asked, truncation=0.1)).pixels
    assert not np.array_equal(cut, render(Painter(generator), asked).pixels)
    assert np.array_equal(cut, render(Painter(generator), replace(asked, truncation=0.1)).pixels)


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (90, 50, 100, 60), (40, 0, 60, 60), (5, 5, 99, 59)], ids=["corner", "far_corner", "full_height", "wide"])
def test_a_window_holds_its_box_and_stays_inside_where_it_can(box):
    left, top, side = window_around(box, 100, 60, margin=1.8)
    assert left <= box[0]
    assert top <= box[1]
    assert left + side >= box[2]
    assert top + side >= box[3]
    if side <= 60:
        assert left >= 0 and top >= 0 and left + side <= 100 and top + side <= 60


def test_the_residual_is_bounded(windows):
    generator = build_generator(SMALL.network, num_classes=2)
    out = generator(torch.randn(4, 9, 32, 32) * 100, torch.randn(4, 8) * 100, torch.zeros(4, dtype=torch.long))
    assert out.abs().max() <= 2


def test_the_same_seed_gives_the_same_losses(windows):
    runs = []
    for _ in range(2):
        state = TrainState.fresh(SMALL, num_classes=2)
        runs.append([step(state, windows, "warm")["l1"] for _ in range(4)])
    assert runs[0] == runs[1]


def test_resuming_from_bytes_equals_going_on(windows):
    recipe = replace(SMALL, warm_s=4, catch_up_s=3, adversarial_s=100)
    whole = TrainState.fresh(recipe, num_classes=2)
    last = []
    for at in train(whole, windows, None, clock=counting_clock(), report_every_s=1):
        last.append(at.figures)
        if at.step == 10:
            saved = checkpoints.to_bytes(whole)
        if at.step == 14:
            break
    again = checkpoints.from_bytes(saved)
    resumed = []
    for at in train(again, windows, None, clock=counting_clock(), report_every_s=1):
        resumed.append(at.figures)
        if at.step == 14:
            break
    assert resumed == last[10:]


def test_sixteen_images_are_overfitted_in_seconds(windows):
    state = TrainState.fresh(replace(SMALL, rate_warm=3e-3), num_classes=2)
    first = sum(step(state, windows, "warm")["l1"] for _ in range(10)) / 10
    for _ in range(250):
        step(state, windows, "warm")
    last = sum(step(state, windows, "warm")["l1"] for _ in range(10)) / 10
    assert last < 0.5 * first


def test_a_loss_that_is_not_finite_rolls_back_and_goes_on(windows):
    recipe = replace(SMALL, warm_s=20, catch_up_s=0, adversarial_s=0, evaluate_every_s=5)
    state = TrainState.fresh(recipe, num_classes=2)
    broken = False
    for at in train(state, windows, None, clock=counting_clock(), report_every_s=1):
        if at.step == 8 and not broken:
            broken = True
            with torch.no_grad():
                state.generator.tails[0].last.weight.fill_(math.nan)
    assert broken
    assert state.recipe.rate_warm < recipe.rate_warm
    assert all(torch.isfinite(p).all() for p in state.generator.parameters())


def test_the_run_ends_with_its_best_average(windows):
    recipe = replace(SMALL, warm_s=12, catch_up_s=0, adversarial_s=0, evaluate_every_s=4)
    state = TrainState.fresh(recipe, num_classes=2)
    scores, kept = iter([5.0, 1.0, 3.0, 4.0, 6.0]), []

    def score(generator, size_px):
        kept.append({k: v.clone() for k, v in generator.state_dict().items()})
        return next(scores)

    list(train(state, windows, None, clock=counting_clock(), score=score, report_every_s=1e9))
    assert all(torch.equal(v, state.ema.module.state_dict()[k]) for k, v in kept[1].items())


class Silent(ComodulatedGenerator):
    """Adds nothing to its base."""

    def forward(self, inputs_BNHW, latent_BZ, label_B):
        return torch.zeros_like(inputs_BNHW[:, :3])


def order(mode="inpaint", novelty=0.2, seed=1):
    rng = np.random.default_rng(0)
    background = rng.integers(90, 110, (80, 120, 3)).astype(np.uint8)
    exemplar = discs(1)[0]
    return Order(mode, 0, seed, novelty, (50.0, 30.0, 70.0, 50.0), background, exemplar)


def test_a_record_renders_to_the_same_pixels_and_another_seed_to_others():
    generator = build_generator(SMALL.network, num_classes=2).eval()
    first, again, other = (render(Painter(generator), order(seed=s)).pixels for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_cut_away_begins_alike_at_every_size_of_a_window():
    """The generator's residual, here nothing, is made for the base that it saw at its own size; windows of odd sizes were filled otherwise once."""
    ramp = np.repeat(np.linspace(20, 235, 257).astype(np.uint8)[None, :, None], 257, 0).repeat(3, 2)
    painter, found = Painter(Silent(SMALL.network, num_classes=1).eval()), {}
    for side in (32, 33, 65, 130, 150, 257):
        asked = Order("synthesis", 0, 5, 0.7, (0.0, 0.0, float(side), float(side)), None, Instance(ramp, (0.0, 0.0, 257.0, 257.0), 0))
        found[side] = np.asarray(Image.fromarray(render(painter, asked).pixels).resize((32, 32), Image.Resampling.BOX), dtype=float)
    for side, reduced in found.items():
        assert np.abs(reduced - found[32]).mean() < 2, side
        assert np.abs(reduced - found[32]).max() < 12, side


@pytest.mark.parametrize(("mode", "novelty"), [("inpaint", 0.0), ("inpaint", 0.5), ("inpaint", 1.0), ("copy_paste", 0.0)])
def test_pixels_outside_the_mask_are_the_background(mode, novelty):
    generator = build_generator(SMALL.network, num_classes=2).eval()
    asked = order(mode, novelty)
    made = render(Painter(generator), asked)
    outside = np.ones((80, 120), dtype=bool)
    outside[28:52, 48:72] = False
    assert np.array_equal(made.pixels[outside], asked.background[outside])
    assert made.change > 0


def test_what_is_painted_into_a_window_smaller_than_the_network_is_no_alias_of_it(monkeypatch):
    """Stripes of one pixel at the network's size are gray at half of it, not stripes of another width."""
    painter = Painter(build_generator(SMALL.network, num_classes=1).eval())
    size = SMALL.network.resolution_px
    stripes = torch.zeros(1, 3, size, size)
    stripes[..., ::2], stripes[..., 1::2] = 0.9, -0.9
    small = replace(order(novelty=1.0), box_xyxy=(20.0, 20.0, 28.0, 28.0))
    pictures = []
    for painted in (stripes, torch.zeros_like(stripes)):
        monkeypatch.setattr("trainers.render.residual", lambda *_, painted=painted: painted)
        pictures.append(render(painter, small).pixels.astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() < 20  # of 115


def test_an_exemplar_is_mirrored_only_where_its_generator_learned_from_mirrored_ones(monkeypatch):
    generator = build_generator(SMALL.network, num_classes=1).eval()
    seen = []
    monkeypatch.setattr("trainers.render.Warp.draw", lambda *a, mirrored, **k: seen.append(mirrored) or Warp.identity(1))
    for mirrored in (None, True, False):
        render(weights.from_bytes(weights.to_bytes(generator, classes=["a"], mirrored=mirrored)), order(novelty=0.2))
    assert seen == [True, True, True, True, False, False]


def test_copy_paste_puts_the_object_into_the_box():
    made = render(None, order("copy_paste"))
    middle = made.pixels[36:44, 56:64].reshape(-1, 3).mean(0)
    assert middle[2] > middle[0] + 50  # the exemplar's blue disc
    assert made.overlap > 0.5


def test_no_change_is_seen_as_none():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    assert visibility(image, image, (5, 5, 10, 10)) == (0.0, 0.0)


def test_a_change_beside_the_box_does_not_overlap():
    before, after = np.zeros((40, 40, 3), dtype=np.uint8), np.zeros((40, 40, 3), dtype=np.uint8)
    after[30:38, 30:38] = 255
    assert visibility(before, after, (2, 2, 10, 10))[1] == 0


def test_a_served_generator_survives_its_file():
    generator = build_generator(SMALL.network, num_classes=2).eval()
    again = weights.from_bytes(weights.to_bytes(generator, classes=["a", "b"]))
    assert np.array_equal(render(Painter(generator), order()).pixels, render(again, order()).pixels)


def test_the_shipped_foundation_fits_and_is_small():
    assert weights.FOUNDATION.stat().st_size < 16e6
    tensors, meta = weights.foundation()
    state = TrainState.fresh(checkpoints.recipe_of(meta), num_classes=3)
    state.adopt(tensors)
    assert state.generator.embed.weight.shape[0] == 3


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        ("seams", "ring_weight", 2.0),
        ("class_ignored", "projection_weight", 2.0),
        ("latent_ignored", "kl_weight", SMALL.kl_weight / 2),
        ("d_overpowers", "rate_discriminator", SMALL.rate_discriminator / 2),
    ],
)
def test_each_bark_changes_what_its_remedy_says(name, field, expected):
    state = TrainState.fresh(SMALL, num_classes=2)
    apply_remedy(state, Finding(name, 1.0, "", bad=False, remedy=""))
    assert state.recipe == SMALL
    apply_remedy(state, Finding(name, 1.0, "", bad=True, remedy=""))
    assert getattr(state.recipe, field) == expected


def test_augmentation_follows_the_critic_up_and_down_within_its_range():
    state = TrainState.fresh(SMALL, num_classes=2)
    seen = []
    for figure in [0.9] * 40 + [0.1] * 60:
        apply_remedy(state, Finding("d_memorises", figure, "", bad=figure > 0.5, remedy=""))
        seen.append(state.strength)
    assert seen[:40] == sorted(seen[:40]) and seen[39] == 1
    assert seen[39:] == sorted(seen[39:], reverse=True) and seen[-1] == 0


def test_the_projection_fades_in_over_its_steps():
    state = TrainState.fresh(replace(SMALL, projection_weight=2.0, projection_fade_steps=10), num_classes=2)
    faded = []
    for state.adversarial_steps in (0, 5, 10, 99):
        state.set_dials()
        faded.append(float(state.dials[0]))
    assert faded == [0, 1, 2, 2]


def test_the_average_is_half_way_after_its_half_life():
    module = nn.Linear(2, 2)
    ema = Ema(module, half_life_images=64)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    for _ in range(8):
        ema.update(module, batch=8)
    assert torch.allclose(ema.module.weight, before + 0.5, atol=1e-5)


def test_a_loss_that_is_not_finite_is_named_and_the_last_good_weights_go_on(windows):
    state = TrainState.fresh(replace(SMALL, warm_s=12, catch_up_s=0, adversarial_s=0, evaluate_every_s=4), num_classes=2)
    found = []
    for at in train(state, windows, None, clock=counting_clock(), report_every_s=1e9):
        found += [f.name for f in at.findings if f.bad]
        if len(found) == 0 or "nan" not in found:
            with torch.no_grad():
                state.generator.tails[0].last.weight.fill_(float("nan"))
    assert "nan" in found
    assert state.recipe.rate_warm < SMALL.rate_warm
    assert all(torch.isfinite(p).all() for p in state.generator.parameters())


def held_out(images, label):
    return [SimpleNamespace(sample=SimpleNamespace(id=i), label=label) for i in images]


def test_the_images_that_judge_did_not_choose_and_are_enough_where_there_are_enough():
    """Class 0: 60 objects on 30 images; class 1: 22 objects, one on each of 22 of them: 20 of those must judge."""
    found = held_out([f"i{n % 30:02d}" for n in range(60)], 0) + held_out([f"i{n:02d}" for n in range(22)], 1)
    select, judging = halve(found, seed=3)
    assert not {o.sample.id for o in select} & {o.sample.id for o in judging}
    assert len(select) + len(judging) == 82
    assert sum(o.label == 0 for o in judging) >= 30
    assert sum(o.label == 1 for o in judging) >= 20


def test_a_class_of_too_few_held_out_objects_judges_whole():
    select, judging = halve(held_out(["a", "b", "c"], 0), seed=0)
    assert (len(select), len(judging)) == (0, 3)


def test_the_mask_of_the_report_is_what_the_renderer_may_change():
    background = np.full((60, 80, 3), 200, dtype=np.uint8)
    box = (20.0, 20.0, 40.0, 36.0)
    exemplar = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    order = Order("copy_paste", 0, 5, 0.0, box, background, Instance(exemplar, (10.0, 10.0, 30.0, 30.0), 0))
    changed = (render(None, order).pixels != background).any(2)
    hidden = (masked(background, box) == 0).all(2)
    assert changed.any()
    assert not (changed & ~hidden).any()
