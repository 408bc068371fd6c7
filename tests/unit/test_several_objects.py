"""Several new objects in one image: their records, what they may hide together, how they are judged."""

from __future__ import annotations

import functools
import io
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence.folder import FolderView
from longtail.boxes import UNCUT, intersection, xywh_to_xyxy
from longtail.datasets import ClassMap
from longtail.placement import Body
from longtail.samples import Annotation, Provenance, Sample
from trainers.dataset import ObjectRef
from trainers.filters import Verdict, together
from trainers.planning import Model, Planner, body_of, plan
from trainers.studio import make
from trainers.windows import Instance


def record_of(seed, *, beneath=None, augment=None):
    return Provenance(
        mode="inpaint", class_name="c", seed=seed, novelty=0.4, model=None, model_version=None, model_uri=None, background={"sample": "ground"},
        exemplar={"sample": f"real-{seed}", "position": 0}, box_xyxy=(0.0, 0.0, 1.0, 1.0), beneath=beneath, augment=augment,
    )  # fmt: skip


def test_a_record_goes_on_without_the_objects_that_were_refused():
    policy = {"policy": [], "seed": 4}
    whole = record_of(3, beneath=record_of(2, beneath=record_of(1)), augment=policy)
    assert [r.seed for r in whole.layers] == [1, 2, 3]
    assert whole.sources == {"ground", "real-1", "real-2", "real-3"}
    assert Provenance.from_json(whole.to_json()) == whole
    assert whole.only([True, True, True]).layers[-1] == whole
    for kept, expected in (([True, False, True], [1, 3]), ([False, True, False], [2]), ([True, True, False], [1, 2])):
        left = whole.only(kept)
        assert [r.seed for r in left.layers] == expected
        assert left.augment == policy
        assert all(r.augment is None for r in left.layers[:-1])
    assert whole.only([False, False, False]) is None


@pytest.mark.parametrize("seed", range(20))
def test_several_new_objects_together_hide_no_more_of_a_real_one_than_one_may(seed):
    """A real object fills the image but for a rim; a quarter of it may be hidden, and 0.2 of it already is."""
    real = Sample(
        id="ground", path="g", uri="g", etag="g", size_bytes=0, width=200, height=200, split="train",
        annotations=(Annotation(category_id=1, bbox_xywh=(20.0, 20.0, 160.0, 160.0)),),
    )  # fmt: skip
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    view = SimpleNamespace(by_id={"ground": real}, real=lambda split: [real], pixels=lambda sample: (image, None))
    beneath = replace(record_of(1), box_xyxy=(20.0, 20.0, 180.0, 52.0))
    planner = Planner(view, "inpaint", "c", 0.25, Model(), None, [], {1: 0.25})
    found = planner.where(SimpleNamespace(sample=real, box_xyxy=(0.0, 0.0, 40.0, 40.0)), UNCUT, np.random.default_rng(seed), beneath=beneath)
    assert found is not None
    box = found[1]
    assert intersection(box, beneath.box_xyxy) == 0
    assert intersection(box, (20.0, 20.0, 180.0, 180.0)) <= 0.05 * 160 * 160 + 1e-6


def crowd(sizes, counts):
    """A training image with small cells of class 1, as many as are counted, and another with objects of class 2 of these sizes, one over the other."""
    small = tuple(Annotation(category_id=1, bbox_xywh=(x + 8.0, y + 8.0, 24.0, 24.0)) for x in range(0, 200, 40) for y in range(0, 200, 40))
    shown = tuple(Annotation(category_id=2, bbox_xywh=(10.0, 10.0, float(s), float(s))) for s in sizes)
    samples = [
        Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=200, height=200, split="train", annotations=a)
        for name, a in (("crowded", small[:counts]), ("shown", shown))
    ]
    objects = [ObjectRef(samples[1], i, xywh_to_xyxy(a.bbox_xywh), 1) for i, a in enumerate(shown)]
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    return SimpleNamespace(
        by_id={s.id: s for s in samples}, real=lambda split: samples, pixels=lambda sample: (image, None), objects=lambda split, classes: objects,
        instance=lambda o: Instance(image, o.box_xyxy, 1), classes=ClassMap({1: "small", 2: "large"}),
    )  # fmt: skip


def test_large_objects_are_laid_as_often_as_small_ones():
    """In a crowd of objects that may be covered, of which small ones find room more easily."""
    view = crowd((20, 30, 60, 70), 25)
    planner = Planner.of(view, {"class_name": "large", "mode": "copy_paste", "objects": 3}, Model())
    laid = Counter(layer.exemplar["position"] for seed in range(40) for layer in planner.image({"objects": 3}, seed, 0).layers)
    assert min(laid[2], laid[3]) >= 0.9 * max(laid[0], laid[1]), laid


