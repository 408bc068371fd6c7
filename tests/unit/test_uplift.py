"""The uplift harness: its detector finds boxes in any shape of image, and a table asks all of its rows at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtail.boxes import iou
from longtail.uplift import holm
from trainers.uplift.average_precision import average_precision
from trainers.uplift.detector import Canvas, detect, scenes, train_detector
from trainers.uplift.matches import figures_of, match, pack, unpack
from trainers.uplift.statistics import Difference, drawn_again, paired_difference, paired_interval, paired_p, verdicts


def drawn(width, height, box):
    """A bright box on dark ground."""
    pixels = np.full((height, width, 3), 30, dtype=np.uint8)
    pixels[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = (230, 200, 40)
    return pixels


@pytest.mark.parametrize(("width", "height"), [(500, 333), (333, 500), (640, 480)])
def test_a_found_box_lies_where_it_was_drawn_whatever_the_image_s_shape(width, height):
    box = (width * 0.55, height * 0.6, width * 0.8, height * 0.9)
    scene = scenes([(drawn(width, height, box), [box], [0])], Canvas.of([(width, height)], long_side_px=128))
    boxes, scores, _ = detect(train_detector(scene, num_classes=1, steps=300, seed=0), scene[0])
    assert iou(tuple(boxes[scores.argmax()]), box) > 0.9


def test_an_image_of_another_shape_than_most_is_padded_and_its_boxes_come_back_in_its_own_pixels():
    """A canvas of 256 x 192 from images of 640 x 480; one of 200 x 400 fits by its height, 0.48 of its size."""
    canvas = Canvas.of([(640, 480), (640, 480), (200, 400)])
    assert canvas.size == (256, 192)
    laid, scale = canvas.lay(np.zeros((400, 200, 3), dtype=np.uint8))
    assert laid.shape == (192, 256, 3) and scale == pytest.approx((0.48, 0.48))
    assert (laid[:, :96] == 0).all() and (laid[:, 96:] == 127).all()


def test_the_same_scenes_and_seed_train_the_same_detector_and_another_seed_another():
    box = (20.0, 30.0, 60.0, 70.0)
    scene = scenes([(drawn(128, 96, box), [box], [0])], Canvas.of([(128, 96)], long_side_px=128))
    first, again, other = (detect(train_detector(scene, num_classes=1, steps=5, seed=s), scene[0])[1] for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first[:5], other[:5])


def test_a_detector_from_random_weights_borrows_nothing_and_learns():
    box = (20.0, 30.0, 60.0, 70.0)
    scene = scenes([(drawn(128, 96, box), [box], [0])], Canvas.of([(128, 96)], long_side_px=128), weights="random")
    assert scene[0].maps.dtype == torch.uint8
    boxes, scores, _ = detect(train_detector(scene, num_classes=1, steps=300, seed=0, weights="random"), scene[0])
    assert iou(tuple(boxes[scores.argmax()]), box) > 0.7


def test_holm_asks_less_of_each_row_that_follows_a_fallen_one():
    """Four rows at 5 %: 0.0125, 0.0167, 0.025, 0.05 are wanted in turn; 0.03 stops the descent, and what follows stays."""
    assert holm([0.01, 0.03, 0.015, 0.04]) == [True, False, True, False]
    assert holm([0.02, 0.9]) == [True, False]
    assert holm([float("nan"), 0.001]) == [False, True]


def test_the_p_value_of_paired_differences_is_student_s():
    """Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641 on two degrees of freedom, p = 0.0742 (two-sided)."""
    assert paired_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.0742, abs=1e-4)
    assert paired_p(np.array([1.0])) == 1.0
    assert paired_p(np.array([2.0, 2.0])) == 1.0


def test_one_lucky_row_of_five_has_not_helped():
    """Its own p is below 0.05, but five rows were asked."""
    rows = [Difference(0.1, (0.01, 0.2), p, 6, 72) for p in (0.03, 0.4, 0.5, 0.6, 0.7)]
    assert verdicts(rows) == ["inconclusive"] * 5
    assert verdicts(rows[:1]) == ["helped"]
    assert verdicts([replace(rows[0], mean=-0.1)]) == ["harmed"]


def scattered(seed, *, images=12, classes=3):
    """(truth, detections) of random boxes: some detections near an object, some anywhere, scores without ties."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        corners = rng.uniform(0, 80, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 50, corners.shape)], 1)
        truth.append((boxes, rng.integers(0, classes, len(boxes))))
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 3, (2 * len(boxes), 4))
        far = rng.uniform(0, 60, (3, 2))
        seen = np.concatenate([near, np.concatenate([far, far + 20], 1)])
        said = np.concatenate([np.repeat(truth[-1][1], 2), rng.integers(0, classes, 3)])
        found.append((seen, rng.permutation(len(seen)) / len(seen) + rng.uniform(0, 1e-3, len(seen)), said))
    return truth, found


@pytest.mark.parametrize("seed", range(5))
def test_what_the_bootstrap_asks_is_what_faster_coco_eval_says(seed):
    truth, found = scattered(seed)
    names = ["a", "b", "c"]
    run = match(truth, found, classes=3)
    asked = {name: float(figure(run, np.ones((1, len(truth))))[0]) for name, figure in figures_of(names).items()}
    assert asked == pytest.approx(average_precision(truth, found, names), abs=1e-9)


