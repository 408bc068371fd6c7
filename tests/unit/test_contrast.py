"""Objects are laid where they are seen: not a dark cell on a black ground, which its light would make black."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from longtail.contrast import LEAST_KEPT, MOST_GAIN, ground_about, kept_contrast
from longtail.datasets import ClassMap
from longtail.errors import InvalidRequest
from longtail.samples import Annotation, Sample
from trainers import compose
from trainers.compose import Warp, fill_color, match_context, warp_exemplar
from trainers.dataset import ObjectRef
from trainers.planning import Model, plan
from trainers.windows import Instance

BOX = (40.0, 40.0, 60.0, 60.0)
ELSEWHERE = (20.0, 50.0, 40.0, 70.0)


def shown(ground, thing=None, *, box=BOX):
    image = np.full((100, 100, 3), ground, dtype=np.uint8)
    if thing is not None:
        x0, y0, x1, y1 = (int(v) for v in box)
        image[y0:y1, x0:x1] = thing
    return image


@pytest.mark.parametrize(
    ("ground", "thing", "there", "kept"),
    [(239, 119, 239, 1.0), (239, 119, 119, 0.5), (239, 119, 14, 15 / 240), (15, 135, 15, 1.0), (15, 135, 135, 121 / 241), (15, 135, 250, 6 / 241),
     (239, 119, 255, 256 / 240)],
    ids=["same", "half as bright", "black", "same dark", "gray", "white", "brighter"],
)  # fmt: skip
def test_what_is_left_is_the_ground_s_share(ground, thing, there, kept):
    assert kept_contrast(shown(ground, thing), BOX, shown(there), ELSEWHERE) == pytest.approx(kept)


@pytest.mark.parametrize("there", [20, 90, 160, 230])
@pytest.mark.parametrize(("ground", "thing"), [(220, 120), (60, 150)])
def test_it_says_what_the_painting_then_does(ground, thing, there):
    """Against the light that exemplars are brought to: the object's step from its ground, before and after."""
    image, place = shown(ground, thing), shown(there)
    window, context = (torch.from_numpy(i).permute(2, 0, 1)[None].float() / 127.5 - 1 for i in (image, place))
    box, target = (torch.tensor([b]) / 100 for b in (BOX, ELSEWHERE))
    laid = warp_exemplar(window, box, target, Warp.identity(1), 100, 100)
    relit = match_context(laid, window, box, fill_color(context, target, torch.zeros(1, 1, 1, 1)), torch.ones(1))
    step = float((relit[0, :, 60, 30] - context[0, :, 60, 30]).abs().mean()) * 127.5
    assert kept_contrast(image, BOX, place, ELSEWHERE) == pytest.approx(step / abs(ground - thing), abs=0.03)


def test_contrast_is_raised_no_further_than_painting_raises_it():
    """A bright nucleus with some noise about it, on black: on white nothing of it is left, and its noise is no contrast."""
    image = shown(10, 110, box=(45.0, 45.0, 54.0, 54.0))
    image[40:60:2, 40:44], image[41:60:2, 40:44] = 7, 13
    assert kept_contrast(image, BOX, shown(250), ELSEWHERE) < LEAST_KEPT
    assert MOST_GAIN == compose.MOST_GAIN


@pytest.mark.parametrize("height", [4, 8, 48])
def test_a_long_crack_has_a_ground_beside_it(height):
    image = np.full((300, 600, 3), 200, dtype=np.uint8)
    image[100 : 100 + height, 60:540] = 90
    box = (60.0, 100.0, 540.0, 100.0 + height)
    assert ground_about(image, box, (1.0, 1.3)).tolist() == [200, 200, 200]
    assert kept_contrast(image, box, np.full_like(image, 10), box) < LEAST_KEPT < kept_contrast(image, box, np.full_like(image, 190), box)


