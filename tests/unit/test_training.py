"""The training loop's options, its schedule of sizes, and what a batch is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longtail.errors import InvalidRequest
from longtail.recipes import NetworkConfig, Preset, Recipe, finetune_recipe, options_for
from trainers import checkpoints, steps, weights
from trainers.augment import Plan, augment
from trainers.compose import Warp
from trainers.finetune import begun
from trainers.loop import train
from trainers.losses import LIVELY, alike
from trainers.sampling import complete, draw_latent, interpolate
from trainers.scenes import Mixture, draw_indices, transplant_scene
from trainers.state import TrainState
from trainers.steps import step, transplant
from trainers.windows import Instance, Windows, cut_windows

NETWORK = NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16), latent=8, style=16)
SMALL = Recipe(network=NETWORK, batch=8, whole_image_share=0.0, half=False)


def counting_clock():
    ticks = iter(range(1_000_000))
    return lambda: float(next(ticks))


def textured(count, *, seed, labels=2):
    """Objects of random texture and brightness on a random flat ground: nothing of one tells of another."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        image = np.full((40, 40, 3), rng.integers(30, 220, 3), dtype=np.uint8)
        image[12:28, 12:28] = rng.integers(0, 255, (16, 16, 3))
        image[12:28, 12:28] = np.clip(image[12:28, 12:28] * 0.4 + rng.integers(0, 150, 3), 0, 255)
        found.append(Instance(image, (12.0, 12.0, 28.0, 28.0), i % labels))
    return cut_windows(found, resolution=32, per_instance=1, seed=0, fixed=True)


@pytest.fixture(scope="module")
def windows():
    return textured(24, seed=0)


def run(recipe, windows, val=None, *, num_classes=2, change=None):
    """(state, everything that was reported) of a whole run, counted in steps rather than seconds."""
    state = TrainState.fresh(recipe, num_classes=num_classes)
    if change:
        change(state)
    return state, list(train(state, windows, val, clock=counting_clock(), report_every_s=1))


OPTIONS = {
    "hinge": replace(SMALL, loss="hinge"),
    "non_saturating": replace(SMALL, loss="non_saturating"),
    "r1_only": replace(SMALL, penalty="r1", penalty_every=1),
    "no_penalty": replace(SMALL, penalty_weight=0.0),
    "spectral_norm": replace(SMALL, network=replace(NETWORK, spectral_norm=True)),
    "minibatch_std": replace(SMALL, network=replace(NETWORK, minibatch_std=True)),
    "two_critic_steps": replace(SMALL, discriminator_steps=2),
    "latents_differ": replace(SMALL, diversity_weight=2.0),
    "baseline": replace(
        SMALL, network=replace(NETWORK, architecture="dcgan", smallest_px=32), loss="non_saturating",
        penalty_weight=0.0, reconstruction_weight=0.0, ring_weight=0.0,
    ),
    "baseline_penalised": replace(SMALL, network=replace(NETWORK, architecture="dcgan", smallest_px=32), penalty_every=1),
}


@pytest.mark.parametrize("recipe", OPTIONS.values(), ids=OPTIONS)
def test_every_option_trains_both_networks(recipe, windows):
    state = TrainState.fresh(recipe, num_classes=2)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (state.generator, state.discriminator)]
    for _ in range(3):
        figures = step(state, windows, "adversarial")
        assert all(torch.isfinite(v) for v in figures.values())
    for module, old in zip((state.generator, state.discriminator), before, strict=True):
        assert any(not torch.equal(v, old[k]) for k, v in module.state_dict().items())
        assert all(torch.isfinite(v).all() for v in module.state_dict().values())


@pytest.mark.parametrize("recipe", OPTIONS.values(), ids=OPTIONS)
def test_every_option_survives_its_checkpoint(recipe, windows):
    state = TrainState.fresh(recipe, num_classes=2)
    step(state, windows, "adversarial")
    again = checkpoints.from_bytes(checkpoints.to_bytes(state))
    first, second = (step(s, windows, "adversarial") for s in (state, again))
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}


