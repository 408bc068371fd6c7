"""Figures of quality on clusters of features: KID and its interval, coverage, copies, agreement."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.quality.consistency import cross_fit, cross_fitted_agreement
from trainers.quality.copying import copy_threshold, nearest
from trainers.quality.coverage import density_and_coverage
from trainers.quality.kid import kid, kid_interval


def clusters(rng, count, center):
    found = rng.normal(0, 0.05, (count, 16)) + center
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_kid_tells_noise_from_the_real_thing():
    rng = np.random.default_rng(0)
    center = rng.normal(size=16)
    real, more, other = clusters(rng, 60, center), clusters(rng, 60, center), clusters(rng, 60, -center)
    assert abs(kid(real, more)) < 0.01
    assert kid(real, other) > 1


def test_a_generator_that_repeats_one_image_covers_little():
    rng = np.random.default_rng(0)
    real = clusters(rng, 60, np.ones(16))
    assert density_and_coverage(real, clusters(rng, 60, np.ones(16)))[1] > 0.8
    assert density_and_coverage(real, np.repeat(real[:1], 60, 0))[1] < 0.3


def test_training_images_handed_back_count_as_copies():
    rng = np.random.default_rng(0)
    train_images, val = clusters(rng, 60, np.ones(16)), clusters(rng, 60, np.ones(16))
    limit = copy_threshold(train_images, val)
    assert (nearest(train_images, train_images)[1] < limit).mean() > 0.95
    assert (nearest(clusters(rng, 60, np.ones(16)), train_images)[1] < limit).mean() < 0.1


def test_agreement_is_high_for_classes_that_differ_and_a_coin_for_those_that_do_not():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    apart = np.where(labels[:, None] == 1, clusters(rng, 60, np.ones(16)), clusters(rng, 60, -np.ones(16)))
    assert cross_fitted_agreement(cross_fit(apart, labels, classes=2), apart, labels).mean() > 0.9
    same = clusters(rng, 60, np.ones(16))
    assert 0.3 < cross_fitted_agreement(cross_fit(same, labels, classes=2), same, labels).mean() < 0.7


def test_a_sample_is_judged_by_a_classifier_that_never_saw_what_it_derives_from():
    """Labels that mean nothing: who has seen an object knows its label by heart, who has not is as good as a coin."""
    rng = np.random.default_rng(1)
    seen, labels = rng.normal(0, 0.05, (60, 200)).astype(np.float32), np.arange(60) % 2
    fitted = cross_fit(seen, labels, classes=2)
    derived = seen + rng.normal(0, 1e-4, seen.shape).astype(seen.dtype)
    by_heart = fitted.probabilities(derived, [[]] * 60)[np.arange(60), labels].mean()
    fair = fitted.probabilities(derived, [[row] for row in range(60)])[np.arange(60), labels].mean()
    assert fair < 0.6 < by_heart


def test_the_only_object_of_a_class_stays_known_to_every_classifier():
    rng = np.random.default_rng(2)
    seen = np.concatenate([clusters(rng, 20, np.ones(16)), clusters(rng, 1, -np.ones(16))])
    fitted = cross_fit(seen, np.array([0] * 20 + [1]), classes=2)
    assert fitted.probabilities(seen[20:], [[20]])[0, 1] > 0.5


@pytest.mark.parametrize("away", [0.0, 0.4, 1.0])
def test_the_interval_of_kid_holds_the_truth_as_often_as_it_says(away):
    """95 % of the intervals, give or take what 120 experiments allow: of samples alike and of those that a gate has to tell apart."""
    rng = np.random.default_rng(3)
    ones, other = np.ones(16), np.ones(16) + away * np.eye(16)[0]
    truth = kid(clusters(rng, 1500, ones), clusters(rng, 1500, other))
    held, widths, figures = 0, [], []
    for k in range(120):
        real, fake = clusters(rng, 40, ones), clusters(rng, 100, other)
        low, high = kid_interval(real, fake, seed=k, rounds=100)
        held += low <= truth <= high
        widths.append(high - low)
        figures.append(kid(real, fake))
    assert held >= 105
    if away:
        assert np.median(widths) < 1.5 * 2 * 1.96 * np.std(figures), "no wider than it has to be"