def test_what_has_no_contrast_or_no_ground_loses_none():
    assert kept_contrast(shown(200, 200), BOX, shown(0), ELSEWHERE) == 1.0
    assert kept_contrast(shown(200), (0.0, 0.0, 100.0, 100.0), shown(0), ELSEWHERE) == 1.0
    assert kept_contrast(shown(200, 90), BOX, shown(0), (0.0, 0.0, 100.0, 100.0)) == 1.0
    assert kept_contrast(shown(200, 90), (50.0, 50.0, 50.0, 50.0), shown(0), ELSEWHERE) == 1.0


def test_the_ground_is_seen_beside_the_box_and_large_boxes_are_looked_at_in_steps():
    image = np.zeros((1000, 1000, 3), dtype=np.uint8)
    image[:, :] = (10, 20, 30)
    image[200:800, 200:800] = 255
    assert ground_about(image, (200.0, 200.0, 800.0, 800.0), (1.0, 1.3)).tolist() == [10, 20, 30]


def mixed(*, bright, dark):
    """A view of so many bright images, dark cells of class `cell` in each, and so many black ones with pale specks."""
    samples, pixels = [], {}
    for k in range(bright + dark):
        light, name = k < bright, f"{'bright' if k < bright else 'dark'}-{k}"
        note = Annotation(category_id=1 if light else 2, bbox_xywh=(40.0, 40.0, 20.0, 20.0))
        samples.append(Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=100, height=100, split="train", annotations=(note,)))
        pixels[name] = shown(230, 110) if light else shown(4, 180)
    objects = [ObjectRef(s, 0, BOX, 1) for s in samples[:bright]]
    return SimpleNamespace(
        by_id={s.id: s for s in samples}, real=lambda split: samples, pixels=lambda s: (pixels[s.id], None), objects=lambda split, classes: objects,
        instance=lambda o: Instance(pixels[o.sample.id], o.box_xyxy, 1), classes=ClassMap({1: "cell", 2: "speck"}),
    )  # fmt: skip


def test_of_a_class_of_two_kinds_each_is_laid_into_its_own_and_none_takes_parts_of_the_other():
    """One label for both, three bright images among two hundred: an exemplar of the few finds its own image."""
    view = mixed(bright=3, dark=200)
    for sample in view.by_id.values():
        object.__setattr__(sample, "annotations", tuple(replace(a, category_id=1) for a in sample.annotations))
    objects = [ObjectRef(s, 0, BOX, 1) for s in view.by_id.values()]
    view.objects = lambda split, classes: objects[:3] * 20 + objects[3:]
    view.painter = lambda uri: SimpleNamespace(mirrored=True)
    records = [r for _, r in plan(view, {"class_name": "cell", "mode": "inpaint", "novelty": 0.5, "count": 60}, key="k", model=Model("m", 1, "u"))]
    kinds = [tuple(part["sample"].split("-")[0] for part in (r.exemplar, r.background, r.mixed) if part) for r in records]
    assert all(len(set(kind)) == 1 for kind in kinds)
    assert {kind[0] for kind in kinds} == {"bright", "dark"} and {len(kind) for kind in kinds} == {2, 3}


@pytest.mark.parametrize(("bright", "dark"), [(10, 10), (1, 300)])
def test_a_class_is_laid_into_images_in_which_it_is_seen(bright, dark):
    """However many there are of the others: where one of those that show the class is among hundreds, it is found."""
    view = mixed(bright=bright, dark=dark)
    records = plan(view, {"class_name": "cell", "mode": "copy_paste", "count": 30}, key="k", model=Model())
    assert len(records) == 30
    assert all(r.background["sample"].startswith("bright") for _, r in records)


def test_where_it_would_be_seen_nowhere_that_is_told():
    """The light that it lies in is all the light there is."""
    view = mixed(bright=1, dark=3)
    view.pixels(next(iter(view.by_id.values())))[0][:] = 4
    lit = view.pixels(next(iter(view.by_id.values())))[0]
    lit[34:66, 34:66], lit[40:60, 40:60] = 230, 110
    with pytest.raises(InvalidRequest, match="would be seen"):
        plan(view, {"class_name": "cell", "mode": "copy_paste", "count": 1}, key="k", model=Model())