@pytest.mark.parametrize("preset", get_args(Preset))
def test_every_preset_trains_from_random_weights(preset):
    recipe = finetune_recipe(preset=preset, start="random", budget_s=60, seed=0, options={"batch": 4})
    size = recipe.network.resolution_px
    state = TrainState.fresh(recipe, num_classes=2)
    images = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    boxes = torch.tensor([0.25, 0.25, 0.75, 0.75]).repeat(4, 1)
    windows = Windows.plain(images, boxes, torch.tensor([0, 0, 1, 1]), torch.arange(4))
    for phase in (["warm"] if recipe.warm_s else []) + ["adversarial"]:
        assert all(torch.isfinite(v) for v in step(state, windows, phase).values())
    assert (preset == "baseline") == (recipe.loss == "non_saturating" and not recipe.warm_s and not recipe.penalty_weight)
    assert recipe.total_s + recipe.upscaler_s == pytest.approx(60)


@pytest.mark.parametrize("option", ["spectral_norm", "minibatch_std"])
def test_the_plain_baseline_refuses_what_it_would_ignore(option):
    with pytest.raises(InvalidRequest, match=option):
        finetune_recipe(preset="baseline", start="random", budget_s=60, seed=0, options={option: True})


def test_a_fine_tune_begins_with_the_foundations_generator_and_a_critic_that_knows_nothing():
    asked = {"preset": "tiny", "start": "foundation", "budget_s": 60, "seed": 0}
    fresh, kept = (finetune_recipe(**asked, options=o) for o in ({}, {"fresh_critic": False, "freeze_high_resolution": True}))
    assert fresh.fresh_critic and not fresh.freeze_high_resolution and kept.freeze_high_resolution
    assert finetune_recipe(**asked, options={"aim": "invent"}).fresh_critic
    foundation, _ = weights.foundation()
    for recipe, shared in ((fresh, {"generator", "ema", "encoder"}), (kept, {"generator", "ema", "encoder", "discriminator"})):
        state, untaught = begun(recipe, "foundation", num_classes=2), TrainState.fresh(replace(recipe, network=recipe_of_foundation()), num_classes=2)
        for name, module in state.modules().items():
            source, own, random = "ema" if name == "generator" else name, module.state_dict(), untaught.modules()[name].state_dict()
            layers = [k for k in own if k != "embed.weight"]
            if "embed.weight" in own and name in shared:
                before, after = (torch.pdist(e.float()).mean() for e in (foundation[f"{source}.embed.weight"], own["embed.weight"]))
                apart = (0.05, 0.2) if name == "discriminator" else (0.7, 1.4)
                assert apart[0] < after / before < apart[1], "classes that begin alike are told apart too late, by a critic that errs too early"
            assert all(torch.equal(own[k], (foundation[f"{source}.{k}"].float() if name in shared else random[k])) for k in layers), name


def recipe_of_foundation():
    return checkpoints.recipe_of(weights.foundation()[1]).network


@pytest.mark.parametrize(
    ("preset", "start", "options", "why"),
    [
        ("tiny", "foundation", {"freeze_high_resolution": True}, "with fresh_critic false"),
        ("tiny", "foundation", {"freeze_high_resolution": True, "fresh_critic": True}, "with fresh_critic false"),
        ("tiny", "foundation", {"fresh_critic": False, "spectral_norm": True}, "no spectral_norm"),
        ("tiny", "foundation", {"aim": "invent", "freeze_high_resolution": True, "spectral_norm": True}, "no spectral_norm"),
        ("tiny", "random", {"fresh_critic": False}, "start 'random'"),
        ("large", "random", {"freeze_high_resolution": True}, "start 'random'"),
        ("baseline", "random", {"fresh_critic": True}, "start 'random'"),
    ],
)
def test_what_is_kept_of_a_critic_has_to_be_the_foundations(preset, start, options, why):
    with pytest.raises(InvalidRequest, match=why):
        finetune_recipe(preset=preset, start=start, budget_s=60, seed=0, options=options)


