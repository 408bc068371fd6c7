"""The gates: real images pass them, and each cheat fails the one that is there for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gates import CASES, PARTLY, REAL, drawn, gather
from longtail.gates import OVERLAP_SHARE, Gate, class_key
from longtail.recipes import NetworkConfig, Recipe
from trainers import checkpoints
from trainers.gating import SAMPLES
from trainers.loop import Progress
from trainers.quality.coverage import density_and_coverage
from trainers.quality.density import densities, density_interval
from trainers.quality.gates import Evidence, density_gate, gates_of, unmeasured, worst
from trainers.quality.intervals import mean_interval, share_interval
from trainers.report import Curves
from trainers.state import TrainState
from trainers.training_data import apart
from trainers.windows import Instance

COUNT = 40
LEARNED = {"kid", "coverage", "density"}
"""The gates that training objects set the threshold of."""


@pytest.fixture(scope="module")
def cases():
    """Evidence of real red cells and of every cheat, with 40 training and 40 held-out cells."""
    return drawn(gather(180, learned=COUNT, beyond=False), COUNT, np.random.default_rng(0))


def test_real_cells_fail_no_gate_and_pass_most(cases):
    said = {g.name: g.verdict for g in gates_of(cases[REAL])}
    assert set(said) == {"kid", "coverage", "density", "copying", "label_consistency", "overlap"}
    assert "failed" not in said.values()
    assert set(said.values()) == {"passed"}


@pytest.mark.parametrize("what", CASES)
def test_a_cheat_fails_its_gate(cases, what):
    gate = next(g for g in gates_of(cases[what]) if g.name == CASES[what])
    assert gate.verdict == "failed", gate
    assert gate.interval[0] <= gate.figure <= gate.interval[1]


def test_density_sees_what_coverage_is_content_with(cases):
    said = {g.name: g.verdict for g in gates_of(cases[PARTLY])}
    assert (said["coverage"], said["density"]) == ("passed", "failed")


def test_nothing_is_dense_enough_where_training_objects_are_not(cases):
    far = replace(cases["noise"], train=cases["noise"].fake[:COUNT])
    gate = next(g for g in gates_of(far) if g.name == "density")
    assert (gate.figure, gate.verdict, gate.note) == (0, "unknown", "could not be measured")


@pytest.mark.parametrize("count", [0, 1])
def test_density_of_too_few_samples_could_not_be_measured(cases, count):
    seen = cases[REAL]
    gate = density_gate(replace(seen, fake=seen.fake[:count]))
    assert (gate.verdict, gate.note) == ("unknown", "could not be measured")


def test_density_is_the_mean_of_its_samples_and_its_interval_counts_both_sides(cases):
    seen = cases[REAL]
    alone = densities(seen.held, seen.fake)
    assert alone.mean() == pytest.approx(density_and_coverage(seen.held, seen.fake)[0])
    assert np.isnan(densities(seen.held[:1], seen.fake)).all()
    one = np.repeat(seen.fake[:1], SAMPLES, 0)
    low, high = density_interval(seen.held, one)
    assert low < densities(seen.held, one)[0] < high  # a hundred times one sample is no hundred samples
    lone = np.array([0, 1, 2, 3, 4, 5, 100.0])[:, None]
    assert density_interval(lone, lone + 1000)[0] == 0


def test_a_sample_of_its_own_exemplar_is_derived_and_no_copy(cases):
    seen = cases["training images"]
    alone = replace(seen, fake=seen.train.copy(), own=list(range(len(seen.train))), repeated=None)
    copies = next(g for g in gates_of(alone) if g.name == "copying")
    assert copies.figure < 0.2
    assert next(g for g in gates_of(replace(alone, own=[None] * COUNT)) if g.name == "copying").figure == 1


def test_what_pixels_repeat_is_a_copy_whatever_features_say(cases):
    seen = cases[REAL]
    pixels = replace(seen.repeated, fake=replace(seen.repeated.fake, apart=np.linspace(0, 1, SAMPLES), index=np.full(SAMPLES, 5)))
    repeating = replace(seen, repeated=pixels)
    by_features = next(g for g in gates_of(replace(seen, repeated=None)) if g.name == "copying")
    gate = next(g for g in gates_of(repeating) if g.name == "copying")
    assert gate.figure >= max(by_features.figure, (pixels.fake.apart < pixels.near).mean()) > 0
    order, beside = worst(repeating, "copying")
    assert beside[order.tolist().index(0)] == 5


def test_where_nothing_tells_what_a_copy_is_none_is_counted(cases):
    seen = cases["training images"]
    alone = replace(seen.repeated, held=replace(seen.repeated.held, apart=seen.repeated.held.apart[:1]))
    few = replace(seen, train=seen.train[:1], views=[v[:1] for v in seen.views], held=seen.held[:1], repeated=alone)
    gate = next(g for g in gates_of(few) if g.name == "copying")
    assert (gate.figure, gate.verdict) == (0, "unknown")


@pytest.mark.parametrize("what", [REAL, "training images"])
def test_copying_does_not_pass_where_held_out_objects_are_copies_themselves(cases, what):
    """Of a scene that lies in two splits: by what its held-out objects attain no sample would ever be a copy."""
    seen = cases[what]
    held, apart = seen.held.copy(), seen.repeated.held.apart.copy()
    held[:3], apart[:3] = seen.train[:3], 0
    leaked = replace(seen, held=held, repeated=replace(seen.repeated, held=replace(seen.repeated.held, apart=apart)))
    gate = next(g for g in gates_of(leaked) if g.name == "copying")
    assert gate.verdict == "unknown" and "held-out objects repeat training ones" in gate.note
    by_features = next(g for g in gates_of(replace(leaked, repeated=None)) if g.name == "copying")
    assert by_features.verdict == "unknown"


def test_the_worst_come_first(cases):
    seen = cases[REAL]
    mixed = replace(seen, fake=np.concatenate([seen.fake[:9], cases["noise"].fake[:1]]), own=[None] * 10, agreed=np.linspace(1, 0.1, 10), repeated=None)
    assert worst(mixed, "kid")[0][0] == 9
    assert worst(mixed, "density")[0][0] == 9
    assert (np.diff(densities(mixed.held, mixed.fake)[worst(mixed, "density")[0]]) >= 0).all()
    assert worst(mixed, "label_consistency")[0].tolist() == list(range(9, -1, -1))
    copy = replace(mixed, fake=np.concatenate([seen.fake[:3], seen.views[0][7:8]]), own=[None] * 4)
    order, beside = worst(copy, "copying")
    assert (order[0], beside[0]) == (3, 7)


def test_few_held_out_objects_are_never_enough_to_pass_or_fail(cases):
    seen = cases["training images"]
    few = replace(seen, held=seen.held[:12])
    found = [g for g in gates_of(few) if g.name in LEARNED | {"copying"}]
    assert len(found) == 4 and {g.verdict for g in found} == {"unknown"}
    assert all("12 real images" in g.note for g in found)


def test_nothing_held_out_is_unknown():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8))
    seen = Evidence(name="c", train=vectors[:5], views=[], held=vectors[:0], fake=vectors[5:], own=[None] * 25)
    assert {g.verdict for g in gates_of(seen)} == {"unknown"}


def test_intervals_of_shares_and_means():
    assert share_interval(0, 0) == (0.0, 1.0)
    low, high = share_interval(10, 100)
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert share_interval(0, 20)[0] == 0 and share_interval(20, 20)[1] == 1
    assert mean_interval(np.array([1.0])) == (-np.inf, np.inf)
    assert mean_interval(np.array([0.0, 1.0] * 50)) == pytest.approx((0.5 - 0.0985, 0.5 + 0.0985), abs=1e-3)


@pytest.mark.parametrize(("pasted", "there", "verdict"), [
    (80, 80, "passed"), (80, 56, "unknown"), (80, 50, "failed"), (100, 80, "unknown"), (100, 70, "failed"), (40, 100, "unknown"), (40, 0, "unknown"),
])  # fmt: skip
def test_the_share_that_lies_in_its_label_is_held_against_pasted_objects(cases, pasted, there, verdict):
    overlaps, own = (np.repeat([0.9, 0.3], [n, SAMPLES - n]) for n in (there, pasted))
    gate = next(g for g in gates_of(replace(cases[REAL], overlaps=overlaps, pasted=own)) if g.name == "overlap")
    assert gate.threshold.startswith(f">= {OVERLAP_SHARE * pasted / SAMPLES:.2f} at IoU 0.5") and gate.verdict == verdict


def test_of_few_training_objects_nothing_of_overlap_is_forgiven(cases):
    seen = replace(cases[REAL], pasted=np.repeat([0.9, 0.3], [60, 40]))
    few = replace(seen, train=seen.train[:5], views=[v[:5] for v in seen.views])
    told = [next(g for g in gates_of(s) if g.name == "overlap").threshold for s in (seen, few)]
    assert told == [">= 0.48 at IoU 0.5 (0.8 x pasted)", ">= 0.80 at IoU 0.5"]


def test_few_places_and_few_pasted_objects_in_their_boxes_are_both_told(cases):
    seen = replace(cases[REAL], pasted=np.repeat([0.9, 0.3], [42, 58]), grounds=12)
    gate = next(g for g in gates_of(seen) if g.name == "overlap")
    assert gate.verdict == "unknown" and "only 12 real images to judge by" in gate.note and "only 0.42 of pasted training objects" in gate.note


@pytest.mark.parametrize(("boxed", "expected"), [(True, {"label_consistency", "overlap"}), (False, {"label_consistency"})])
def test_a_gate_that_could_not_be_asked_is_unknown_and_not_absent(cases, boxed, expected):
    """Without it the others alone would make a challenger of a generator whose labels nothing speaks for."""
    found = gates_of(replace(cases[REAL], agreed=None, real_agreed=None, overlaps=None))
    added = unmeasured(found, ["cell"], boxed=boxed)
    assert {g.name for g in added} == expected and {g.verdict for g in added} == {"unknown"}
    assert all(g.note and g.to_json()["figure"] is None for g in added)
    assert not unmeasured([*found, *added], ["cell"], boxed=boxed)
    assert len(unmeasured([], ["cell", "drop"], boxed=boxed)) == 2 * len(expected)


@pytest.mark.parametrize(("learned", "held", "grounds", "unknown"), [
    (40, 40, 40, set()), (5, 40, 40, LEARNED), (40, 40, 12, {"overlap"}), (40, 12, 40, LEARNED | {"copying", "label_consistency"}),
], ids=["enough", "few_learned", "few_grounds", "few_held"])  # fmt: skip
def test_no_gate_passes_what_too_few_images_speak_for(cases, learned, held, grounds, unknown):
    seen = cases[REAL]
    views = [v[:learned] for v in seen.views]
    some = replace(seen, train=seen.train[:learned], views=views, held=seen.held[:held], real_agreed=seen.real_agreed[:40], grounds=grounds)
    assert {g.name for g in gates_of(some) if "real images to judge by" in g.note} == unknown
    assert all(g.verdict == "unknown" for g in gates_of(some) if g.name in unknown)


def test_what_could_not_be_measured_is_none_in_json():
    gate = Gate(name="kid", class_name="c", figure=float("nan"), interval=(0.0, float("inf")), threshold="", verdict="unknown", count=0)
    assert (gate.to_json()["figure"], gate.to_json()["interval"]) == (None, [0.0, None])


def test_a_class_of_any_name_has_a_key():
    assert class_key("light (new)/2") == "light__new__2"
    assert class_key("..") == "_"
    assert class_key("größe") == "größe"


def test_the_curves_of_a_run_go_on_after_a_resume_and_stay_short():
    state = TrainState.fresh(Recipe(network=NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16))), num_classes=2)
    for images in range(5000):
        Curves(state.curves).add(Progress("warm", 1, images, 1.0, 0.5, {"l1": 0.5}))
    again = checkpoints.from_bytes(checkpoints.to_bytes(state))
    Curves(again.curves).add(Progress("warm", 1, 5000, 1.0, 0.5, {"l1": 0.25}))
    points = [tuple(p) for p in again.curves["l1"]]
    assert len(points) <= 2001 and points[0] == (0.0, 0.5) and points[-1] == (5000.0, 0.25) and points == sorted(points)


def test_without_a_split_every_tenth_image_judges_the_upsampler():
    images = [np.zeros((8, 8, 3), dtype=np.uint8) for _ in range(21)]
    found = [Instance(image, (0.0, 0.0, 8.0, 8.0), 0) for image in images for _ in range(2)]
    learned, held = apart(found)
    assert len(held) == 6 and len(learned) == 36
    assert not {id(i.image) for i in held} & {id(i.image) for i in learned}
    assert apart(found[:2]) == (found[:2], [])
