"""The gates: real images pass them, and each cheat fails the one that is there for it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.gates import CASES, PARTLY, REAL, drawn, gather
from benchmarks.yardstick import Silent
from infra.pages import without_pictures
from longtail.gates import MIN_INSTANCES_TO_INVENT, OVERLAP_IOU, OVERLAP_SHARE, Gate, class_key, usual_novelty
from longtail.recipes import NetworkConfig, Recipe
from trainers import checkpoints, gating, planning
from trainers.architectures import build_generator
from trainers.gating import COLUMNS, INVENTED, SAMPLES, Judge, samples_of
from trainers.loop import Progress
from trainers.neighbours import beside_nearest
from trainers.quality import consistency
from trainers.quality.coverage import density_and_coverage
from trainers.quality.density import densities, density_interval
from trainers.quality.gates import Evidence, density_gate, gates_of, unmeasured, worst
from trainers.quality.intervals import mean_interval, share_interval
from trainers.report import Curves, interpolations, training_report
from trainers.state import TrainState
from trainers.training_data import apart
from trainers.windows import Instance, cut_windows, on_grounds

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


def squares(count, *, seed, bare=True):
    """Two classes of textured squares, with bare places of their size beside them."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        image = np.full((80, 80, 3), rng.integers(30, 220, 3), dtype=np.uint8)
        image[8:24, 8:24] = rng.integers(0, 120 + 100 * (i % 2), (16, 16, 3))
        found.append(Instance(image, (8.0, 8.0, 24.0, 24.0), i % 2))
    found = on_grounds(found, [f.image for f in found], [[f.box_xyxy] for f in found], rng) if bare else found
    return cut_windows(found, resolution=32, per_instance=1, seed=0, fixed=True)


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return build_generator(NetworkConfig(resolution_px=32, smallest_px=16, widths=(8, 12, 16), latent=8, style=16), num_classes=2).eval()


def test_every_class_gets_every_gate_and_the_pictures_that_it_names(generator):
    judged = Judge(squares(24, seed=0), squares(8, seed=1), squares(48, seed=2), {0: "dark", 1: "light (new)"}).gates(generator)
    names = ["kid", "coverage", "density", "copying", "label_consistency", "overlap"]
    assert [(g.class_name, g.name) for g in judged.gates] == [(c, n) for c in ("dark", "light (new)") for n in names]
    assert {g.name: g.count for g in judged.gates} == dict.fromkeys(names, SAMPLES) | {"coverage": 12}
    assert {g.pictures for g in judged.gates} == set(judged.pictures)
    assert "gates/1-light__new_/kid.png" in judged.pictures
    assert all(p.shape == (64, 32 * COLUMNS, 3) and p.std() > 0 for p in judged.pictures.values())


def test_a_generator_that_is_trained_small_is_scored_small(generator):
    judge = Judge(squares(24, seed=0), squares(24, seed=1), squares(24, seed=2), {0: "dark", 1: "light"})
    small = judge.at_size(16)
    assert small.select.images.shape[-1] == 16 and judge.at_size(16) is small and judge.at_size(32) is judge
    assert judge.score(generator, 16) == small.score(generator, 16) != judge.score(generator, 32)
    nothing = judge.select.subset(torch.zeros(0, dtype=torch.long))
    assert np.isfinite(Judge(judge.train, nothing, nothing, judge.names).score(generator, 16))


def test_what_is_to_invent_is_scored_by_inventions(generator, monkeypatch):
    """At every size, and of classes that the product invents of."""
    parts, seen = (squares(24, seed=0), squares(24, seed=1), squares(24, seed=2)), []

    def spied(*arguments, novelty, **rest):
        seen.append(novelty)
        return samples_of(*arguments, novelty=novelty, **rest)

    monkeypatch.setattr(gating, "samples_of", spied)
    many, few = MIN_INSTANCES_TO_INVENT, MIN_INSTANCES_TO_INVENT - 1
    for size in (16, 32):
        for aim, first in {"restore": usual_novelty(many), "invent": 1.0}.items():
            judge = Judge(*parts, {0: "dark", 1: "light"}, counts={0: many, 1: few}, aim=aim)
            assert np.isfinite(judge.score(generator, size))
            assert seen == [first, INVENTED, usual_novelty(few), INVENTED]
            seen.clear()
    judge.gates(generator)
    assert set(seen) == {1.0, INVENTED, usual_novelty(few)}, "and the gates of one that is to invent look where its checkpoint is chosen"