def test_what_a_recipe_says_of_its_critic_is_so():
    asked = {"preset": "tiny", "budget_s": 60, "seed": 0}
    assert finetune_recipe(**asked, start="foundation", options={"fresh_critic": False, "freeze_high_resolution": True}).freeze_high_resolution
    assert finetune_recipe(**asked, start="foundation", options={"spectral_norm": True}).fresh_critic
    assert not finetune_recipe(**asked, start="random", options={}).fresh_critic


def test_to_invent_is_an_aim_that_options_may_vary(windows):
    asked = {"preset": "tiny", "start": "foundation", "budget_s": 1000, "seed": 0}
    plain, restoring, inventing, own = (
        finetune_recipe(**asked, options=o) for o in ({}, {"aim": "restore"}, {"aim": "invent"}, {"aim": "invent", "rate_discriminator": 3e-4})
    )
    assert restoring == plain
    assert inventing.total_s == pytest.approx(plain.total_s) and inventing.adversarial_s > 0.9 * plain.total_s
    assert not inventing.warm_s, "what reconstructs at no weight would learn nothing, and spoil the optimiser's averages"
    assert not inventing.reconstruction_weight and inventing.full_novelty_share == 1.0
    assert own == replace(inventing, rate_discriminator=3e-4)
    state = TrainState.fresh(replace(inventing, network=NETWORK, batch=8, half=False), num_classes=2)
    scene, _, _ = transplant(state, windows, 8, with_gradient=False)
    assert not scene.validity_B1RR.any(), "nothing of an exemplar is left"
    assert "l1" not in step(state, windows, "adversarial")


def test_latents_that_have_to_differ_do_and_within_bounds(windows):
    """Beside an adversary alone: without it a new latent changes next to nothing."""
    recipe = replace(SMALL, reconstruction_weight=0.0, ring_weight=0.0, full_novelty_share=1.0, rate_generator=1e-3)
    seen = {}
    for weight in (0.0, 1.0):
        state = TrainState.fresh(replace(recipe, diversity_weight=weight), num_classes=2)
        for _ in range(100):
            figures = step(state, windows, "adversarial")
        random = torch.Generator().manual_seed(0)
        scene, _ = transplant_scene(windows, draw_indices(windows, 8, random), Mixture.of(recipe), random)
        with torch.no_grad():
            first, second = (complete(state.generator, scene, torch.randn(8, NETWORK.latent, generator=random)) for _ in range(2))
        seen[weight] = float(((first - second).abs() * scene.mask_B1RR).sum() / (3 * scene.mask_B1RR.sum()))
        assert ("alike" in figures) == bool(weight)
    assert seen[0.0] < 0.5 * LIVELY < 0.8 * LIVELY < seen[1.0] < 3 * LIVELY, seen


def test_pairs_show_one_scene_from_two_latents(windows):
    state = TrainState.fresh(replace(SMALL, diversity_weight=1.0), num_classes=2)
    scene, real, fake = transplant(state, windows, 8, with_gradient=False)
    for value in (*scene.__dict__.values(), *real.__dict__.values()):
        assert len(value) == 8 and torch.equal(*value.chunk(2))
    assert not torch.equal(*fake.chunk(2))
    whole = torch.ones(2, 1, 4, 4)
    assert float(alike(torch.zeros(4, 3, 4, 4), whole.repeat(2, 1, 1, 1))) == 1.0
    half = torch.cat([torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), LIVELY / 2)])
    assert float(alike(half, whole.repeat(2, 1, 1, 1))) == pytest.approx(0.5)
    assert float(alike(half * 9, whole.repeat(2, 1, 1, 1))) == 0.0
    left = torch.cat([whole[:1], 0 * whole[:1]]).repeat(2, 1, 1, 1)
    assert float(alike(half, left)) == pytest.approx(0.25), "where nothing is free to be painted nothing is asked"


