"""What the filters say of a sample among a version's real objects: copies, labels, and what it derives from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from longtail.samples import Annotation, Provenance
from trainers.bank import PER_CLASS, Bank, build_bank, crop
from trainers.filters import MIN_AGREEMENT, Candidate, judge_batch
from trainers.quality.copying import looks
from trainers.quality.features import features


def test_the_classes_that_were_made_are_compared_with_every_training_object():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    sample = SimpleNamespace(id="s", width=64, height=64, annotations=[Annotation(category_id=0, bbox_xywh=(0.0, 0.0, 64.0, 64.0))] * 260)
    objects = [SimpleNamespace(sample=sample, position=i, box_xyxy=(0.0, 0.0, 8.0, 8.0), label=i % 2, key=f"s#{i}") for i in range(260)]
    view = SimpleNamespace(objects=lambda split: objects if split == "train" else [], names=["a", "b"], pixels=lambda s: (image, None), looked={})
    bank = build_bank(view, whole=frozenset({1}))
    assert len(bank.of(1, train=True)) == 130
    assert len(bank.of(0, train=True)) == PER_CLASS
    view.pixels = None  # the view keeps what was looked at: another class of it needs no image again
    with pytest.raises(TypeError):
        build_bank(view, whole=frozenset({0}))
    again = build_bank(view, whole=frozenset({1}))
    assert np.array_equal(again.vectors, bank.vectors) and again.keys == bank.keys


def test_the_only_instance_of_a_class_is_no_copy_of_itself():
    vector = np.ones(4, dtype=np.float32) / 2
    bank = Bank(np.stack([vector, -vector]), ("one#0", "two#0"), np.array([0, 1]), np.array([True, True]), 2)
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=0.1, model=None, model_version=None, model_uri=None, background=None,
        exemplar={"sample": "one", "position": 0}, box_xyxy=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    (verdict,) = judge_batch(bank, [Candidate(record, 0, vector, change=50.0, overlap=1.0)])
    assert "copy" not in verdict.reasons
    assert verdict.figures["compared_with"] == 0
    assert "nearest_distance" not in verdict.figures
    (other,) = judge_batch(bank, [Candidate(replace(record, exemplar=None), 0, vector, change=50.0, overlap=1.0)])
    assert other.figures["nearest_distance"] == pytest.approx(0, abs=1e-6)


def test_a_mirrored_training_object_is_a_copy():
    rng = np.random.default_rng(0)
    blobs = [np.asarray(Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)) for _ in range(41)]
    image = np.concatenate(blobs[:40], 1)
    boxes = [(64.0 * i, 0.0, 64.0 * i + 64, 64.0) for i in range(40)]
    sample = SimpleNamespace(id="s", width=2560, height=64, annotations=[Annotation(category_id=0, bbox_xywh=(b[0], b[1], 64.0, 64.0)) for b in boxes])
    objects = [SimpleNamespace(sample=sample, position=i, box_xyxy=b, label=0, key=f"s#{i}") for i, b in enumerate(boxes)]
    view = SimpleNamespace(
        objects=lambda split: objects[:20] if split == "train" else objects[20:], names=["a"], pixels=lambda s: (image, None), looked={}
    )
    bank = build_bank(view, whole=frozenset({0}))
    record = Provenance(
        mode="inpaint", class_name="a", seed=1, novelty=0.8, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=boxes[0],
    )  # fmt: skip
    real = crop(image, boxes[3])
    shown = {"mirrored": real[:, ::-1], "cropped": looks([real])[1][0], "another": blobs[40]}
    candidates = [Candidate(record, 0, v, change=50.0, overlap=1.0) for v in features([np.ascontiguousarray(s) for s in shown.values()])]
    verdicts = dict(zip(shown, judge_batch(bank, candidates), strict=True))
    assert {what for what, v in verdicts.items() if "copy" in v.reasons} == {"mirrored", "cropped"}
    assert verdicts["mirrored"].nearest == verdicts["cropped"].nearest == "s#3"


def test_a_label_is_doubted_where_another_class_is_likelier_not_where_nothing_is_sure():
    """Of six classes with two near-alike objects each no classifier is sure: what looks like its own class may stay, what looks like another may not."""
    rng = np.random.default_rng(0)
    vectors = (np.eye(6).repeat(2, 0) + rng.normal(0, 0.5, (12, 6))).astype(np.float32)
    bank = Bank(vectors, tuple(f"{k}#0" for k in range(12)), np.arange(6).repeat(2), np.ones(12, dtype=bool), 6)
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=0.4, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    own, other = judge_batch(bank, [Candidate(record, label, 0.3 * np.eye(6, dtype=np.float32)[2], change=50.0, overlap=1.0) for label in (2, 3)])
    assert own.figures["agreement"] < MIN_AGREEMENT and "label" not in own.reasons
    assert "label" in other.reasons


@pytest.mark.parametrize(("novelty", "copied"), [(0.45, False), (0.5, True), (0.8, True)])
def test_from_the_default_novelty_on_no_exemplar_is_excused_and_the_record_still_says_what_it_began_from(novelty, copied):
    vectors = np.eye(4, dtype=np.float32)[:3]
    bank = Bank(vectors, ("one#0", "two#0", "three#0"), np.zeros(3, dtype=np.int64), np.ones(3, dtype=bool), 1)
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=novelty, model=None, model_version=None, model_uri=None, background=None,
        exemplar={"sample": "one", "position": 0}, box_xyxy=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    (verdict,) = judge_batch(bank, [Candidate(record, 0, vectors[0], change=50.0, overlap=1.0)])
    assert ("copy" in verdict.reasons) == copied
    assert verdict.derived_from == ("one#0",)


def test_neither_instance_that_a_sample_is_mixed_from_counts_as_copied():
    vectors = np.eye(4, dtype=np.float32)[:3]
    bank = Bank(vectors, ("one#0", "two#0", "three#0"), np.zeros(3, dtype=np.int64), np.ones(3, dtype=bool), 1)
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=0.4, model=None, model_version=None, model_uri=None, background=None,
        exemplar={"sample": "one", "position": 0}, mixed={"sample": "two", "position": 0}, box_xyxy=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    (verdict,) = judge_batch(bank, [Candidate(record, 0, vectors[1], change=50.0, overlap=1.0)])
    assert "copy" not in verdict.reasons
    assert verdict.derived_from == ("one#0", "two#0")
    assert verdict.nearest == "three#0"
    assert record.sources == {"one", "two"}


def test_twins_faint_ones_and_those_whose_edges_show_are_refused_each_for_its_reason():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(24, 8)).astype(np.float32)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    bank = Bank(own, tuple(f"{k}#0" for k in range(24)), np.zeros(24, dtype=np.int64), np.arange(24) < 12, 1, {}, np.full(24, 3.0, dtype=np.float32))
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=0.4, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0.0, 0.0, 1.0, 1.0),
    )  # fmt: skip
    far = -own[:2]  # like no training object
    good = Candidate(record, 0, far[0], change=50.0, overlap=1.0, seam=1.0)
    asked = {
        "good": good, "its twin": replace(good, vector=far[0] + 1e-4), "faint": replace(good, vector=far[1], change=0.1),
        "beside its box": replace(good, vector=far[1], overlap=0.1), "with an edge": replace(good, vector=far[1], seam=40.0),
    }  # fmt: skip
    reasons = {what: set(v.reasons) - {"copy", "label"} for what, v in zip(asked, judge_batch(bank, list(asked.values())), strict=True)}
    assert reasons == {"good": set(), "its twin": {"near_duplicate"}, "faint": {"no_change"}, "beside its box": {"no_change"}, "with an edge": {"seam"}}