def faint(count, *, seed, wide):
    """Squares whose borders are a little soft, with bare ground about them, in boxes that lie so many pixels outside."""
    rng = np.random.default_rng(seed)
    near = np.clip(2.5 - np.abs(np.arange(16) - 7.5) / 6, 0, 1)
    found = []
    for _ in range(count):
        image = np.full((80, 80, 3), rng.integers(90, 160), dtype=np.uint8)
        image[16:32, 16:32] += (60 * np.outer(near, near))[..., None].astype(np.uint8)
        found.append(Instance(image, (16.0 - wide, 16.0 - wide, 32.0 + wide, 32.0 + wide), 0))
    found = on_grounds(found, [f.image for f in found], [[f.box_xyxy] for f in found], rng)
    return cut_windows(found, resolution=32, per_instance=1, seed=0, fixed=True)


@pytest.mark.parametrize(("wide", "attained"), [(0, 1.0), (6, 0.0)])
def test_a_change_is_asked_to_fill_its_box_as_often_as_pasted_objects_do(generator, wide, attained):
    judge = Judge(*(faint(count, seed=seed, wide=wide) for seed, count in enumerate((24, 8, 48))), {0: "faint"})
    made, places = judge.on_ground(generator, 0)
    pasted = gating.overlaps_of(made, made.pasted)
    assert (pasted >= OVERLAP_IOU).mean() == attained and (places, len(pasted)) == (48, SAMPLES)
    gate = next(g for g in judge.gates(generator).gates if g.name == "overlap")
    assert gate.threshold.startswith(f">= {OVERLAP_SHARE * attained:.2f} at IoU")
    if not attained:
        assert gate.verdict == "unknown" and gate.note.startswith("only 0.00 of pasted training objects")


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


@pytest.mark.parametrize("novelty", [0.0, 0.5, 0.9])
def test_samples_know_what_nothing_painted_and_nothing_cut_away_would_be(generator, novelty):
    train, val = squares(24, seed=0), squares(48, seed=2)
    made, unpainted = (samples_of(g, train, val, 0, count=12, novelty=novelty, seed=3) for g in (generator, Silent(generator.config)))
    assert torch.equal(made.filled, unpainted.images)
    assert torch.equal(made.filled, made.pasted) == (novelty == 0)
    if novelty:
        less = samples_of(generator, train, val, 0, count=12, novelty=0.7, seed=3)
        assert torch.equal(made.pasted, less.pasted) and not torch.equal(made.filled, less.filled)


def test_the_distance_is_told_beside_what_the_filled_cut_alone_has(generator):
    """But of a class so small that at most the rim of an exemplar is painted."""
    many, few = MIN_INSTANCES_TO_INVENT, MIN_INSTANCES_TO_INVENT - 1
    judge = Judge(squares(24, seed=0), squares(8, seed=1), squares(48, seed=2), {0: "dark", 1: "light"}, counts={0: many, 1: few})
    told, its = ([g for g in judge.gates(g).gates if g.name == "kid"] for g in (generator, Silent(generator.config)))
    assert f"KID would be {its[0].figure:.3f} if nothing were painted" in told[0].note and told[0].figure != its[0].figure
    assert "painted" not in told[1].note and told[1].figure == its[1].figure


def test_one_class_alone_is_held_against_bare_ground(generator):
    train, val = squares(24, seed=0), squares(48, seed=2)
    ones = [w.subset(w.by_class()[0]) for w in (train, val)]
    judged = Judge(ones[0], ones[1], ones[1], {0: "dark"}).gates(generator)
    assert "label_consistency" in {g.name for g in judged.gates}


