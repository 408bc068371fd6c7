"""The ways in which a run is made to fail: each must be named, its remedy tried, and what came of it told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtail.recipes import NetworkConfig
from tests.unit.test_training import NETWORK, SMALL, counting_clock, run, textured
from trainers import loop
from trainers.loop import train
from trainers.remedies import apply_remedy
from trainers.sampling import complete
from trainers.scenes import Mixture, draw_indices, transplant_scene
from trainers.shapes import draw_instance
from trainers.state import TrainState
from trainers.steps import step
from trainers.watchdogs import Finding, inspect, next_class
from trainers.windows import Windows, cut_windows


@pytest.fixture(scope="module")
def windows():
    return textured(24, seed=0)


def barks(reports, name):
    return [f for at in reports for f in at.findings if f.name == name and f.bad]


@pytest.mark.long
@pytest.mark.parametrize("loss", ["relativistic", "hinge"])
def test_a_critic_that_overpowers_is_named_and_slowed(windows, loss):
    recipe = replace(
        SMALL, catch_up_s=0, warm_s=0, adversarial_s=250, penalty_weight=0.0, rate_discriminator=1e-2, rate_generator=1e-6,
        discriminator_steps=2, reconstruction_weight=0.0, full_novelty_share=1.0, evaluate_every_s=25, loss=loss,
    )  # fmt: skip
    state, reports = run(recipe, windows)
    assert barks(reports, "d_overpowers")
    assert state.recipe.rate_discriminator < recipe.rate_discriminator
    assert any(e["name"] == "d_overpowers" and e["figure_after"] is not None for e in state.events)


def tagged(count, *, seed):
    """Discs of one colour framed in another: that the two belong together can only be known by heart."""
    random = torch.Generator().manual_seed(seed)
    frame, color = (torch.randint(0, 255, (count, 3, 1, 1), generator=random).float() for _ in range(2))
    images = torch.full((count, 3, 32, 32), 100.0)
    at = torch.arange(32) - 15.5
    far = at.abs() > 11
    images = torch.where(far[:, None] | far[None], frame, images)
    images = torch.where(at[:, None].square() + at.square() <= 25, color, images)
    boxes = torch.tensor([[0.34, 0.34, 0.66, 0.66]]).repeat(count, 1)
    return Windows.plain(images.byte(), boxes, torch.zeros(count, dtype=torch.long), torch.arange(count))


def test_a_critic_that_memorises_is_named_and_sees_stronger_augmentation():
    def still(state):
        for tail in state.generator.tails:  # a generator that adds nothing: its fakes are real discs in the wrong frame
            torch.nn.init.zeros_(tail.last.weight)

    recipe = replace(
        SMALL, network=replace(NETWORK, critic_widths=(16, 24, 32)), warm_s=0, catch_up_s=400, adversarial_s=0, penalty_weight=0.0,
        rate_discriminator=1e-3, novelty_range=(0.0, 0.0), full_novelty_share=0.0, evaluate_every_s=80,
    )  # fmt: skip
    state, reports = run(recipe, tagged(6, seed=1), tagged(16, seed=2), num_classes=1, change=still)
    assert barks(reports, "d_memorises")
    assert state.strength > 0


def test_a_latent_that_is_priced_out_is_named_and_made_cheaper(windows):
    recipe = replace(
        SMALL, warm_s=240, catch_up_s=0, adversarial_s=0, kl_weight=1.0, rate_warm=3e-3, full_novelty_share=1.0,
        ema_half_life_images=50.0, evaluate_every_s=60,
    )  # fmt: skip
    state, reports = run(recipe, windows)
    assert barks(reports, "latent_ignored")
    assert state.recipe.kl_weight < recipe.kl_weight


def test_a_class_that_means_nothing_is_named(windows):
    """Every window is there under both labels, so that the best a generator can do is not to read them."""
    twice = Windows.plain(windows.images.repeat(2, 1, 1, 1), windows.boxes.repeat(2, 1), torch.arange(2).repeat_interleave(24), torch.arange(24).repeat(2))
    recipe = replace(
        SMALL, warm_s=240, catch_up_s=0, adversarial_s=90, projection_fade_steps=80, rate_warm=3e-3, rate_generator=1e-5, ema_half_life_images=50.0,
        evaluate_every_s=30,
    )  # fmt: skip
    state, reports = run(recipe, twice)
    assert barks(reports, "class_ignored")
    soonest = recipe.warm_s + recipe.projection_fade_steps / 2
    assert all(e["elapsed_s"] >= soonest for e in state.events if e["name"] == "class_ignored"), "before, the class hardly counts: its remedy is no answer"
    assert state.recipe.projection_weight > recipe.projection_weight


def test_a_class_is_compared_with_those_that_are_learned_beside_it(windows):
    """Of a dataset's classes a fine-tune learns some; an embedding that nothing trains says nothing of those."""
    assert next_class(torch.tensor([1, 4, 7]), torch.tensor([4, 7, 1, 4])).tolist() == [7, 1, 4, 7]
    state = TrainState.fresh(replace(SMALL, projection_fade_steps=1), num_classes=9)
    state.adversarial_steps = 1
    one, two = (Windows.plain(windows.images, windows.boxes, torch.arange(len(windows)) % labels * 4 + 1, windows.instances) for labels in (1, 2))
    assert "class_ignored" not in {f.name for f in inspect(state, one, None)}
    state.ema.module.embed.weight.data[[0, 2, 6]] = 9.0
    untouched = next(f for f in inspect(state, two, None) if f.name == "class_ignored").figure
    state.ema.module.embed.weight.data[[0, 2, 6]] = -9.0
    assert next(f for f in inspect(state, two, None) if f.name == "class_ignored").figure == untouched


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [("latent_ignored", {"reconstruction_weight": 0.0, "diversity_weight": 8.0}, "as much as can be"), ("seams", {"ring_weight": 0.0}, "no boundary ring loss"),
     ("seams", {"ring_weight": 8.0}, "at its most"), ("class_ignored", {"projection_weight": 8.0}, "at its most"), ("d_memorises", {}, "strongest"),
     ("class_collapse", {}, "no checkpoint"), ("class_repeats", {"diversity_weight": 8.0}, "as much as can be"),
     ("latent_ignored", {"kl_weight": 0.0, "diversity_weight": 8.0}, "as much as can be"),
     ("class_ignored", {"network": NetworkConfig(architecture="dcgan", resolution_px=64, smallest_px=64)}, "no projection")],
)  # fmt: skip
def test_a_remedy_that_would_change_nothing_is_not_told_as_tried(name, change, says):
    state = TrainState.fresh(replace(SMALL, **change), num_classes=2)
    state.strength, before = 1.0, state.recipe
    said = apply_remedy(state, Finding(name, 0.9, "", True, "do something"))
    assert said.startswith("none: ") and says in said and state.recipe == before


