"""Objects that the image's border cuts off: laid against the same border elsewhere, or that across from it in a mirror, in the light that is there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtail.boxes import UNCUT, beyond_borders, intersection, mirrored, on_border, xyxy_to_xywh
from longtail.datasets import ClassMap
from longtail.placement import MOST_STRETCHED, place
from longtail.samples import Annotation, Sample
from trainers.compose import match_context
from trainers.cutout import estimated_outline
from trainers.dataset import ObjectRef, to_lay_elsewhere
from trainers.planning import Model, Planner
from trainers.render import Order, render
from trainers.windows import Instance

GROUND = np.full((100, 140, 3), 120, dtype=np.uint8)
ONE_OR_TWO = [(True, False, False, False), (False, True, False, False), (False, False, True, True), (True, True, False, False)]


@given(st.integers(0, 10_000), st.sampled_from(ONE_OR_TWO))
def test_a_box_against_a_border_lies_on_it_and_clear(seed, against):
    rng = np.random.default_rng(seed)
    occupied = [(0.0, 30.0, 20.0, 50.0), (60.0, 80.0, 80.0, 100.0)]
    box = place((24, 16), occupied, GROUND, rng, against=against)
    assert box is not None
    assert (box[0] == 0, box[1] == 0, box[2] == 140, box[3] == 100) == against
    assert (box[2] - box[0], box[3] - box[1]) == (24, 16)
    assert all(intersection(box, other) == 0 for other in occupied)


def test_what_spans_an_image_spans_another_of_nearly_its_width_alone():
    across, rng = (True, False, True, False), np.random.default_rng(0)
    for width in (140 / MOST_STRETCHED + 1, 140, 140 * MOST_STRETCHED - 1):
        x0, _, x1, _ = place((width, 20), [], GROUND, rng, against=across)
        assert (x0, x1) == (0, 140)
    assert place((140 / MOST_STRETCHED - 2, 20), [], GROUND, rng, against=across) is None
    assert place((140 * MOST_STRETCHED + 2, 20), [], GROUND, rng, against=across) is None


def half_disc(*, shade=60, ground=180):
    """The right half of a disc of 20 px at the left border, and what it covers of its box."""
    y, x = np.mgrid[:100, :140]
    inside = x**2 + (y - 50) ** 2 < 20**2
    return np.where(inside[..., None], shade, ground).repeat(3, 2).astype(np.uint8), inside[30:70, :20]


def pasted(box, ground):
    pixels, outline = half_disc()
    instance = Instance(pixels, (0.0, 30.0, 20.0, 70.0), 0, outline=outline)
    return render(None, Order("copy_paste", 0, 3, 0.0, box, ground, instance)).pixels


SAME, ACROSS = ((0.0, 20.0, 20.0, 60.0), slice(0, 20)), ((120.0, 20.0, 140.0, 60.0), slice(139, 119, -1))


@pytest.mark.parametrize(("box", "columns"), [SAME, ACROSS], ids=["same", "across"])
def test_half_an_object_is_laid_against_the_border_as_it_lay(box, columns):
    found = pasted(box, np.full_like(GROUND, 180))[20:60, columns, 0] < 120
    _, outline = half_disc()
    assert (found & outline).sum() / (found | outline).sum() > 0.9
    assert found[20, 0] and not found[0, 19]


def test_an_exemplar_is_seen_in_the_light_that_is_there():
    """A third as bright as its ground in the light it came from; so it is in the dark, where a difference would have made it black."""
    pixels = pasted((0.0, 20.0, 20.0, 60.0), np.full_like(GROUND, 60))
    assert abs(int(pixels[40, 4, 0]) - 20) <= 3
    assert np.abs(pixels[21:59, 0, 0].astype(int) - 20).max() <= 3  # at the border itself, up to its rim


BOX = torch.tensor([[0.3, 0.3, 0.7, 0.7]])


def relit(exemplar, own, there, *, strength=1.0, box=BOX):
    """Values of an exemplar [N] on a ground of its own, seen on another; all in [-1, 1]."""
    values = torch.tensor(exemplar)[None, None, None].expand(1, 3, 1, -1)
    found = match_context(values, torch.full((1, 3, 20, 20), own), box, torch.full((1, 3, 1, 1), there), torch.tensor([strength]))
    return found[0, 0, 0].tolist()


LIGHTS = st.integers(-95, 95).filter(bool).map(lambda v: v / 100)


@given(LIGHTS, LIGHTS)
def test_in_another_light_ground_is_ground_and_texture_stays(own, there):
    values = np.linspace(-1, 1, 21).tolist()
    found = relit([own, *values], own, there)
    assert found[0] == pytest.approx(there, abs=1e-5)
    assert np.all(np.diff(found[1:]) >= 0) and np.diff(found[1:]).min() > 0.001 * min(1 - abs(own), 1 - abs(there))


def test_nothing_is_relit_where_either_ground_is_not_seen():
    assert relit([-0.4, 0.2], 0.5, 0.0) == relit([-0.4, 0.2], 0.5, -0.3, box=torch.tensor([[0.0, 0.0, 1.0, 1.0]])) == pytest.approx([-0.4, 0.2])
    assert relit([-0.4, 0.2], 0.5, -0.3, strength=0.0) == pytest.approx([-0.4, 0.2])


@pytest.mark.parametrize("middle", [(0, 70), (8, 70), (-6, 70), (20, 70), (0, 0), (70, 140)], ids=["half", "most", "less", "nearly_all", "quarter", "below"])
@pytest.mark.parametrize("long", [1.0, 2.0], ids=["round", "long"])
def test_the_outline_of_what_a_border_cuts_reaches_the_border(middle, long):
    y, x = np.mgrid[:140, :140]
    inside = ((x - middle[0]) / long) ** 2 + (y - middle[1]) ** 2 < 30**2
    pixels = (200 - 110 * inside[..., None] + np.random.default_rng(1).normal(0, 5, (140, 140, 3))).clip(0, 255).astype(np.uint8)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    found = estimated_outline(pixels, (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)))
    truth = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    edge = np.s_[:, 0] if columns[0] == 0 else np.s_[-1]
    assert (found & truth)[edge].sum() >= 0.85 * truth[edge].sum()


def planner_of(*boxes):
    """Of a class whose objects lie in a first image; a second one is free."""
    shown = tuple(Annotation(category_id=1, bbox_xywh=(x0, y0, x1 - x0, y1 - y0)) for x0, y0, x1, y1 in boxes)
    samples = [
        Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=140, height=100, split="train", annotations=a)
        for name, a in (("shown", shown), ("free", ()))
    ]
    objects = [ObjectRef(samples[0], i, box, 0) for i, box in enumerate(boxes)]
    view = SimpleNamespace(
        by_id={s.id: s for s in samples}, real=lambda split: samples, pixels=lambda sample: (GROUND, None), objects=lambda split, classes: objects,
        instance=lambda o: Instance(GROUND, o.box_xyxy, 0), classes=ClassMap({1: "c"}),
    )  # fmt: skip
    return Planner.of(view, {"class_name": "c", "mode": "copy_paste"}, Model())


def test_planned_boxes_lie_against_the_borders_that_cut_their_exemplars_and_no_others():
    planner = planner_of((40.0, 40.0, 60.0, 60.0), (0.0, 70.0, 18.0, 90.0))
    sides = {0: set(), 1: set()}
    for seed in range(60):
        record = planner.first({}, seed, 0)[0]
        assert record is not None
        x0, y0, x1, y1 = record.box_xyxy
        sides[record.exemplar["position"]].add((x0 == 0, y0 == 0, x1 == 140, y1 == 100))
    assert sides == {0: {UNCUT}, 1: {(True, False, False, False), (False, False, True, False)}}


def test_what_only_a_border_holds_is_laid_free_where_an_image_would_get_nothing_otherwise():
    """The one object of a class spans an image four times as wide as those that there are."""
    wide = planner_of((0.0, 40.0, 140.0, 60.0))
    free = [s for s in wide.view.real("train") if s.id == "free"]
    narrow = [Sample(id="free", path="f", uri="f", etag="f", size_bytes=0, width=35, height=100, split="train", annotations=()) for _ in free]
    wide.view.by_id["free"], wide.view.real, wide.view.pixels = narrow[0], lambda split: narrow, lambda sample: (GROUND[:, :35], None)
    first = wide.first({}, 1, 0)[0]
    assert first is not None and first.background["sample"] == "free"
    assert wide.object(2, None, first, wide.instances) is None


def test_neither_slivers_nor_what_fills_its_image_is_laid_on_borders():
    planner = planner_of((0.0, 0.0, 140.0, 100.0), (0.0, 10.0, 2.0, 40.0), (0.0, 70.0, 18.0, 90.0))
    assert [o.position for o in planner.instances] == [2]
    assert [o.position for o in planner_of((0.0, 0.0, 140.0, 100.0)).instances] == [0]


def test_sides_in_a_mirror():
    assert on_border((0.0, 5.0, 10.0, 100.0), 140, 100) == (True, False, False, True)
    assert mirrored((True, False, False, True)) == (False, False, True, True)
    assert beyond_borders((0.0, 5.0, 10.0, 100.0), 140, 100) == (-5.0, 5.0, 10.0, 147.5)
    assert beyond_borders((20.0, 5.0, 30.0, 90.0), 140, 100) == (20.0, 5.0, 30.0, 90.0)


def test_what_a_bottom_border_cuts_is_laid_as_it_was_and_in_a_mirror():
    """The left half is dark, the right half is bright."""
    pixels = np.full((100, 140, 3), 120, dtype=np.uint8)
    pixels[80:, 60:70], pixels[80:, 70:80] = 60, 180
    instance = Instance(pixels, (60.0, 80.0, 80.0, 100.0), 0, outline=np.ones((20, 20), dtype=bool))
    found = [render(None, Order("copy_paste", 0, seed, 0.0, (30.0, 80.0, 50.0, 100.0), GROUND, instance)).pixels for seed in range(12)]
    darker_left = [bool(p[98, 32, 0] < p[98, 47, 0]) for p in found]
    assert set(darker_left) == {True, False}
    assert all(abs(int(p[99, 33, 0]) - int(p[92, 33, 0])) < 8 for p in found)


def objects_at(*boxes, size=100):
    sample = SimpleNamespace(id="s", width=size, height=size, annotations=[Annotation(category_id=0, bbox_xywh=xyxy_to_xywh(b)) for b in boxes])
    return [ObjectRef(sample, i, box, 0) for i, box in enumerate(boxes)]


def test_an_object_that_the_border_cuts_off_is_laid_elsewhere_only_where_there_is_no_other():
    whole, left, bottom = objects_at((10.0, 10.0, 30.0, 30.0), (0.0, 40.0, 20.0, 60.0), (50.0, 80.0, 70.0, 99.0))
    assert [o.cut_off for o in (whole, left, bottom)] == [False, True, True]
    assert to_lay_elsewhere([left, whole, bottom]) == [whole]
    assert to_lay_elsewhere([left, bottom]) == [left, bottom]


def test_an_image_that_is_its_object_is_not_cut_off():
    sample = SimpleNamespace(id="s", width=64, height=64, annotations=[Annotation(category_id=0)])
    assert not ObjectRef(sample, 0, (0.0, 0.0, 64.0, 64.0), 0).cut_off
