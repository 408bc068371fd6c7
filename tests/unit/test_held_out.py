"""Where val shows nothing of a class, training images judge: enough of them, none that looks like one that is learned from, always the same ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence.folder import FolderView
from infra.images import fingerprint, small
from longtail.gates import MIN_TO_JUDGE
from longtail.samples import Annotation, Sample
from trainers.held_out import hold_out

CELL, DROP = 1, 2


def picture(seed, quality=None):
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((160, 120), Image.Resampling.BICUBIC).save(out, "JPEG" if quality else "PNG", **({"quality": quality} if quality else {}))
    return out.getvalue()


def view_of(images):
    """`images` are (name, split, categories, seed, quality)."""
    samples, files = [], {}
    for name, split, categories, seed, quality in images:
        labels = tuple(Annotation(category_id=c, bbox_xywh=(10.0 * k, 10.0, 9.0, 9.0), extra={}) for k, c in enumerate(categories))
        samples.append(Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=160, height=120, split=split, annotations=labels))
        files[name] = lambda seed=seed, quality=quality: picture(seed, quality)
    return FolderView(samples, files, ["cell", "drop"], task="detection")


def singles(count, *, category=CELL, split="train", first=0):
    return [(f"{split}{category}-{k}", split, [category], first + k, None) for k in range(count)]


def nothing_known(ids):
    return {}


def held(view):
    return {s.id for s in view.samples if s.split == "val"}


@pytest.mark.parametrize(("count", "expected"), [(39, 0), (40, 20), (60, 20), (120, 30), (400, 80)])
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
    images = [(f"{k}-{n}", "train", [CELL], k, quality) for k in range(40) for n, quality in enumerate((None, 70))]
    view = view_of(images)
    assert hold_out(view, ["cell"], nothing_known)["cell"] >= MIN_TO_JUDGE
    sides = {k: {i.partition("-")[0] for i in held(view)} & {str(k)} for k in range(40)}
    for k, side in sides.items():
        assert len([i for i in held(view) if i.startswith(f"{k}-")]) == (2 if side else 0)


def test_an_image_that_shows_a_class_too_small_to_judge_is_learned_from():
    view = view_of([(f"both{k}", "train", [CELL, DROP], k, None) for k in range(30)] + singles(60, first=100))
    assert set(hold_out(view, ["cell", "drop"], nothing_known)) == {"cell"}
    assert not any(i.startswith("both") for i in held(view))


def test_the_same_images_judge_where_the_dataset_grows_and_its_rows_have_other_ids():
    before, after = view_of(singles(80)), view_of(singles(84))
    assert hold_out(before, ["cell"], nothing_known)
    hold_out(after, ["cell"], nothing_known)
    assert len(held(before) & held(after)) >= len(held(before)) - 2


def test_what_was_looked_at_before_is_not_read_again():
    first = view_of(singles(60))
    known = {s.id: fingerprint(first.read(s), small(first.read(s), what=s.id, max_pixels=1 << 20)) for s in first.samples}
    unread = FolderView(first.samples, {}, ["cell", "drop"], task="detection")
    assert hold_out(unread, ["cell"], lambda ids: {i: known[i] for i in ids}) == hold_out(first, ["cell"], nothing_known)
    assert held(unread) == held(first)
