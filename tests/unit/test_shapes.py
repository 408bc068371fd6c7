"""The drawn part of the foundation's diet: outlines are true, every kind can be seen, bodies are not plain."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.shapes import draw_instance
from trainers.silhouettes import KINDS
from trainers.windows import box_pixels

SIZE = 96
MARGIN_PX = 6
"""Edges are soft."""


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(4)
    return [draw_instance(rng, size=SIZE, first_label=3) for _ in range(160)]


def in_image(instance):
    left, top, right, bottom = box_pixels(instance.box_xyxy)
    whole = np.zeros((SIZE, SIZE), dtype=bool)
    whole[top:bottom, left:right] = instance.outline
    return whole


def test_the_same_seed_draws_the_same_picture():
    first, second = (draw_instance(np.random.default_rng(9), size=SIZE, first_label=0) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert first.box_xyxy == second.box_xyxy


def test_every_kind_is_drawn_and_fills_its_box_to_the_edges(drawn):
    assert {i.label for i in drawn} == set(range(3, 3 + len(KINDS)))
    for instance in drawn:
        for edge in (instance.outline[0], instance.outline[-1], instance.outline[:, 0], instance.outline[:, -1]):
            assert edge.any()


def test_what_is_added_to_the_ground_lies_in_the_outline(drawn):
    """Far from the outline picture and ground differ by their noise alone, inside it the object shows in nearly all."""
    shows = []
    for instance in drawn:
        difference = np.abs(instance.image.astype(float) - instance.ground[0]).mean(2)
        inside = in_image(instance)
        near = np.pad(inside, MARGIN_PX)
        near = np.any([np.roll(near, (y, x), (0, 1)) for y in range(-MARGIN_PX, MARGIN_PX + 1, 2) for x in range(-MARGIN_PX, MARGIN_PX + 1, 2)], 0)
        outside = difference[~near[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]]
        assert outside.mean() < 12
        shows.append(difference[inside].mean() > outside.mean() + 4)
    assert np.mean(shows) > 0.95


def test_bodies_hold_more_than_their_light(drawn):
    """A plane through the light of a body leaves structure in most: what is fed plain invents plain."""
    left_over = []
    for instance in drawn:
        inside = in_image(instance)
        if inside.sum() < 150:
            continue
        y, x = np.nonzero(inside)
        light = instance.image[y, x].mean(1)
        plane = np.stack([x, y, np.ones_like(x)], 1)
        left_over.append(np.std(light - plane @ np.linalg.lstsq(plane, light, rcond=None)[0]))
    assert np.median(left_over) > 8
