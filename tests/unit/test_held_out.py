"""Where val shows nothing of a class, training images judge: enough of them, none that looks like one that is learned from, always the same ones."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence.folder import FolderView
from infra.images import fingerprint, small
from longtail.gates import MIN_TO_JUDGE
from longtail.samples import Annotation, Sample
from trainers.held_out import hold_out
from trainers.training_data import LEAST_TO_STEER, TrainingData

CELL, DROP, BORDER = 1, 2, -1


def picture(seed, quality=None):
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((160, 120), Image.Resampling.BICUBIC).save(out, "JPEG" if quality else "PNG", **({"quality": quality} if quality else {}))
    return out.getvalue()


def view_of(images, prefix=""):
    """`images` are (name, split, categories, seed, quality); a category of `BORDER` is a cell that the border cuts off."""
    samples, files = [], {}
    for name, split, categories, seed, quality in images:
        boxes = [(0.0 if c == BORDER else 10.0 + k % 14 * 10.0, 10.0 + k // 14 * 10.0, 9.0, 9.0) for k, c in enumerate(categories)]
        labels = tuple(Annotation(category_id=abs(c), bbox_xywh=box, extra={}) for c, box in zip(categories, boxes, strict=True))
        samples.append(Sample(id=prefix + name, path=name, uri=name, etag=name, size_bytes=0, width=160, height=120, split=split, annotations=labels))
        files[prefix + name] = lambda seed=seed, quality=quality: picture(seed, quality)
    return FolderView(samples, files, ["cell", "drop"], task="detection")


def singles(count, *, category=CELL, split="train", first=0):
    return [(f"{split}{category}-{k}", split, [category], first + k, None) for k in range(count)]


def nothing_known(ids):
    return {}


def held(view):
    return {s.id for s in view.samples if s.split == "val"}


@pytest.mark.parametrize(("count", "expected"), [(49, 0), (50, 30), (60, 30), (160, 40), (400, 80)])
def test_enough_to_judge_by_is_held_out_and_as_much_is_left(count, expected):
    view = view_of(singles(count))
    assert hold_out(view, ["cell"], nothing_known) == ({"cell": expected} if expected else {})
    assert len(held(view)) == expected
    assert {s.split for s in view.by_id.values()} == {s.split for s in view.samples}


def test_a_class_that_val_shows_is_left_as_it_is():
    view = view_of(singles(60) + singles(1, split="val", first=500))
    assert hold_out(view, ["cell"], nothing_known) == {}
    assert held(view) == {"val1-0"}


def test_copies_stay_on_one_side():
    """Each picture is there twice, once as a JPEG."""
    view = view_of([(f"{k}-{n}", "train", [CELL], k, quality) for k in range(40) for n, quality in enumerate((None, 70))])
    assert hold_out(view, ["cell"], nothing_known)["cell"] >= MIN_TO_JUDGE
    assert set(Counter(i.partition("-")[0] for i in held(view)).values()) == {2}


@pytest.mark.parametrize("dataset", range(20))
def test_a_burst_of_one_scene_is_not_most_of_what_is_held_out(dataset):
    """Under some of these names it comes before all else."""
    view = view_of([(f"burst{k}", "train", [CELL], 7, 60 + k) for k in range(30)] + singles(90, first=100))
    view.dataset = f"dataset {dataset}"
    assert hold_out(view, ["cell"], nothing_known) == {"cell": 30} and not any(i.startswith("burst") for i in held(view))


@pytest.mark.parametrize("dataset", range(5))
def test_one_scene_alone_judges_nothing(dataset):
    """Four images of thirty cells each: half of what is held out would be one of them."""
    view = view_of([(f"crowded{k}", "train", [CELL] * 30, k, None) for k in range(4)])
    view.dataset = f"dataset {dataset}"
    assert hold_out(view, ["cell"], nothing_known) == {} and not held(view)


def test_a_rare_class_gets_its_judges_beside_a_common_one():
    view = view_of([(f"field{k}", "train", [CELL] * 10 + [DROP], k, None) for k in range(60)])
    found = hold_out(view, ["cell", "drop"], nothing_known)
    assert found["drop"] == 30 and found["cell"] == 300


def test_a_class_that_is_named_twice_is_counted_once():
    assert hold_out(view_of(singles(30)), ["cell", "cell"], nothing_known) == {}


@pytest.mark.parametrize("dataset", range(5))
def test_as_many_judge_as_are_needed_whatever_borders_cut_off(dataset):
    """Every image shows another cell that its border cuts off, which may neither judge nor be counted among those that do."""
    view = view_of([(f"image{k}", "train", [CELL, BORDER], k, None) for k in range(60)])
    view.dataset = f"dataset {dataset}"
    assert hold_out(view, ["cell"], nothing_known) == {"cell": 30}
    data = TrainingData.of(view, ["cell"], resolution=32, seed=dataset)
    assert len(data.judging) >= MIN_TO_JUDGE and len(data.select) >= LEAST_TO_STEER


def test_a_class_that_val_shows_keeps_enough_where_it_lies_in_the_same_images():
    """Eight drops, all of them in images of cells: none of those is taken."""
    both = [(f"both{k}", "train", [CELL, DROP], k, None) for k in range(8)]
    view = view_of([*both, *singles(60, first=100), *singles(1, category=DROP, split="val", first=300)])
    assert set(hold_out(view, ["cell", "drop"], nothing_known)) == {"cell"}
    assert not any(i.startswith("both") for i in held(view))


def test_what_a_border_cuts_off_judges_nothing_and_is_not_counted():
    view = view_of([(f"cut{k}", "train", [BORDER], k, None) for k in range(60)] + singles(49, first=100))
    assert hold_out(view, ["cell"], nothing_known) == {}
    view = view_of([(f"cut{k}", "train", [BORDER], k, None) for k in range(60)] + singles(60, first=100))
    assert hold_out(view, ["cell"], nothing_known) == {"cell": 30} and not any(i.startswith("cut") for i in held(view))


def test_whole_images_are_held_out_too():
    samples = [replace(s, annotations=(Annotation(category_id=CELL, bbox_xywh=None, extra={}),)) for s in view_of(singles(60)).samples]
    view = FolderView(samples, view_of(singles(60)).files, ["cell", "drop"], task="classification")
    assert hold_out(view, ["cell"], nothing_known) == {"cell": 30}


def test_an_image_that_shows_a_class_too_small_to_judge_is_learned_from():
    view = view_of([(f"both{k}", "train", [CELL, DROP], k, None) for k in range(30)] + singles(60, first=100))
    assert set(hold_out(view, ["cell", "drop"], nothing_known)) == {"cell"}
    assert not any(i.startswith("both") for i in held(view))


def test_the_same_images_judge_where_the_dataset_grows_and_its_rows_have_other_ids():
    before, after = view_of(singles(80)), view_of(singles(84), prefix="other-")
    assert hold_out(before, ["cell"], nothing_known)
    hold_out(after, ["cell"], nothing_known)
    assert len(held(before) & {i.removeprefix("other-") for i in held(after)}) >= len(held(before)) - 4


def test_what_was_looked_at_before_is_not_read_again():
    first = view_of(singles(60))
    known = {s.id: fingerprint(first.read(s), small(first.read(s), what=s.id, max_pixels=1 << 20)) for s in first.samples}
    unread = FolderView(first.samples, {}, ["cell", "drop"], task="detection")
    assert hold_out(unread, ["cell"], lambda ids: {i: known[i] for i in ids}) == hold_out(first, ["cell"], nothing_known)
    assert held(unread) == held(first)