@pytest.mark.parametrize(("name", "recipe"), [("latent_ignored", replace(SMALL, reconstruction_weight=0.0)), ("class_repeats", SMALL)])
def test_latents_that_nobody_hears_are_asked_to_differ_where_they_have_no_price_and_objects_that_come_again_always(name, recipe):
    state = TrainState.fresh(recipe, num_classes=2)
    for weight in (1.0, 2.0, 4.0, 8.0):
        assert not apply_remedy(state, Finding(name, 0.0, "", True, "louder")).startswith("none")
        assert state.recipe == replace(recipe, diversity_weight=weight)
    assert apply_remedy(state, Finding(name, 0.0, "", True, "louder")).startswith("none")


@pytest.mark.parametrize("labels", [2, 40], ids=["two_classes", "forty_classes"])
def test_samples_that_are_all_alike_are_named_a_collapse_and_the_best_weights_come_back(labels):
    windows = textured(max(24, 4 * labels), seed=0, labels=labels)
    flat = Windows.plain(windows.images.clone(), windows.boxes, windows.labels, windows.instances)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[6:26, 6:26] = False
    flat.images[:, :, outside] = 100  # one ground for all: nothing but the latent could tell samples apart
    recipe = replace(
        SMALL, warm_s=240, catch_up_s=0, adversarial_s=0, kl_weight=10.0, rate_warm=5e-3, evaluate_every_s=60, full_novelty_share=1.0,
        ema_half_life_images=50.0,
    )  # fmt: skip
    state, reports = run(recipe, flat, num_classes=labels)
    assert barks(reports, "class_collapse")
    first = next(e for e in state.events if e["name"] == "class_collapse")
    assert first["remedy"].startswith("none"), "nothing chooses checkpoints in this run, and it says so"