@pytest.mark.parametrize(("preset", "aim", "says"), [("baseline", "invent", "plain DCGAN"), ("tiny", "dream", "there are restore, invent")])
def test_an_aim_that_cannot_be_had_is_refused(preset, aim, says):
    with pytest.raises(InvalidRequest, match=says):
        finetune_recipe(preset=preset, start="random", budget_s=60, seed=0, options={"aim": aim})


def test_r1_alone_is_the_penalty_of_the_real_side(windows):
    figures = {}
    for kind in ("r1", "r1_r2"):
        state = TrainState.fresh(replace(SMALL, penalty=kind), num_classes=2)
        figures[kind] = float(step(state, windows, "catch_up")["penalty"])
    assert 0 < figures["r1"] < figures["r1_r2"]


def test_sizes_follow_their_schedule_across_a_resume(windows):
    recipe = replace(SMALL, warm_s=6, catch_up_s=2, adversarial_s=12, size_shares=(0.5, 0.5), evaluate_every_s=1e9)
    state = TrainState.fresh(recipe, num_classes=2)
    sizes = []
    for at in train(state, windows, None, clock=counting_clock(), report_every_s=1):
        sizes.append(at.figures["size_px"])
        if at.step == 6:
            state = checkpoints.from_bytes(checkpoints.to_bytes(state))
            break
    for at in train(state, windows, None, clock=counting_clock(), report_every_s=1):
        sizes.append(at.figures["size_px"])
    assert sizes == [16.0] * 10 + [32.0] * 10


def test_a_run_is_scored_at_the_size_that_it_trains(windows):
    recipe = replace(SMALL, warm_s=6, catch_up_s=2, adversarial_s=12, size_shares=(0.5, 0.5), evaluate_every_s=4)
    sizes = []

    def score(generator, size_px):
        sizes.append(size_px)
        return 1.0

    list(train(TrainState.fresh(recipe, num_classes=2), windows, None, clock=counting_clock(), score=score, report_every_s=1))
    assert sizes == [16, 16, 32, 32, 32]


def test_growing_does_not_undo_what_was_learned(windows):
    """L1 in the first steps at 32 px is far below that of a network that begins, although there is more detail to get wrong."""
    recipe = replace(SMALL, warm_s=400, catch_up_s=0, adversarial_s=0, size_shares=(0.9, 0.1), rate_warm=3e-3, evaluate_every_s=1e9,
                     full_novelty_share=1.0)  # fmt: skip
    _, reports = run(recipe, windows)
    l1 = [at.figures["l1"] for at in reports]
    assert np.mean(l1[360:372]) < 0.75 * np.mean(l1[:12])


@pytest.mark.parametrize("shares", [(0.5, 0.6), (0.2, 0.3, 0.5)], ids=["more_than_all", "more_sizes_than_there_are"])
def test_impossible_schedules_are_refused(shares):
    with pytest.raises(InvalidRequest, match="size_shares"):
        replace(SMALL, size_shares=shares)


def test_batches_balance_classes_and_never_take_an_object_for_its_own_exemplar():
    """Class 0 has 40 windows of 20 instances, class 1 four windows of two."""
    labels = torch.tensor([0] * 40 + [1] * 4)
    instances = torch.arange(22).repeat_interleave(2)
    few = Windows.plain(torch.zeros(44, 3, 8, 8, dtype=torch.uint8), torch.zeros(44, 4), labels, instances)
    draw = draw_indices(few, 4000, torch.Generator().manual_seed(0))
    assert 0.46 < float((labels[draw.target] == 1).float().mean()) < 0.54
    assert torch.equal(labels[draw.target], labels[draw.exemplar])
    assert not (instances[draw.target] == instances[draw.exemplar]).any()
    assert len(draw.target.unique()) == len(draw.exemplar.unique()) == 44


def test_the_only_instance_of_a_class_is_its_own_exemplar():
    one = Windows.plain(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 4), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]))
    draw = draw_indices(one, 100, torch.Generator().manual_seed(0))
    assert set(draw.exemplar[draw.target == 2].tolist()) == {2}


