"""Boxes, by hand and by property."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.boxes import area, check_inside, clip, dilate, intersection, iou, xywh_to_xyxy, xyxy_to_xywh
from longtail.errors import InvalidRequest

coordinate = st.integers(-500, 500)
boxes_xywh = st.tuples(coordinate, coordinate, st.integers(0, 500), st.integers(0, 500))


@given(boxes_xywh)
def test_xywh_round_trips(box):
    assert xyxy_to_xywh(xywh_to_xyxy(box)) == box


@given(boxes_xywh, boxes_xywh)
def test_iou_is_symmetric_and_within_one(a, b):
    a, b = xywh_to_xyxy(a), xywh_to_xyxy(b)
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1


def test_iou_by_hand():
    """Two 2x2 boxes that share 1x2: 2 of 4 + 4 - 2 = 6."""
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)


def test_dilation_scales_the_area_by_its_square():
    assert area(dilate((10, 10, 20, 30), 1.2)) == pytest.approx(200 * 1.44)


def test_clip_stays_inside():
    assert clip((-5, -5, 500, 20), 100, 10) == (0, 0, 100, 10)


def test_boxes_that_touch_share_nothing():
    assert intersection((0, 0, 5, 5), (5, 0, 9, 5)) == 0


@pytest.mark.parametrize(
    ("box", "says"),
    [
        pytest.param((0, 0, 11, 5), "outside its image of 10x10", id="too_wide"),
        pytest.param((-1, 0, 5, 5), "outside", id="negative"),
        pytest.param((3, 3, 3, 5), "no area", id="zero_area"),
        pytest.param((5, 5, 3, 7), "no area", id="backwards"),
        pytest.param((math.nan, 0, 5, 5), "not a finite", id="nan"),
        pytest.param((0, 0, math.inf, 5), "not a finite", id="infinite"),
    ],
)
def test_a_bad_box_is_refused_by_name(box, says):
    with pytest.raises(InvalidRequest, match=says) as error:
        check_inside(box, 10, 10, what="annotation 7")
    assert "annotation 7" in str(error.value)


def test_a_box_touching_the_edge_is_inside():
    check_inside((0, 0, 10, 10), 10, 10, what="whole image")
