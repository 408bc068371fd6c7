"""The uplift harness: the quick detector finds boxes in any shape of image, and a table asks all of its rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from longtail.boxes import iou
from trainers.uplift.arms import holm, paired_p, table
from trainers.uplift.detector import cache_scene, detect, train_head


@pytest.mark.parametrize(("width", "height"), [(500, 333), (333, 500), (640, 480)])
def test_a_found_box_lies_where_it_was_drawn_whatever_the_image_s_shape(width, height):
    pixels = np.full((height, width, 3), 30, dtype=np.uint8)
    box = (width * 0.55, height * 0.6, width * 0.8, height * 0.9)
    pixels[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = (230, 200, 40)
    scene = cache_scene(pixels, [box], [0])
    boxes, scores, _ = detect(train_head([scene], num_classes=1, steps=150, seed=0), scene)
    best = tuple(boxes[scores.argmax()].tolist())
    assert iou(best, box) > 0.9


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
    """Its own interval lies above zero (p = 0.03), but five rows were asked."""
    figures = {"AP": (0.0, 0.01, -0.01), "a": (0.0, 0.02, -0.02), "b": (0.1, 0.14, 0.19), "c": (0.0, 0.0, 0.01), "d": (0.01, -0.01, 0.0)}
    runs = []
    for seed in range(3):
        runs.append({"arm": "real", "figures": dict.fromkeys(figures, 0.5)})
        runs.append({"arm": "real + longtail", "figures": {k: 0.5 + v[seed] for k, v in figures.items()}})
    rows = {r["figure"]: r for r in table(runs)}
    assert rows["b"]["interval"][0] > 0
    assert 0.01 < rows["b"]["p"] < 0.05
    assert rows["b"]["says"] == "inconclusive"