def test_a_generator_that_paints_a_class_which_is_not_learned_beside_it_fails(generator, monkeypatch):
    """Of a dataset's classes one is grown; what it might be taken for is among the others."""
    train, val, light = squares(48, seed=0), squares(48, seed=2), squares(100, seed=4)
    dark, held = (w.subset(w.by_class()[0]) for w in (train, val))
    light = light.subset(light.by_class()[1])

    def another(*_, count, **__):
        at = torch.arange(count) % len(light)
        nobody = torch.full((count,), -1)
        return gating.Made(light.floats(at), light.boxes[at], nobody, light.floats(at), light.boxes[at], nobody, light.floats(at), light.floats(at))

    monkeypatch.setattr(gating, "samples_of", another)
    judge = Judge(dark, held, held, {0: "dark"}, others=train.subset(train.by_class()[1]))
    said = {g.name: g for g in judge.gates(generator).gates}
    assert said["label_consistency"].verdict == "failed" and said["label_consistency"].figure < 0.3, said["label_consistency"]
    alone = {g.name: g for g in Judge(dark, held, held, {0: "dark"}).gates(generator).gates}
    assert alone["label_consistency"].figure > said["label_consistency"].figure


def test_gates_see_samples_of_two_instances_as_often_as_the_product_makes_them(generator, monkeypatch):
    """And what judges their labels has seen neither."""
    assert (gating.SERVED_MIXED_FROM, gating.SERVED_MIXED_SHARE) == (planning.MIXED_FROM, planning.MIXED_SHARE)
    train, val, told = squares(48, seed=0), squares(48, seed=2), []
    asked = consistency.CrossFitted.probabilities
    monkeypatch.setattr(consistency.CrossFitted, "probabilities", lambda self, vectors, owners: told.append(owners) or asked(self, vectors, owners))
    judge = Judge(train, val, val, {0: "dark", 1: "light"})
    judge.gates(generator)
    real, *each = [np.mean([len(set(rows)) == 2 for rows in owners]) for owners in told]
    assert real == 0 and len(each) == 2 and all(0.3 < share < 0.6 for share in each)
    mine, found = train.by_class()[1], judge.served(generator, val, 1, novelty=0.5, seed=0)
    assert set(found.mixed.tolist()) | set(found.owners.tolist()) <= set(train.instances[mine].tolist())
    for novelty in (0.25, 1.0):  # at 1 nothing of an instance is left
        whole = judge.served(generator, val, 1, novelty=novelty, seed=0)
        assert torch.equal(whole.mixed, whole.owners)


def test_without_ground_or_held_out_objects_what_cannot_be_said_is_unknown(generator):
    train = squares(24, seed=0, bare=False)
    none = train.subset(torch.zeros(0, dtype=torch.long))
    judged = Judge(train, none, none, {0: "dark", 1: "light"}).gates(generator)
    assert {g.name for g in judged.gates} == {"kid", "coverage", "density", "copying", "label_consistency"}
    assert {g.verdict for g in judged.gates} == {"unknown"}
    json.dumps([g.to_json() for g in judged.gates], allow_nan=False)


@pytest.mark.parametrize(("boxed", "expected"), [(True, {"label_consistency", "overlap"}), (False, {"label_consistency"})])
def test_a_gate_that_could_not_be_asked_is_unknown_and_not_absent(cases, boxed, expected):
    """Without it the others alone would make a challenger of a generator whose labels nothing speaks for."""
    found = gates_of(replace(cases[REAL], agreed=None, real_agreed=None, overlaps=None))
    added = unmeasured(found, ["cell"], boxed=boxed)
    assert {g.name for g in added} == expected and {g.verdict for g in added} == {"unknown"}
    assert all(g.note and g.to_json()["figure"] is None for g in added)
    assert not unmeasured([*found, *added], ["cell"], boxed=boxed)
    assert len(unmeasured([], ["cell", "drop"], boxed=boxed)) == 2 * len(expected)