def test_novelty_keeps_to_its_range_and_its_share_of_none():
    drawn = Mixture(0.0, novelty_range=(0.1, 0.3), full_novelty_share=0.25).novelty(4000, torch.Generator().manual_seed(0))
    none = drawn == 1
    assert 0.22 < float(none.float().mean()) < 0.28
    assert 0.1 <= float(drawn[~none].min()) < float(drawn[~none].max()) <= 0.3


def test_truncated_latents_stay_within_and_lose_spread():
    random = torch.Generator().manual_seed(0)
    wide, cut = draw_latent(4000, 4, random), draw_latent(4000, 4, random, truncation=0.7)
    assert cut.abs().max() <= 0.7
    assert float(cut.std()) < 0.5 < float(wide.std())
    assert abs(float(cut.mean())) < 0.02


def test_interpolated_latents_keep_their_length_and_their_ends():
    first, second = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    path = interpolate(first, second, torch.linspace(0, 1, 5))
    assert torch.allclose(path[0], first, atol=1e-6)
    assert torch.allclose(path[-1], second, atol=1e-6)
    assert torch.allclose(path.norm(dim=1), torch.full((5,), 3.0), atol=1e-5)
    assert torch.allclose(interpolate(first, first, torch.tensor([0.0, 0.4, 1.0])), first.expand(3, 2))


# Recipes made to fail: each failure is named, its remedy is tried within the run, and the run says what became of it.


class Waits(TorchDispatchMode):
    """Operations for which the host would wait for a device, or copy to it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.lift_fresh.default, torch.ops.aten.nonzero.default):
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("phase", ["adversarial", "catch_up"])
def test_no_step_waits_for_the_device(windows, phase):
    state = TrainState.fresh(SMALL, num_classes=2)
    step(state, windows, "adversarial")  # the optimisers' slots are there
    with Waits() as waits:
        step(state, windows, phase)
        step(state, windows, "warm")
    assert waits.seen == []


def test_all_of_a_batch_is_judged_where_nothing_reconstructs(windows, monkeypatch):
    seen = []
    monkeypatch.setattr(steps, "transplant", lambda state, windows, count, **more: seen.append(count) or transplant(state, windows, count, **more))
    for recipe in (SMALL, replace(SMALL, reconstruction_weight=0.0)):
        step(TrainState.fresh(recipe, num_classes=2), windows, "adversarial")
    assert seen == [4, 8]


def test_what_a_picture_of_a_class_is_asked_of_the_task_and_the_caller_may_say_otherwise():
    assert options_for("detection", {"batch": 8}) == {"batch": 8}
    assert options_for("classification", {"batch": 8}) == {"batch": 8, "symmetries": "none", "whole_image_share": 1.0}
    assert options_for("classification", {"symmetries": "mirror"})["symmetries"] == "mirror"


def test_spectral_norm_cannot_grow():
    with pytest.raises(InvalidRequest, match="spectral_norm"):
        replace(OPTIONS["spectral_norm"], size_shares=(0.5, 0.5))


@pytest.mark.parametrize(("symmetries", "seen"), [("none", {0}), ("mirror", {0, 1}), ("all", {0, 1, 2, 3})])
def test_the_critic_sees_images_turned_only_as_their_symmetries_allow(symmetries, seen):
    """A picture with one bright corner: 0 as it is, 1 mirrored, 2 and 3 turned."""
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, :, :16, :12] = 1.0  # higher than wide, at the left
    ways = [picture, picture.flip(3), picture.transpose(2, 3), picture.flip(3).transpose(2, 3)]
    found = set()
    for seed in range(40):
        plan = Plan.draw(1, 0.0, torch.Generator().manual_seed(seed), symmetries=symmetries)
        out = augment(picture, torch.zeros(1, 1, 32, 32), plan)[0]
        found.add(int(np.argmin([float((out - way).abs().mean()) for way in ways])))
    assert found == seen


def test_an_exemplar_with_a_left_and_a_right_is_never_mirrored():
    random = torch.Generator().manual_seed(0)
    assert Warp.draw(64, random, mirrored=False).flip.sum() == 0
    assert 0 < Warp.draw(64, random).flip.sum() < 64