def test_no_instance_is_laid_twice_in_an_image_while_there_are_others():
    """The largest of them fits nowhere, so that another takes its place."""
    view = crowd((20, 24, 28, 32, 36, 40, 199), 0)
    for sample in view.by_id.values():
        object.__setattr__(sample, "annotations", sample.annotations[:0] if sample.id == "crowded" else sample.annotations)
    planner = Planner.of(view, {"class_name": "large", "mode": "copy_paste", "objects": 3}, Model())
    for seed in range(40):
        laid = [layer.exemplar["position"] for layer in planner.image({"objects": 3}, seed, 0).layers]
        assert len(laid) == len(set(laid)) == 3 and 6 not in laid, laid


def test_labels_that_are_kept_are_of_what_is_seen(tmp_path):
    """Drawn, not only planned: of bodies on a crowd."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:200, :200]

    def disc(pixels, x, y, radius, color):
        pixels[np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= radius] = color

    crowded, shown = (rng.integers(200, 210, (200, 200, 3), dtype=np.uint8) for _ in range(2))
    places = [(float(x), float(y)) for x in range(20, 200, 40) for y in range(20, 200, 40)]
    for x, y in places:
        disc(crowded, x, y, 12, (180, 90, 90))
    disc(shown, 100, 100, 40, (90, 60, 160))
    small = tuple(Annotation(category_id=1, bbox_xywh=(x - 12, y - 12, 24.0, 24.0)) for x, y in places)
    samples = [
        Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=200, height=200, split="train", annotations=a)
        for name, a in (("crowded", small), ("shown", (Annotation(category_id=2, bbox_xywh=(60.0, 60.0, 80.0, 80.0)),)))
    ]
    files = {name: functools.partial(png, pixels) for name, pixels in (("crowded", crowded), ("shown", shown))}
    view = FolderView(samples, files, ["small", "large"], task="detection")
    covered = 0
    for key, record in plan(view, {"class_name": "large", "mode": "copy_paste", "count": 12}, key="k", model=Model()):
        made = make(view, key, record)
        (hides,) = (o.hides for o in made.objects)
        before = small if record.background["sample"] == "crowded" else ()
        kept = [a for a in made.labels if a.category_id == 1]
        covered += len(before) - len(kept)
        for a in before:
            x, y, _w, _h = a.bbox_xywh
            share = hides[np.hypot(columns + 0.5 - x - 12, rows + 0.5 - y - 12) <= 12].mean()
            assert (share < 0.8) == (a.bbox_xywh in [k.bbox_xywh for k in kept])
            assert share <= 0.5 or share >= 0.8
    assert covered > 0


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_rarer_than_the_class_is_never_covered():
    view = crowd((90, 110, 100), 2)
    planner = Planner.of(view, {"class_name": "large", "mode": "copy_paste", "objects": 1}, Model())
    assert not planner.common
    for seed in range(30):
        assert all(intersection(planner.first({}, seed, 0)[0].box_xyxy, xywh_to_xyxy(a.bbox_xywh)) == 0 for a in view.by_id["crowded"].annotations)


def test_only_bodies_cover_what_lies_in_their_boxes():
    disc = np.hypot(*np.mgrid[-1:1:40j, -1:1:40j]) <= 1
    assert body_of(None) == Body(1.0, 1.0, alone=False)
    assert body_of(np.eye(40, dtype=bool)) is None
    wide = body_of(np.pad(disc, ((0, 0), (10, 0))))
    assert wide.across == pytest.approx(0.6, abs=0.05) and wide.down > 0.85 and wide.alone  # whichever way it is mirrored


def test_an_image_is_judged_by_its_worst_object():
    good = Verdict(True, (), "one#0", ("one#0",), {"change": 9.0, "seam": 1.0, "compared_with": 3.0, "nearest_distance": 0.2})
    bad = Verdict(False, ("seam", "label"), "two#0", ("one#0", "two#0"), {"change": 5.0, "seam": 7.0, "compared_with": 0.0})
    found = together([bad, good])
    assert not found.accepted
    assert (found.reasons, found.objects, found.partly) == (("seam", "label"), (False, True), True)
    assert found.derived_from == ("one#0", "two#0")
    assert found.figures == {"change": 5.0, "seam": 7.0, "compared_with": 0.0, "nearest_distance": 0.2}
    assert together([good, good]).accepted
    assert not together([bad]).partly