@pytest.mark.parametrize("adds", [0.0, -0.8], ids=["nothing", "one_colour"])
def test_a_generator_that_paints_alike_on_grounds_that_differ_is_a_collapse(windows, adds):
    """What lies about an object, and shines through its edges, has a spread of its own: it is no spread of what was invented."""
    state = TrainState.fresh(SMALL, num_classes=2)
    for tail in state.ema.module.tails:
        torch.nn.init.zeros_(tail.last.weight)
        torch.nn.init.constant_(tail.last.bias, adds)
    finding = next(f for f in inspect(state, windows, None) if f.name == "class_collapse")
    assert finding.bad and finding.figure < 0.05


def pictures(count):
    """Windows that objects fill: nothing lies about them by which samples could differ."""
    small = textured(count, seed=0, labels=1)
    images = small.images[:, :, 8:24, 8:24].repeat_interleave(2, 2).repeat_interleave(2, 3)
    return Windows.plain(images, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1), small.labels, small.instances)


def repeats_of(windows, *, latents=None):
    """What is said of a loud generator that was never trained, at several looks; it may take one of so many latents whichever it is given."""
    state = TrainState.fresh(SMALL, num_classes=1)
    for tail in state.ema.module.tails:
        torch.nn.init.normal_(tail.last.weight, std=1.0)
    if latents:
        known = torch.randn(latents, NETWORK.latent, generator=torch.Generator().manual_seed(0))
        state.ema.module.register_forward_pre_hook(lambda _, given: (given[0], known[torch.cdist(given[1], known).argmin(1)], given[2]))
    state.adversarial_steps, found = 1, []
    for state.step in range(8):
        found += [f for f in inspect(state, windows, None) if f.name in ("class_repeats", "class_collapse")]
    return found


@pytest.mark.parametrize("count", [200, 40, 20])
def test_samples_that_differ_are_no_repeats(count):
    assert not any(f.bad for f in repeats_of(pictures(count)))


@pytest.mark.parametrize(("count", "latents"), [(200, 50), (200, 20), (40, 20), (20, 8)])
def test_a_few_objects_again_and_again_are_named_though_they_are_spread_widely(count, latents):
    found = repeats_of(pictures(count), latents=latents)
    assert np.mean([f.bad for f in found if f.name == "class_repeats"]) > 0.6
    assert np.mean([f.bad for f in found if f.name == "class_collapse"]) < 0.2, "by their spread alone next to nothing is told"


def test_of_classes_with_few_objects_no_variety_is_asked():
    assert not [f for f in repeats_of(pictures(15)) if f.name == "class_repeats"]
    several = pictures(15)
    crops = Windows.plain(*(torch.cat([v, v]) for v in (several.images, several.boxes, several.labels, several.instances)))
    assert not [f for f in repeats_of(crops) if f.name == "class_repeats"], "two windows of an object are one object"


def test_objects_too_thin_to_have_an_inside_hide_no_collapse():
    """Drawn cracks at 32 px: where no pixel is painted wholly, nothing is told, and where some are, one colour is still a collapse."""
    rng = np.random.default_rng(0)
    drawn = [i for i in (draw_instance(rng, size=96, first_label=0) for _ in range(150)) if i.label == 5]
    windows = cut_windows([replace(i, label=0) for i in drawn], resolution=32, per_instance=2, seed=0)
    state = TrainState.fresh(SMALL, num_classes=1)
    for tail in state.ema.module.tails:
        torch.nn.init.zeros_(tail.last.weight)
        torch.nn.init.constant_(tail.last.bias, -0.8)
    said = []
    for state.step in range(12):
        said.append(next(f for f in inspect(state, windows, None) if f.name == "class_collapse").bad)
    assert np.mean(said) > 0.8


def test_rates_that_throw_weights_away_are_halved_until_the_run_goes_on(windows):
    """A recipe's own doing: the gradient is clipped, the rate is not."""
    recipe = replace(SMALL, warm_s=60, catch_up_s=0, adversarial_s=0, rate_warm=1e18, evaluate_every_s=10)
    state, reports = run(recipe, windows)
    found = [e for e in state.events if e["name"] == "nan"]
    assert found and all(e["remedy"] for e in found)
    assert state.recipe.rate_warm == pytest.approx(recipe.rate_warm / 2 ** len(found))
    assert reports[-1].phase == "done" or reports[-1].fraction == 1
    assert all(torch.isfinite(p).all() for module in state.modules().values() for p in module.parameters())


