"""Objects of a batch that repeat a training object, or a part of one: refused one by one; exemplars are excused while a sample is meant to derive from them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence.folder import FolderView
from infra.images import to_png
from longtail.samples import Annotation, Provenance, Sample
from trainers import evaluating
from trainers.filters import Verdict
from trainers.judging import Finished, Seen
from trainers.making import made
from trainers.planning import Model
from trainers.repeats import known_of, without_repeats

SIDE = 48
PLACES = [(float(x), float(y), float(x + SIDE), float(y + SIDE)) for y in (10, 90) for x in (10, 90, 170)]
CELLS = {"train": 6, "val": 6}


def textured(seed: int) -> np.ndarray:
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


KNOWN = [textured(i) for i in range(6)]
UNSEEN = [textured(100 + i) for i in range(6)]
NEW = [textured(200 + i) for i in range(4)]


def part(crop: np.ndarray, share: float = 0.6) -> np.ndarray:
    """Its lower right, shown as large as all of it."""
    side = round(SIDE * share)
    return np.asarray(Image.fromarray(crop[-side:, -side:]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def scene(crops) -> np.ndarray:
    pixels = np.full((150, 230, 3), 200, dtype=np.uint8)
    for crop, (x, y, *_) in zip(crops, PLACES, strict=False):
        pixels[int(y) : int(y) + SIDE, int(x) : int(x) + SIDE] = crop
    return pixels


def view_of(**splits) -> FolderView:
    """A scene of each split, and bare ground to lay objects into."""
    samples = [Sample(id="bare", path="bare", uri="bare", etag="bare", size_bytes=0, width=400, height=300, split="train", annotations=())]
    files = {"bare": functools.partial(to_png, np.full((300, 400, 3), 200, dtype=np.uint8))}
    for split, crops in splits.items():
        boxes = tuple(Annotation(category_id=1, bbox_xywh=(x, y, float(SIDE), float(SIDE))) for (x, y, *_), _ in zip(PLACES, crops, strict=False))
        samples.append(Sample(id=split, path=split, uri=split, etag=split, size_bytes=0, width=230, height=150, split=split, annotations=boxes))
        files[split] = functools.partial(to_png, scene(crops))
    return FolderView(samples, files, ["cell"], task="detection")


@pytest.fixture(scope="module")
def view():
    return view_of(train=KNOWN, val=UNSEEN)


def finished(crops, *, novelty=0.5, exemplar=0) -> Finished:
    record = None
    for place, _ in zip(PLACES, crops, strict=False):
        record = Provenance(
            mode="inpaint", class_name="cell", seed=0, novelty=novelty, model="m", model_version=1, model_uri="u", background={"sample": "train"},
            exemplar={"sample": "train", "position": exemplar, "box_xyxy": PLACES[exemplar]}, box_xyxy=place, beneath=record,
        )  # fmt: skip
    return Finished(record, to_png(scene(crops)), [Seen(place, 50.0, 1.0, 0.0) for place, _ in zip(PLACES, crops, strict=False)])


def passed(objects: int = 1) -> Verdict:
    return Verdict(True, (), "train#5", ("train#0",), {"agreement": 1.0, "nearest_distance": 0.5}, (True,) * objects)


def judged(view, crops, **kw) -> Verdict:
    (found,) = without_repeats(view, [finished(crops, **kw)], [passed(len(crops))])
    return found


def test_a_part_of_what_was_learned_is_refused_as_a_copy_and_named(view):
    found = judged(view, [part(KNOWN[3])])
    assert not found.accepted and found.reasons == ("copy",) and found.objects == (False,)
    assert found.nearest == "train#3" and "nearest_distance" not in found.figures  # which is another object's
    assert found.figures["agreement"] == 1.0 and found.figures["apart"] < known_of(view, 0).near


def test_what_is_new_keeps_its_verdict(view):
    found = judged(view, [NEW[0]])
    assert found.accepted and found.objects == (True,) and found.nearest == "train#5"
    assert found.figures["apart"] > known_of(view, 0).near


def test_what_was_refused_before_stays_refused_for_its_reasons(view):
    seam = Verdict(False, ("seam",), "train#5", (), {}, (False,))
    new, again = without_repeats(view, [finished([NEW[0]]), finished([part(KNOWN[3])])], [seam, seam])
    assert new.reasons == ("seam",) and not new.accepted and new.objects == (False,)
    assert again.reasons == ("seam", "copy") and not again.accepted


@pytest.mark.parametrize(("novelty", "accepted"), [(0.25, True), (0.5, False)])
def test_an_exemplar_is_excused_below_the_default_novelty_alone(view, novelty, accepted):
    assert judged(view, [part(KNOWN[3])], novelty=novelty, exemplar=3).accepted is accepted
    assert not judged(view, [part(KNOWN[3])], novelty=novelty, exemplar=2).accepted


def test_of_several_objects_those_that_repeat_are_refused_alone(view):
    found = judged(view, [NEW[0], part(KNOWN[1]), NEW[1]])
    assert found.objects == (True, False, True) and found.partly
    assert not found.accepted and found.reasons == ("copy",)
    assert found.nearest == "train#1"
    assert found.figures["apart"] < known_of(view, 0).near


def test_of_several_that_repeat_the_one_that_is_repeated_most_closely_is_named(view):
    found = judged(view, [KNOWN[2], part(KNOWN[1])])
    assert found.objects == (False, False) and found.nearest == "train#2"
    assert judged(view, [part(KNOWN[1]), KNOWN[2]]).nearest == "train#2"


def test_without_held_out_objects_those_that_were_learned_from_tell_among_themselves():
    alone = view_of(train=KNOWN)
    assert known_of(alone, 0).near > 0.1
    assert not judged(alone, [part(KNOWN[3])]).accepted
    assert judged(alone, [NEW[0]]).accepted


@pytest.mark.parametrize("view", [view_of(train=KNOWN, val=KNOWN), view_of(train=KNOWN[:1])], ids=["held-out ones are the same", "there is one alone"])
def test_where_real_objects_tell_nothing_no_sample_is_refused_by_pixels(view):
    assert judged(view, [part(KNOWN[0])]).accepted


def test_an_evaluation_makes_its_images_by_the_same_filters(monkeypatch):
    assert evaluating.made is made
    # Of six objects two are the same one: pasted anew, and turned a little, they are copies of each other and the rest of none.
    monkeypatch.setattr("trainers.repeats.judge_made", lambda view, samples: [passed(len(s.objects)) for s in samples])
    monkeypatch.setattr("trainers.quality.parts.NEARER", 0.7)
    twins = view_of(train=[*KNOWN[:5], KNOWN[0]], val=UNSEEN)
    found = made(twins, {"class_name": "cell", "mode": "copy_paste", "count": 12}, key="k", model=Model())
    assert found.made == 12 and set(found.rejected) == {"copy"}
    assert 0 < found.rejected["copy"] == 12 - len(found.images) < 12


def test_a_class_of_many_objects_is_compared_with_some_and_with_what_a_sample_began_from(monkeypatch):
    monkeypatch.setattr("trainers.repeats.MOST", 2)
    view = view_of(train=KNOWN, val=UNSEEN)
    first, second = (int(key[-1]) for key in known_of(view, 0).crops)
    last = next(k for k in range(6) if k not in (first, second))
    own, another, always = (finished([part(KNOWN[k])], exemplar=e) for k, e in ((last, last), (last, first), (second, last)))
    found = without_repeats(view, [own, another, always], [passed()] * 3)  # compared at once: what others began from is not held against one
    assert [v.accepted for v in found] == [False, True, False]
    assert [v.nearest for v in found] == [f"train#{last}", "train#5", f"train#{second}"]
    derived = without_repeats(view, [finished([part(KNOWN[last])], exemplar=last, novelty=0.25)], [passed()])
    assert derived[0].accepted


def test_what_is_known_already_is_not_read_again(monkeypatch):
    view, samples = view_of(train=KNOWN, val=UNSEEN), [finished([NEW[0]], exemplar=2)]
    first = without_repeats(view, samples, [passed()])
    monkeypatch.setattr(view, "read", lambda sample: pytest.fail(f"{sample.id} is read again"))
    view._cache.clear()
    assert without_repeats(view, samples, [passed()]) == first


def test_without_val_not_the_first_of_many_objects_alone_tell(monkeypatch):
    """Images lie in order of scene or date: here the first two show the same."""
    monkeypatch.setattr("trainers.repeats.PER_CLASS", 3)
    assert known_of(view_of(train=[KNOWN[0], *KNOWN[:5]]), 0).near > 0.1


def test_many_samples_are_compared_some_at_a_time(view, monkeypatch):
    monkeypatch.setattr("trainers.repeats.CHUNK", 2)
    said = without_repeats(view, [finished([part(KNOWN[k % 6]) if k % 2 else NEW[k % 4]]) for k in range(7)], [passed()] * 7)
    assert [v.accepted for v in said] == [k % 2 == 0 for k in range(7)]