def test_a_generator_that_hands_back_what_it_began_from_fails_copying_once_it_is_asked_to_invent(generator, monkeypatch):
    """Below `DERIVED_BELOW` a sample may resemble its own exemplar; at a high novelty next to nothing of that is given: who returns it knows it by heart."""
    train, val, honest = squares(24, seed=0), squares(48, seed=2), gating.samples_of

    def by_heart(generator, learned, contexts, label, **asked):
        made = honest(generator, learned, contexts, label, **asked)
        if asked["novelty"] < least:
            return made
        return replace(made, images=learned.floats(made.owners), boxes=learned.boxes[made.owners])  # one window an instance, in order

    monkeypatch.setattr(gating, "samples_of", by_heart)
    least = INVENTED
    copying = [g for g in Judge(train, val, val, {0: "dark", 1: "light"}).gates(generator).gates if g.name == "copying"]
    assert [(g.verdict, g.figure) for g in copying] == [("failed", 1.0)] * 2 and all("invented" in g.note for g in copying)
    least = 0.0
    copying = [g for g in Judge(train, val, val, {0: "dark", 1: "light"}).gates(generator).gates if g.name == "copying"]
    assert [(g.verdict, g.figure) for g in copying] == [("failed", 1.0)] * 2
    assert all(g.note == "of samples" for g in copying)  # from DERIVED_BELOW on an exemplar is no excuse
    few = train.subset(torch.arange(16))  # eight a class, of which the product invents none
    copying = [g for g in Judge(few, val, val, {0: "dark", 1: "light"}).gates(generator).gates if g.name == "copying"]
    assert all("own exemplars aside" in g.note for g in copying)
    assert [(g.verdict, g.figure) for g in copying] == [("passed", 0.0)] * 2  # by features and by pixels


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


def test_the_report_shows_what_failed_first_and_escapes_what_it_is_told(generator):
    train, val = squares(24, seed=0), squares(48, seed=2)
    names = {0: "dark", 1: "<b>light</b>"}
    judged = Judge(train, val, val, names, counts={0: MIN_INSTANCES_TO_INVENT - 1, 1: MIN_INSTANCES_TO_INVENT}, aim="invent").gates(generator)
    curves = Curves()
    for images in (8, 16):
        curves.add(Progress("warm", 1, images, 1.0, 0.5, {"l1": 1.0 / images, "broken": float("nan")}, score=2.0))
    latent = interpolations(generator, train, names)
    assert latent.shape == (64, 320, 3)
    nearest = beside_nearest(generator, Judge(train, val, val, names))
    assert {name: picture.shape for name, picture in nearest.items()} == dict.fromkeys(names.values(), (2 * 32, 12 * 32, 3))
    page, twin = training_report(
        "cells & more", judged, curves, recipe=Recipe(), watchdogs=[], grid=latent, latent=latent, nearest=nearest, held_out={"<dark>": 20}
    )
    assert {g["class_name"]: g["novelty"] for g in json.loads(twin)["gates"]} == {"dark": 0.25, "<b>light</b>": 1.0}
    assert "<th>novelty" in page
    assert "20 training objects of &lt;dark&gt; were held out" in page and json.loads(twin)["held_out"] == {"<dark>": 20}
    body = json.loads(twin)
    assert "<b>light" not in page and "&lt;b&gt;light" in page and "<title>cells &amp; more</title>" in page
    assert set(body["curves"]) == {"l1", "KID on val"}
    assert len(body["gates"]) == len(judged.gates) == page.count("<tr><td>") - len(judged.fids)  # FID has rows of its own where it is installed
    verdicts = [g["verdict"] for g in body["gates"]]
    assert "failed" in verdicts  # a generator that never learned
    assert page.index("class=failed") < page.find("class=passed", page.index("class=failed"))
    assert page.count("data:image/png;base64,") == len(judged.pictures) + 2 + len(nearest)
    assert "http" not in page.replace("http://www.w3.org", "")
    bare = without_pictures(page)
    assert "data:image" not in bare and bare.count("<svg") == page.count("<svg") == 2 and bare.count("<tr>") == page.count("<tr>")
