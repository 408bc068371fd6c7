"""Outlines that nobody drew: estimated where object and ground can be told apart, and nowhere else; seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longtail.boxes import BoxXyxy
from longtail.gates import OVERLAP_IOU
from trainers.cutout import covered, estimated_outline
from trainers.quality.seams import real_step, seam
from trainers.render import Order, render
from trainers.windows import Instance


def disc(*, contrast=120, noise=6.0, seed=0, size=160, centre=(80, 70), radius=22):
    """A dark disc on light, noisy ground, and the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    pixels = 200 - contrast * inside[..., None] + rng.normal(0, noise, (size, size, 3))
    return pixels.clip(0, 255).astype(np.uint8), inside


@pytest.mark.parametrize("slack", [2, 10], ids=["box_about_the_object", "box_drawn_wide"])
def test_the_outline_of_a_disc_is_the_disc(slack):
    pixels, inside = disc()
    box: BoxXyxy = (80 - 22 - slack, 70 - 22 - slack, 80 + 22 + slack, 70 + 22 + slack)
    found = estimated_outline(pixels, box)
    wanted = inside[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])]
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9
    assert np.array_equal(found, estimated_outline(pixels, box))


def cell(*, neighbour=None, size=160, seed=0):
    """A dark nucleus in a pale body on light ground, a neighbour of the body's own colour; (pixels, body)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    body, nucleus = (x - 80) ** 2 + (y - 80) ** 2 < 30**2, (x - 74) ** 2 + (y - 76) ** 2 < 14**2
    pixels = np.full((size, size, 3), (205, 205, 200), dtype=np.float64)
    if neighbour:
        pixels[covered([neighbour], (size, size))] = (190, 160, 180)
    pixels[body], pixels[nucleus] = (190, 160, 180), (70, 40, 130)
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8), body


@pytest.mark.parametrize("neighbour", [None, (112, 20, 160, 150)], ids=["alone", "beside_one_of_the_same_colour"])
def test_a_pale_body_about_a_dark_core_is_part_of_the_object(neighbour):
    pixels, body = cell(neighbour=neighbour)
    box: BoxXyxy = (48, 48, 112, 112)
    found = estimated_outline(pixels, box, [neighbour] if neighbour else [])
    wanted = body[48:112, 48:112]
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


def test_ground_of_two_colours_is_ground_on_both_sides():
    pixels, inside = disc()
    pixels[:, :80] = pixels[:, :80] // 2 + 20
    box: BoxXyxy = (80 - 25, 70 - 25, 80 + 25, 70 + 25)
    found = estimated_outline(pixels, box)
    wanted = inside[45:95, 55:105]
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8


def test_no_outline_where_nothing_stands_out():
    pixels, _ = disc(contrast=0, noise=0.0)
    assert estimated_outline(pixels, (50, 40, 110, 100)) is None


@pytest.mark.parametrize("box", [(10, 10, 15, 40), (0, 0, 160, 160)], ids=["too_thin", "no_ground_around"])
def test_no_outline_where_there_is_too_little_to_look_at(box):
    assert estimated_outline(disc()[0], box) is None


def pasted(instance):
    ground = np.full((200, 200, 3), 120, dtype=np.uint8)
    ground[:, :, 0] += np.arange(200, dtype=np.uint8)[None] // 8
    return ground, render(None, Order("copy_paste", 0, 3, 0.0, (60.0, 60.0, 124.0, 124.0), ground, instance))


def test_an_estimated_outline_cuts_the_exemplar_free_lies_as_the_object_did_and_masks_no_label():
    """The disc fills 44 of a box of 64: it is laid as large as it was, though the outline alone would fit more, and the ground stays the ground's."""
    pixels, _ = disc()
    box: BoxXyxy = (48, 38, 112, 102)
    outline = estimated_outline(pixels, box)
    ground, made = pasted(Instance(pixels, box, 0, outline=outline, estimated=True))
    changed = (made.pixels != ground).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert 40 <= columns[-1] - columns[0] <= 60 and 40 <= rows[-1] - rows[0] <= 60
    assert made.outline is None and made.overlap > OVERLAP_IOU and made.change > 4


def test_a_drawn_outline_fills_its_box_and_masks_its_label():
    pixels, inside = disc()
    box: BoxXyxy = (48, 38, 112, 102)
    _, made = pasted(Instance(pixels, box, 0, outline=inside[38:102, 48:112]))
    columns = np.flatnonzero(made.outline.any(0))
    assert columns[-1] - columns[0] > 60


def test_a_veil_over_the_hole_is_a_seam_and_texture_is_none():
    rng = np.random.default_rng(0)
    before = rng.normal(120, 20, (80, 80, 3)).clip(0, 255).astype(np.uint8)
    inside = np.zeros((80, 80), dtype=bool)
    inside[20:60, 20:60] = True
    veiled, textured = before.copy(), before.copy()
    veiled[inside] = (veiled[inside].astype(int) + 12).clip(0, 255)
    textured[inside] = rng.normal(120, 20, (inside.sum(), 3)).clip(0, 255)
    box: BoxXyxy = (20, 20, 60, 60)
    assert seam(before, veiled, inside, box) > 9 > 4 > seam(before, textured, inside, box)
    assert seam(before, before, inside, box) == 0


def test_about_a_real_object_on_even_ground_there_is_no_step():
    pixels, _ = disc(noise=0.0)
    assert real_step(pixels, (56, 46, 104, 94)) < 1


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("spread", [30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_no_outline_on_ground_as_varied_as_any_object(spread, seed):
    noise = np.random.default_rng(seed).normal(128, spread, (120, 120, 3)).clip(0, 255).astype(np.uint8)
    assert estimated_outline(noise, (35, 35, 85, 85)) is None


def test_no_outline_where_neighbours_leave_no_ground():
    flat = np.full((40, 40, 3), 128, np.uint8)
    others: list[BoxXyxy] = [(0, 0, 40, 15), (0, 25, 40, 40), (0, 0, 15, 40), (26, 0, 40, 40)]
    assert estimated_outline(flat, (15, 15, 25, 25), others) is None


@pytest.mark.parametrize("box", [(100, 500, 108, 2500), (-6.5, -4.0, 20.2, 30.7), (380, 3980, 410, 4010)], ids=["long", "over_a_corner", "over_the_other"])
def test_odd_boxes_are_no_error(box):
    pixels = np.random.default_rng(0).integers(0, 255, (4000, 400, 3), dtype=np.uint8)
    found = estimated_outline(pixels, box)
    assert found is None or found.any()