def test_a_run_that_collapses_goes_back_to_its_best_weights_and_slower_until_it_holds(windows):
    """The critic learns nothing and the generator runs away from it at a rate far too high: every object becomes one colour."""
    recipe = replace(
        SMALL, warm_s=20, catch_up_s=0, adversarial_s=120, kl_weight=3e-5, rate_warm=3e-3, rate_generator=0.01, rate_discriminator=1e-6,
        reconstruction_weight=0.0, ring_weight=0.0, full_novelty_share=1.0, ema_half_life_images=50.0, evaluate_every_s=10,
    )  # fmt: skip
    state = TrainState.fresh(recipe, num_classes=2)
    reports = list(train(state, windows, None, clock=counting_clock(), score=far_off(windows), report_every_s=1))
    found = [e for e in state.events if e["name"] == "class_collapse"]
    assert found and found[0]["remedy"] == "go back to the best checkpoint, at half the generator's rate" and found[0]["gone"]
    assert state.recipe.rate_generator == pytest.approx(recipe.rate_generator / 2 ** len(found))
    assert state.best_score == min(at.score for at in reports if at.score is not None)
    assert all(torch.equal(v, state.best[k]) for k, v in state.ema.module.state_dict().items())
    assert not next(f for f in inspect(state, windows, None) if f.name == "class_collapse").bad


def far_off(windows):
    """Mean distance of invented objects to those in whose places they are."""
    random = torch.Generator().manual_seed(0)
    draw = draw_indices(windows, 24, random)
    scene, _ = transplant_scene(windows, draw, replace(Mixture.of(SMALL), ground_share=0.0), random)
    latent = torch.randn(24, NETWORK.latent, generator=random)
    return lambda generator, size_px: float((complete(generator, scene, latent) - windows.floats(draw.target)).detach().abs().mean())


def test_a_collapse_takes_what_is_trained_and_what_is_served_back():
    state = TrainState.fresh(SMALL, num_classes=2)
    state.best = {k: torch.randn_like(v) if v.is_floating_point() else v.clone() for k, v in state.ema.module.state_dict().items()}
    apply_remedy(state, Finding("class_collapse", 0.0, "", True, ""))
    for module in (state.generator, state.ema.module):
        assert all(torch.equal(v, state.best[k]) for k, v in module.state_dict().items())


def test_weights_that_break_right_before_they_would_be_kept_are_not_kept(windows, monkeypatch, breaking):
    """The loss of the step was finite, its gradient was not: what is put back must be from before."""
    monkeypatch.setattr(loop, "stepper", lambda recipe: breaking(step, 10, 17))
    recipe = replace(SMALL, warm_s=30, catch_up_s=0, adversarial_s=0, evaluate_every_s=5)
    state, _ = run(recipe, windows)
    assert sum(e["name"] == "nan" for e in state.events) == 2
    assert all(torch.isfinite(p).all() for module in state.modules().values() for p in module.parameters())


def test_rates_that_tear_the_seams_are_named(windows):
    recipe = replace(SMALL, warm_s=40, catch_up_s=0, adversarial_s=0, ring_weight=0.5, rate_warm=0.3, evaluate_every_s=10)
    state, reports = run(recipe, windows)
    assert barks(reports, "seams")
    assert state.recipe.ring_weight > recipe.ring_weight


def test_a_healthy_run_barks_at_nothing_and_one_remedied_says_that_it_is_gone(windows):
    apart = Windows.plain(windows.images.clone(), windows.boxes, windows.labels, windows.instances)
    apart.images[apart.labels == 1, :, 6:26, 6:26] //= 4  # the classes differ: there is something to learn
    recipe = replace(
        SMALL, warm_s=200, catch_up_s=0, adversarial_s=0, rate_warm=3e-3, kl_weight=1e-5, ema_half_life_images=50.0, evaluate_every_s=100
    )
    state, reports = run(recipe, apart)
    assert not [f for at in reports for f in at.findings if f.bad]
    assert state.events == []
    state = TrainState.fresh(recipe, num_classes=2)
    sick = True
    for at in train(state, apart, None, clock=counting_clock(), report_every_s=1):
        if sick and at.step == 30:
            sick = False
            with torch.no_grad():
                state.generator.tails[0].last.weight.fill_(torch.nan)
    assert [(e["name"], e["gone"]) for e in state.events if e["name"] == "nan"] == [("nan", True)]
