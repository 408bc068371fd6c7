"""The reference classifiers and what is asked of their predictions."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.uplift.arms import figures_of, measure, outcome_of, primary_of
from trainers.uplift.bench import Bench, Setting, drawn_again
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled
from trainers.uplift.predictions import Predictions, pack, unpack
from trainers.uplift.predictions import figures_of as asked_of

NAMES = ["stripes", "checks"]


def textures(count, seed):
    """Pictures of stripes and of checks, in colours that say nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        y, x = np.mgrid[:64, :64] // 8
        pattern = (x % 2) if k % 2 == 0 else (x + y) % 2
        colors = rng.integers(0, 255, (2, 3))
        found.append(Labelled(colors[pattern].astype(np.uint8), [], [k % 2]))
    return found


@pytest.mark.parametrize(("model", "weights", "steps"), [("classifier", "pretrained", 30), ("classifier", "random", 120), ("probe", "pretrained", 5)])
def test_a_reference_classifier_tells_stripes_from_checks(model, weights, steps):
    bench = Bench(Setting(model, steps, weights=weights, side_px=64), NAMES, Canvas((32, 32)))
    train, test = textures(24, 0), textures(20, 1)
    packed = bench.run(bench.prepare(train), {"test": (test, bench.prepare(test))}, seed=0)["test"]
    figures = figures_of(model, NAMES, [])
    assert measure(outcome_of(model, packed), figures)[primary_of(model, [], figures)] > 0.9


def test_f1_and_balanced_accuracy_by_hand():
    """Truth 0 0 0 1, said 0 0 1 1: recall 2/3 and 1; F1 2*2/(3+2) = 0.8 and 2*1/(1+2) = 2/3."""
    run, one = Predictions(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])), np.ones((1, 4))
    asked = {name: float(figure(run, one)[0]) for name, figure in asked_of(NAMES, ["checks"]).items()}
    assert asked == pytest.approx(
        {"macro-F1": (0.8 + 2 / 3) / 2, "F1/rare": 2 / 3, "balanced accuracy": (2 / 3 + 1) / 2, "F1/stripes": 0.8, "F1/checks": 2 / 3}
    )


def test_an_image_that_counts_twice_is_there_twice():
    run, again = Predictions(np.array([0, 0, 1]), np.array([0, 1, 1])), Predictions(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]))
    for name, figure in asked_of(NAMES).items():
        assert float(figure(run, np.array([[1.0, 2.0, 1.0]]))[0]) == pytest.approx(float(asked_of(NAMES)[name](again, np.ones((1, 4)))[0]))


def test_a_class_of_no_image_is_not_a_number():
    figure = asked_of(NAMES)["F1/checks"]
    assert np.isnan(figure(Predictions(np.array([0]), np.array([0])), np.ones((1, 1)))[0])
    assert measure(Predictions(np.array([0]), np.array([0])), asked_of(NAMES))["F1/checks"] is None


def test_predictions_come_back_from_text_as_they_were():
    run = Predictions(np.array([0, 3, 2]), np.array([1, 3, 0]))
    again = unpack(pack(run))
    assert np.array_equal(again.truth, run.truth) and np.array_equal(again.said, run.said)


def test_runs_of_a_probe_differ_by_their_images_drawn_again_each_class_as_often_as_it_is_there():
    labels = np.array([0] * 5 + [1] * 3)
    first, other = drawn_again(labels, 0), drawn_again(labels, 1)
    assert sorted(labels[first]) == sorted(labels) and not np.array_equal(first, other)
