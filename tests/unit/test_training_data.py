"""What a generator learns from and is judged by: no class crowds out another, and what is held out is held out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence.folder import FolderView
from longtail.samples import Annotation, Sample
from trainers.training_data import MOST_INSTANCES, MOST_OTHERS, TrainingData, others_of

SIDE, CELL = 320, 16
TRAIN_LIGHT, VAL_LIGHT = 60, 180
COMMON, RARE = 1, 2


def image(light):
    out = io.BytesIO()
    Image.fromarray(np.full((SIDE, SIDE, 3), light, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def boxes(count, *, rare):
    """A field of cells in rows from the top, the last of them rare where it is asked."""
    placed = [(20.0 * (k % 15) + 2, 20.0 * (k // 15) + 2, float(CELL), float(CELL)) for k in range(count)]
    return tuple(Annotation(category_id=RARE if rare and k == count - 1 else COMMON, bbox_xywh=box, extra={}) for k, box in enumerate(placed))


@pytest.fixture(scope="module")
def view():
    samples, files = [], {}
    for split, light, count in (("train", TRAIN_LIGHT, 10), ("val", VAL_LIGHT, 10)):
        for k in range(count):
            name = f"{split}{k}"
            labels = boxes(180, rare=k < 6)
            samples.append(Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=SIDE, height=SIDE, split=split, annotations=labels))
            files[name] = lambda light=light: image(light)
        name = f"{split}-empty"
        samples.append(Sample(id=name, path=name, uri=name, etag=name, size_bytes=0, width=SIDE, height=SIDE, split=split, annotations=()))
        files[name] = lambda light=light: image(light + 40)
    return FolderView(samples, files, ["common", "rare"], task="detection")


@pytest.fixture(scope="module")
def data(view):
    return TrainingData.of(view, ["common", "rare"], resolution=32, seed=0)


def test_a_common_class_takes_no_object_from_a_rare_one(data):
    """Beside 1,794 cells all six rare ones are learned from."""
    counts = {label: len(set(data.singles.instances[data.singles.labels == label].tolist())) for label in (0, 1)}
    assert counts == {0: MOST_INSTANCES, 1: 6}


def test_those_who_judge_are_not_thinned_by_the_common_class_either(data):
    assert int((data.select.labels == 1).sum()) + int((data.judging.labels == 1).sum()) == 6


def test_bare_ground_that_judges_is_held_out_as_well(data):
    """Places in images without any label are of the split that the part is of."""
    for windows, ground, empty in ((data.windows.emptied(), TRAIN_LIGHT, TRAIN_LIGHT + 40), (data.judging.emptied(), VAL_LIGHT, VAL_LIGHT + 40)):
        lights = set(windows.images.flatten(1)[:, 0].tolist())
        assert lights <= {ground, empty}
        assert empty in lights


def test_classes_that_are_not_learned_are_known_as_what_they_are(view):
    """A label is told from those too: one window each of some of their training objects."""
    others = others_of(view, ["rare"], resolution=32, seed=0)
    assert set(others.labels.tolist()) == {0} and len(others) == len(set(others.instances.tolist())) == MOST_OTHERS // 2
    assert others_of(view, ["rare", "common"], resolution=32, seed=0) is None


def test_of_very_many_classes_some_are_known_and_never_more_objects_than_are_held(monkeypatch):
    """Beside a learned class there may be a thousand: memory and time are bounded."""
    monkeypatch.setattr("trainers.training_data.MOST_OTHERS", 8)
    names = [f"class {k}" for k in range(12)]
    labels = tuple(Annotation(category_id=k % 12 + 1, bbox_xywh=(20.0 * (k % 15) + 2, 20.0 * (k // 15) + 2, 16.0, 16.0), extra={}) for k in range(60))
    sample = Sample(id="a", path="a", uri="a", etag="a", size_bytes=0, width=SIDE, height=SIDE, split="train", annotations=labels)
    view = FolderView([sample], {"a": lambda: image(90)}, names, task="detection")
    others = others_of(view, ["class 0"], resolution=32, seed=0)
    assert len(others) == 8 and len(set(others.labels.tolist())) == 4 and 0 not in others.labels.tolist()
