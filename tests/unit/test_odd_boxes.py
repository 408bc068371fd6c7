"""Boxes of odd sizes: which they are, and that their pictures show them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from infra.odd_boxes import surroundings
from longtail.odd_boxes import SHOWN, distance, odd_boxes, usual_sides
from longtail.samples import Annotation, Sample

NAMES = {1: "WBC", 2: "RBC"}


def boxed(key, *sides, category=1, **extra):
    """An image with a box for each longer side."""
    annotations = tuple(Annotation(category_id=category, bbox_xywh=(0.0, 0.0, float(side), 5.0), extra=extra) for side in sides)
    return Sample(id=key, path=f"{key}.png", uri="u", etag="e", size_bytes=1, width=900, height=900, split="train", annotations=annotations)


CELLS = boxed("cells", 96, 150, 160, 170, 180, 190, 200, 210, 220, 230, 260)


def found(*samples):
    return odd_boxes(lambda: samples, NAMES)


def test_a_box_of_a_size_unlike_its_class_is_odd_and_named():
    """As in the blood cells: one "white cell" of 31 px beside cells of 96 to 260; the same size is usual in another class."""
    told = found(CELLS, boxed("more", 31), boxed("red", *[31] * 20, category=2))
    low, high = told["classes"]["WBC"]["usual_px"]
    assert 31 < low < 96 and high > 260
    assert (told["boxes"], told["classes"]) == (1, {"WBC": {"odd": 1, "usual_px": (low, high)}})
    assert told["first"] == [
        {"id": "more", "path": "more.png", "split": "train", "class_name": "WBC", "bbox_xywh": (0.0, 0.0, 31.0, 5.0), "usual_px": (low, high)},
    ]


def test_those_furthest_from_their_class_come_first_and_no_more_than_are_shown():
    many = [boxed("cells", *[100] * 1000), boxed("near", *[30] * SHOWN), boxed("far", 2), boxed("large", 1000)]
    told = found(*many)
    assert told["boxes"] == SHOWN + 2
    assert [f["path"] for f in told["first"][:3]] == ["far.png", "large.png", "near.png"]
    assert len(told["first"]) == SHOWN


def test_crowds_and_whole_images_are_no_boxes():
    whole = Sample(id="w", path="w.png", uri="u", etag="e", size_bytes=1, width=9, height=9, split="train", annotations=(Annotation(category_id=1),))
    assert found(CELLS, boxed("crowd", 800, 5, iscrowd=1), whole) == {"boxes": 0, "classes": {}, "first": []}
    assert found() == {"boxes": 0, "classes": {}, "first": []}


@pytest.mark.parametrize(
    ("sides", "odd"),
    [
        ({}, []),
        ({40: 6, 400: 1}, []),  # of seven boxes nothing is said
        ({40: 7, 400: 1}, [400]),
        ({40: 100}, []),
        ({40: 99, 50: 1}, []),  # all alike: a quarter more is nothing
        ({1: 1, 40: 99}, [1]),
        ({10: 25, 20: 25, 40: 25, 80: 25}, []),
    ],
)
def test_what_is_odd_depends_on_how_sizes_spread(sides, odd):
    assert [side for side in sides if distance(side, usual_sides(sides)) > 0] == odd


def test_sizes_that_merely_vary_are_hardly_ever_odd():
    """Log-normal sizes, wide and narrow: at most one class of 50 boxes in fifty has one."""
    rng = np.random.default_rng(0)
    wrong = 0
    for spread in (0.1, 0.4, 0.8):
        for _ in range(100):
            values, counts = np.unique(np.maximum(1, np.round(np.exp(rng.normal(5, spread, 50)))).astype(int), return_counts=True)
            sides = dict(zip(values.tolist(), counts.tolist(), strict=True))
            wrong += any(distance(side, usual_sides(sides)) > 0 for side in sides)
    assert wrong <= 6


@pytest.mark.parametrize(
    "box",
    [
        (300.0, 100.0, 340.0, 130.0),  # in the midst
        (0.0, 0.0, 30.0, 12.0),  # in a corner
        (560.0, 190.0, 600.0, 200.0),  # in the other
        (100.0, 20.0, 500.0, 120.0),  # large: shown smaller
        (250.0, 60.0, 255.0, 64.0),  # tiny: with enough about it
    ],
)
def test_a_picture_shows_the_box_where_it_says(box):
    pixels = np.zeros((200, 600, 3), np.uint8)
    x0, y0, x1, y1 = map(int, box)
    pixels[y0:y1, x0:x1] = 255
    shown = surroundings(pixels, box)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["picture"]["png"]))))
    assert image.shape == (shown["picture"]["height"], shown["picture"]["width"], 3)
    assert max(image.shape[:2]) <= 300 and min(image.shape[:2]) > 8
    left, top, right, bottom = (round(v) for v in shown["box"])
    assert image[top + 1 : bottom - 1, left + 1 : right - 1].min() == 255
    image = image.copy()
    image[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = 0
    assert image.max() < 30  # nothing of it lies elsewhere
    assert shown["side_px"] == x1 - x0


@pytest.mark.parametrize("box", [(599.8, 50.0, 600.1, 90.0), (-0.5, 199.6, 20.0, 200.2), (-5.0, -5.0, 700.0, 300.0)])
def test_a_box_at_the_very_edge_is_shown(box):
    picture = surroundings(np.zeros((200, 600, 3), np.uint8), box)["picture"]
    assert picture["width"] > 1 and picture["height"] > 1
