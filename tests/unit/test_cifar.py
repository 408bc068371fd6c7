"""The yardstick's own arithmetic, and its legs on a tiny network and made-up images."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import cifar
from trainers.state import TrainState


def test_frechet_distance_by_hand():
    """Two Gaussians with covariance diag(1, 4) and diag(4, 4), means 3 apart: 9 + 5 + 8 - 2 (2 + 4) = 10."""
    rng = np.random.default_rng(0)
    white = rng.normal(size=(4000, 2))
    white = (white - white.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    first, second = white * [1.0, 2.0], white * [2.0, 2.0] + [3.0, 0.0]
    assert cifar.frechet(first, second) == pytest.approx(10.0, abs=1e-6)
    assert cifar.frechet(first, first) == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny network and made-up images: where the legs leave what they leave."""
    network = replace(cifar.NETWORK, widths=(8, 8, 8), critic_widths=(8, 8, 8), latent=8, style=8, tail=(4, 4))
    whole = cifar.recipe
    monkeypatch.setattr(cifar, "NETWORK", network)
    monkeypatch.setattr(cifar, "recipe", lambda seconds: replace(whole(seconds), network=network, batch=8, evaluate_every_s=0.4))
    monkeypatch.setattr(cifar, "PACKED", tmp_path / "packed.npz")
    monkeypatch.setattr(cifar, "SAMPLES", 200)
    labels = np.arange(300) % 10
    np.savez(tmp_path / "packed.npz", images=np.random.default_rng(0).integers(0, 255, (300, 32, 32, 3), dtype=np.uint8), labels=labels)
    return tmp_path / "out"


def test_a_second_leg_goes_on_from_the_first(small):
    seen = []
    for _ in range(2):
        cifar.run_leg(0.02, small)
        seen.append(json.loads((small / "state.json").read_text()))
    assert 0 < seen[0]["images"] < seen[1]["images"]
    assert seen[1]["elapsed_s"] > seen[0]["elapsed_s"] > 0.3
    samples = np.concatenate([np.load(p)["images"] for p in sorted(small.glob("samples*.npz"))])
    assert samples.shape == (200, 32, 32, 3)
    assert (small / "grid.png").exists()


def test_a_leg_goes_on_by_the_recipe_that_remedies_have_left(small):
    cifar.run_leg(0.01, small)
    state = cifar.opened(small, 1.0)
    state.recipe = replace(state.recipe, rate_generator=1e-4, rate_discriminator=5e-4)
    cifar.keep(state, small)
    again = cifar.opened(small, 9.0).recipe
    assert (again.rate_generator, again.rate_discriminator, again.projection_weight) == (1e-4, 5e-4, cifar.recipe(1.0).projection_weight)
    assert again.adversarial_s == pytest.approx(state.elapsed_s + 9.0)


def test_what_a_leg_that_is_cut_off_has_learned_is_kept(small, monkeypatch):
    monkeypatch.setattr(cifar, "SAVED_EVERY_S", 0.0)
    kept, keep = [], cifar.keep

    def cut_off(state, out):
        keep(state, out)
        kept.append(state.images)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cifar, "keep", cut_off)
    with pytest.raises(KeyboardInterrupt):
        cifar.run_leg(0.1, small)
    assert cifar.opened(small, 1.0).images == kept[-1] > 0


def test_samples_are_of_the_best_checkpoint_and_the_run_goes_on_from_its_last(small, monkeypatch):
    """Every look but the second is worse than the one before."""
    scores = iter([3.0, 1.0, *range(4, 1000)])
    seen, made, invent = [], [], cifar.invent

    def scorer(state, held):
        def score(generator, _):
            seen.append(generator.embed.weight.detach().clone())
            return float(next(scores))

        return score

    monkeypatch.setattr(cifar, "scorer", scorer)
    monkeypatch.setattr(cifar, "invent", lambda generator, labels, random: (made.append(generator.embed.weight.clone()), invent(generator, labels, random))[1])
    cifar.run_leg(0.06, small)
    assert len(seen) > 3 and torch.equal(made[0], seen[1]) and not torch.equal(seen[1], seen[-1])
    assert np.array_equal(np.load(small / "state.npz")["best.embed.weight"], seen[1].numpy())
    assert not np.array_equal(np.load(small / "state.npz")["ema.embed.weight"], seen[1].numpy())


def test_classes_are_told_once_and_begin_alike(small, monkeypatch):
    told, weights, chosen = [], [], []
    tell = cifar.tell_classes

    def heard(state):
        tell(state)
        weights.append(state.recipe.projection_weight)
        chosen.append((state.best, state.best_score))
        told.append(state.generator.embed.weight.detach().clone())

    monkeypatch.setattr(cifar, "tell_classes", heard)
    cifar.run_leg(0.01, small)
    first = np.load(small / "state.npz")
    untouched = TrainState.fresh(cifar.recipe(1), num_classes=10).discriminator.embed.weight.detach().numpy()
    assert not told and np.array_equal(first["discriminator.embed.weight"], untouched)  # nothing has been learned of classes
    monkeypatch.setattr(cifar, "WITHOUT_CLASSES", json.loads((small / "state.json").read_text())["images"] + 8)
    cifar.run_leg(0.08, small)
    assert len(told) == 1 and (told[0] == told[0][:1]).all() and weights == [1.0]
    assert chosen == [({}, np.inf)], "what was best without classes says nothing of what is best with them"
    state = json.loads((small / "state.json").read_text())
    assert 0 < state["adversarial_steps"] < state["step"]
    assert (np.ptp(np.load(small / "state.npz")["generator.embed.weight"], 0) > 0).all()
    cifar.run_leg(0.01, small)
    assert len(told) == 1


def test_features_go_on_where_they_were_cut_off(tmp_path, monkeypatch):
    asked = []

    def batches(images):
        for start in range(0, len(images), 50):
            if len(asked) == 30:
                raise KeyboardInterrupt
            part = images[start : start + 50]
            asked.append(len(part))
            yield np.array([[float(i.sum())] for i in part])

    monkeypatch.setattr(cifar, "inception_batches", batches)
    images = np.random.default_rng(0).integers(0, 255, (2050, 4, 4, 3), dtype=np.uint8)
    with pytest.raises(KeyboardInterrupt):
        cifar.features(images, tmp_path)
    asked.clear()
    found = cifar.features(images, tmp_path)
    assert sum(asked) == 1050 and found[:, 0].tolist() == images.sum((1, 2, 3)).tolist()
    asked.clear()
    assert np.array_equal(cifar.features(images, tmp_path), found) and not asked
    assert cifar.features(images[:100], tmp_path).shape == (100, 1) and asked == [50, 50]


def test_what_drives_the_augmentation_is_never_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "PACKED", tmp_path / "packed.npz")
    images = np.arange(500, dtype=np.uint16).view(np.uint8).reshape(500, 2)[:, :, None, None].repeat(32, 2).repeat(32, 3)
    images = np.concatenate([images, images[:, :1]], 1).transpose(0, 2, 3, 1)
    np.savez(tmp_path / "packed.npz", images=images, labels=np.arange(500) % 10)
    learn, held = cifar.windows()
    assert (len(learn), len(held)) == (250, 250)
    assert {int(v) for v in held.labels.bincount()} == {25}
    keys = [{tuple(v) for v in part.images[:, :, 0, 0].tolist()} for part in (learn, held)]
    assert not keys[0] & keys[1]