def test_an_image_that_counts_twice_is_an_image_that_is_there_twice():
    truth, found = scattered(7)
    weights = np.array([[2.0, 0.0] + [1.0] * 10])
    again, seen = [truth[0], truth[0], *truth[2:]], [found[0], found[0], *found[2:]]
    names = ["a", "b", "c"]
    run = match(truth, found, classes=3)
    wanted = average_precision(again, seen, names)
    for name, figure in figures_of(names).items():
        assert float(figure(run, weights)[0]) == pytest.approx(wanted[name], abs=1e-9)


def test_a_class_of_no_object_is_not_a_number_and_counts_for_nothing():
    truth = [(np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([0]))]
    run = match(truth, [(np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([0.9]), np.array([0]))], classes=2)
    asked = {name: float(figure(run, np.ones((1, 1)))[0]) for name, figure in figures_of(["a", "b"]).items()}
    assert asked["AP"] == asked["AP50"] == asked["AP50/a"] == pytest.approx(1)
    assert np.isnan(asked["AP50/b"])


def weighted_mean(values_RI):
    """A figure that is the mean over images of each run's value there."""
    return lambda weights: weights @ values_RI.T / weights.sum(1, keepdims=True)


def test_the_wider_of_the_two_intervals_counts():
    rng = np.random.default_rng(0)
    alike = np.tile(rng.normal(0.1, 1.0, 40), (6, 1)) + rng.normal(0, 1e-3, (6, 40))  # runs agree, images do not
    d = paired_difference(weighted_mean(alike), draws=range(6), images=40)
    assert d.interval[1] - d.interval[0] == pytest.approx(2 * 1.96 * alike[0].std() / 40**0.5, rel=0.15)
    steady = rng.normal(0.1, 1.0, (6, 1)) + np.zeros((6, 40))  # images agree, runs do not
    low, high = paired_difference(weighted_mean(steady), draws=range(6), images=40).interval
    assert (low, high) == pytest.approx(paired_interval(steady.mean(1)))


def test_with_nothing_to_find_one_table_in_twenty_at_most_says_something():
    """Runs and images both vary around zero: of 200 experiments no more than chance allows find a difference."""
    rng = np.random.default_rng(1)
    found = 0
    for k in range(200):
        values = rng.normal(0, 0.05, (6, 1)) + rng.normal(0, 0.3, (1, 60)) + rng.normal(0, 0.3, (6, 60))
        found += verdicts([paired_difference(weighted_mean(values), draws=range(6), images=60, rounds=200, seed=k)]) != ["inconclusive"]
    assert found <= 14


def test_a_real_difference_is_found():
    rng = np.random.default_rng(2)
    values = 0.2 + rng.normal(0, 0.03, (6, 1)) + rng.normal(0, 0.3, (1, 60)) + rng.normal(0, 0.1, (6, 60))
    d = paired_difference(weighted_mean(values), draws=range(6), images=60)
    assert verdicts([d]) == ["helped"]
    assert d.interval[0] > 0


def test_a_single_run_proves_nothing():
    d = paired_difference(weighted_mean(np.full((1, 30), 0.5)), draws=[0], images=30)
    assert verdicts([d]) == ["inconclusive"]
    assert d.interval == (-np.inf, np.inf)


def test_seeds_of_a_draw_are_no_draws_of_their_own():
    """Nothing to find in three draws of two seeds whose draw says nearly all: one experiment in twenty finds something, not one in six."""
    rng = np.random.default_rng(3)
    found = 0
    for k in range(200):
        values = np.repeat(rng.normal(0, 0.09, (3, 1)), 2, 0) + rng.normal(0, 0.03, (6, 1)) + np.zeros((6, 20))
        low, high = paired_difference(weighted_mean(values), draws=[0, 0, 1, 1, 2, 2], images=20, rounds=50, seed=k).interval
        found += low > 0 or high < 0
    assert found <= 18


def test_runs_on_one_draw_are_no_draws_of_their_own():
    """Twenty runs on two draws of 0 and 0.4 are two draws: what Student's t says of two, not of twenty."""
    values = np.repeat([[0.0], [0.4]], 10, 0) + np.zeros((20, 40))
    alone = paired_difference(weighted_mean(values), draws=range(20), images=40)
    grouped = paired_difference(weighted_mean(values), draws=[0] * 10 + [1] * 10, images=40)
    assert grouped.interval == pytest.approx(paired_interval(np.array([0.0, 0.4])))
    assert 0.09 < alone.interval[0] < alone.interval[1] < 0.31


def test_each_round_counts_as_many_runs_as_there_are():
    counts = drawn_again(["a", "a", "b", "b"], 50, np.random.default_rng(0))
    assert (counts.sum(1) == 4).all() and len(np.unique(counts, axis=0)) > 5


def test_matches_come_back_from_text_as_they_were():
    truth, found = scattered(3)
    run = match(truth, found, classes=3)
    for before, after in zip(run, unpack(pack(run)), strict=True):
        assert all(np.array_equal(getattr(before, name), getattr(after, name)) for name in ("image", "found", "objects"))


def test_average_precision_over_the_rare_classes_is_the_mean_of_theirs():
    truth, found = scattered(4)
    run, one = match(truth, found, classes=3), np.ones((1, 12))
    asked = figures_of(["a", "b", "c"], ["b", "c"])
    wanted = np.mean([run[k].average_precision(one).mean() for k in (1, 2)])
    assert float(asked["AP/rare"](run, one)[0]) == pytest.approx(wanted)


@pytest.mark.parametrize("same", [0.1, 0.3, -0.05])
def test_differences_that_are_all_alike_prove_nothing_whatever_their_rounding(same):
    assert paired_p(np.full(6, same)) == 1.0
