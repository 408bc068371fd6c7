"""Names, seeds, health, placement, novelty and expansion."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longtail.boxes import dilate, intersection
from longtail.datasets import ClassMap, Tally, health, median_of
from longtail.errors import Conflict, InvalidRequest, TooFewInstances
from longtail.expansion import missing
from longtail.gates import check_novelty, judge, usual_novelty
from longtail.names import check_name, check_relative, split_uri
from longtail.placement import MOST_HIDDEN, Body, place, usually_hidden
from longtail.recipes import Recipe, tiny_finetune
from longtail.samples import Annotation, Provenance, Sample
from longtail.seeds import derive_id, derive_seed, fingerprint


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", "a\\b", "", "a/./b", "a\0b"])
def test_a_path_that_leaves_its_folder_is_refused(path):
    with pytest.raises(InvalidRequest):
        check_relative(path, what="file_name")


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "x" * 64, "-x", "ä"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(InvalidRequest, match="dataset name"):
        check_name(name, what="dataset name")


@pytest.mark.parametrize("uri", ["http://x/y", "s3://x/y", "s3://UPPER/x", "s3://bucket/../x", "bucket/x"])
def test_a_bad_uri_is_refused(uri):
    with pytest.raises(InvalidRequest):
        split_uri(uri)


def test_a_uri_splits_into_bucket_and_prefix():
    assert split_uri("s3://team-data/a/b/") == ("team-data", "a/b")


def test_ids_and_seeds_depend_on_every_part():
    assert derive_id("x", 1, "2") == derive_id("x", 1, "2") != derive_id("x", 12, "")
    assert 0 <= derive_seed("a", 1) < 2**63
    assert derive_seed("a", 1) != derive_seed("a", 2)


def test_a_fingerprint_ignores_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 2, "b": 1})


def sample(key, split, *categories, provenance=None):
    annotations = tuple(Annotation(category_id=c, bbox_xywh=(0, 0, 4, 8)) for c in categories)
    origin = "synthetic" if provenance else "real"
    return Sample(
        id=key, path=f"{key}.png", uri=f"s3://bucket/{key}.png", etag="e", size_bytes=1, width=10, height=10, split=split,
        annotations=annotations, origin=origin, provenance=provenance,
    )  # fmt: skip


def test_health_counts_by_class_and_split_and_names_the_rare():
    """Seven cats and two dogs in train: 2 < 0.34 x 7, so dogs are rare."""
    samples = [sample("a", "train", 1, 1, 1, 1, 1, 1, 1, 2), sample("b", "train", 2), sample("c", "val", 2), sample("d", "test")]
    found = health(Tally.of(samples), ClassMap({1: "cat", 2: "dog"}))
    assert found.images == {"train": 2, "val": 1, "test": 1}
    assert found.classes[1].instances == {"train": 2, "val": 1, "test": 0}
    assert found.classes[1].median_side_px == 8
    assert found.classes[1].lacking == 1  # 0.34 x 7 = 2.38: a third dog would do
    assert found.imbalance == 3.5
    assert found.rare == ("dog",)
    assert found.unlabelled_images == 1


drawn = st.builds(
    sample, st.text(max_size=3), st.sampled_from(["train", "val", "test"]), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip


@given(st.lists(drawn, max_size=8), st.lists(drawn, max_size=8))
def test_tallies_add_up_and_survive_json(first, second):
    both = Tally.of(first) + Tally.of(second)
    assert both == Tally.of([*first, *second])
    assert Tally.from_json(json.loads(json.dumps(both.to_json()))) == both
    classes = ClassMap({1: "a", 2: "b", 3: "c"})
    sides = [8] * sum(len(s.annotations) for s in [*first, *second])
    assert sum(sum(c.sides_px.values()) for c in health(both, classes).classes) == len(sides)


@pytest.mark.parametrize(("counts", "middle"), [({}, None), ({4: 1}, 4), ({4: 1, 8: 1}, 6), ({4: 2, 8: 1}, 4), ({1: 1, 5: 5, 9: 2}, 5)])
def test_the_median_of_counted_values(counts, middle):
    assert median_of(counts) == middle


def test_class_names_are_looked_up_exactly():
    classes = ClassMap({7: "fissure à chaud", 3: "ok"})
    assert classes.id_of("fissure à chaud") == 7
    assert classes.index_of(7) == 1
    with pytest.raises(InvalidRequest, match="unknown class 'OK'"):
        classes.id_of("OK")


@given(st.integers(0, 10_000), st.integers(5, 30), st.integers(5, 30))
def test_a_placed_box_is_inside_and_clear(seed, width, height):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    occupied = [(10.0, 10.0, 30.0, 30.0), (50.0, 0.0, 80.0, 20.0)]
    box = place((width, height), occupied, image, rng)
    if box is not None:
        assert 0 <= box[0] < box[2] <= 80
        assert 0 <= box[1] < box[3] <= 60
        assert all(intersection(box, other) == 0 for other in occupied)


@given(st.integers(0, 10_000), st.integers(5, 30), st.floats(0.02, 0.25))
def test_a_placed_box_hides_no_more_of_another_than_it_may(seed, size, hidden):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    occupied = [(x, y, x + 18.0, y + 18.0) for x in (2.0, 22.0, 42.0, 62.0) for y in (1.0, 21.0, 41.0)]
    may = [hidden * (k % 2) for k in range(12)]
    box = place((size, size), occupied, image, rng, hidden=may)
    if box is not None:
        assert all(intersection(box, other) <= share * 18 * 18 + 1e-6 for other, share in zip(occupied, may, strict=True))


@pytest.mark.parametrize("alone", [True, False], ids=["outlined", "boxed"])
@given(seed=st.integers(0, 10_000), side=st.integers(26, 44))
def test_what_may_be_gone_is_covered_as_a_whole_or_hidden_as_little_as_others(alone, seed, side):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)
    occupied = [(x, y, x + 14.0, y + 11.0) for x in (4.0, 34.0, 64.0) for y in (4.0, 30.0, 56.0)]
    gone = [k != 4 for k in range(9)]
    box = place((side, side), occupied, image, rng, hidden=[0.2] * 9, gone=gone, body=Body(0.9, 0.9, alone=alone))
    assume(box is not None)
    assert intersection(box, occupied[4]) <= 0.2 * 14 * 11 + 1e-6
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for other in occupied:
        rows, columns = np.mgrid[other[1] : other[3] : 60j, other[0] : other[2] : 60j]
        seen = ((columns - other[0] - 7) / 7) ** 2 + ((rows - other[1] - 5.5) / 5.5) ** 2 <= 1
        hidden = float((np.hypot(columns - x, rows - y) <= 0.45 * side)[seen].mean())
        assert intersection(box, other) <= 0.2 * 14 * 11 + 1e-6 or hidden >= 0.85 or (alone and hidden <= 0.2)


def test_nothing_small_is_laid_in_the_midst_of_a_common_neighbour():
    image = np.full((100, 100, 3), 128, dtype=np.uint8)
    for alone in (True, False):
        body = Body(1.0, 1.0, alone=alone)
        assert place((8, 8), [(1.0, 1.0, 99.0, 99.0)], image, np.random.default_rng(0), hidden=[0.0], gone=[True], body=body) is None


def test_a_large_object_finds_room_where_small_ones_may_be_gone():
    image = np.full((100, 100, 3), 128, dtype=np.uint8)
    occupied = [(x + 5.0, y + 5.0, x + 25.0, y + 25.0) for x in (5, 35, 65) for y in (5, 35, 65)]
    asked = {"hidden": [0.3] * 9}
    assert place((60, 60), occupied, image, np.random.default_rng(0), **asked) is None
    assert place((60, 60), occupied, image, np.random.default_rng(0), **asked, gone=[True] * 9, body=Body(1.0, 1.0, alone=True)) is not None


def test_what_may_be_hidden_is_what_real_objects_hide_of_each_class():
    box = (0.0, 0.0, 10.0, 10.0)
    alone, beside, over = (box, []), (box, [((9.0, 0.0, 19.0, 10.0), 1), ((50.0, 50.0, 60.0, 60.0), 2)]), (box, [((3.0, 0.0, 13.0, 10.0), 1)])
    assert usually_hidden([]) == usually_hidden([alone] * 3) == {}
    assert usually_hidden([beside] * 3) == {1: pytest.approx(0.1), 2: 0.0}
    assert usually_hidden([alone, beside, beside, beside, over]) == {1: pytest.approx(0.1), 2: 0.0}
    assert usually_hidden([((0.0, 0.0, 20.0, 10.0), [((6.0, 0.0, 26.0, 10.0), 1)])] * 3) == {1: MOST_HIDDEN}


def test_what_lies_in_a_box_is_a_part_and_not_hidden():
    car, plate = (0.0, 0.0, 40.0, 20.0), (10.0, 12.0, 18.0, 16.0)
    assert usually_hidden([(car, [(plate, 2)])] * 5) == {2: 0.0}
    assert usually_hidden([(plate, [(car, 1)])] * 5) == {1: 0.0}


def test_what_may_not_be_hidden_keeps_its_distance_beside_what_may():
    """A platelet stays clear of a new white cell's hole though red cells may be covered in part."""
    image = np.full((140, 160, 3), 128, dtype=np.uint8)
    platelet, red = (110.0, 60.0, 120.0, 70.0), (0.0, 0.0, 6.0, 6.0)
    for seed in range(20):
        box = place((60, 60), [platelet, red], image, np.random.default_rng(seed), hidden=[0.0, 0.2])
        assert box is not None and intersection(dilate(box, 1.14), platelet) == 0


def test_placement_prefers_empty_ground_over_an_unannotated_object():
    image = np.full((64, 128, 3), 200, dtype=np.uint8)
    image[:, :64] = 40  # an object that nobody annotated, on the smaller half of a mostly light image
    image[:, :40] = 200
    rng = np.random.default_rng(0)
    for _ in range(20):
        box = place((10, 10), [], image, rng)
        assert box is not None
        assert box[2] <= 42 or box[0] >= 62


def test_a_full_image_has_no_place():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    assert place((8, 8), [(0.0, 0.0, 20.0, 20.0)], image, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("instances", "novelty", "mode"),
    [
        pytest.param(9, None, "inpaint", id="default_novelty_needs_ten"),
        pytest.param(9, 0.26, "inpaint", id="just_above"),
        pytest.param(0, 0.0, "copy_paste", id="nothing_to_copy"),
        pytest.param(0, 0.1, "inpaint", id="none_at_all"),
    ],
)
def test_too_few_instances_are_refused_with_a_way_out(instances, novelty, mode):
    with pytest.raises(TooFewInstances, match=r"copy_paste|nothing can be made"):
        check_novelty(class_name="crack", instances=instances, novelty=novelty, mode=mode)


def test_what_is_usual_is_allowed():
    for instances in (1, 9, 10, 1000):
        assert check_novelty(class_name="c", instances=instances, novelty=usual_novelty(instances), mode="inpaint") == usual_novelty(instances)
    assert usual_novelty(9) < usual_novelty(10) == check_novelty(class_name="c", instances=10, novelty=None, mode="inpaint")


def test_few_instances_allow_low_novelty_and_copy_paste():
    assert check_novelty(class_name="c", instances=1, novelty=0.25, mode="inpaint") == 0.25
    assert check_novelty(class_name="c", instances=1, novelty=None, mode="copy_paste") == 0.0
    assert check_novelty(class_name="c", instances=10, novelty=1.0, mode="synthesis") == 1.0


def test_a_gate_with_too_few_real_images_is_unknown_never_passed():
    assert judge((0.0, 0.1), 0.2, at_most=True, real=19) == ("unknown", "only 19 real images to judge by; 20 are needed")
    assert judge((0.3, 0.4), 0.2, at_most=True, real=19)[0] == "unknown"
    assert judge((0.0, 0.1), 0.2, at_most=True, real=20) == ("passed", "")
    assert judge((0.3, 0.4), 0.2, at_most=True, real=20) == ("failed", "")


def test_a_gate_whose_interval_spans_its_threshold_is_unknown():
    assert judge((0.1, 0.3), 0.2, at_most=True, real=50)[0] == judge((0.1, 0.3), 0.2, at_most=False, real=50)[0] == "unknown"
    assert judge((0.2, 0.3), 0.2, at_most=False, real=50)[0] == "passed"
    assert judge((0.1, 0.19), 0.2, at_most=False, real=50)[0] == "failed"


@pytest.mark.parametrize(("interval", "limit"), [((0.0, math.nan), 1.0), ((math.nan, math.nan), 1.0), ((0.0, 0.1), math.nan)])
def test_what_could_not_be_measured_is_unknown(interval, limit):
    assert judge(interval, limit, at_most=True, real=50) == ("unknown", "could not be measured")


def test_expansion_fills_the_rarest_first_within_its_budget():
    assert missing({"a": 10, "b": 10, "c": 3}, {"a": 4, "b": 1, "c": 3}, budget=12) == {"b": 9, "a": 3}


@pytest.mark.parametrize(("images", "expected"), [(5, {"b": 9, "a": 6}), (4, {"b": 9, "a": 3}), (3, {"b": 9}), (2, {"b": 6})])
def test_an_expansion_of_several_objects_an_image_counts_its_budget_in_images(images, expected):
    assert missing({"a": 10, "b": 10}, {"a": 4, "b": 1}, budget=images, objects=3) == expected


def test_expansion_with_its_targets_met_is_empty():
    assert missing({"a": 3}, {"a": 3}, budget=10) == {}
    assert missing({"a": 3}, {"a": 9}, budget=10) == {}


def test_a_recipe_survives_json():
    recipe = tiny_finetune(budget_s=30, seed=4)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_recipe_checks_itself():
    with pytest.raises(InvalidRequest, match="batch"):
        Recipe(batch=3)


def test_provenance_survives_json():
    record = Provenance(
        mode="inpaint", class_name="c", seed=1, novelty=0.3, model="m", model_version=2, model_uri="s3://b/m", background={"sample": "x"},
        exemplar=None, box_xyxy=(0.0, 1.0, 2.0, 3.0), scores={"change": 1.0},
    )  # fmt: skip
    assert Provenance.from_json(record.to_json()) == record
    record.check_rendering()
    older = {k: v for k, v in record.to_json().items() if k != "rendering"}
    with pytest.raises(Conflict, match="rendering 1"):
        Provenance.from_json(older).check_rendering()


def test_what_an_inpainted_image_repeats_of_its_background_counts_for_no_target():
    """Two real cells; an image of theirs with a third painted in shows three, of which one is new."""
    cell = Annotation(category_id=1, bbox_xywh=(0.0, 0.0, 4.0, 4.0))
    common = {"path": "p", "uri": "u", "etag": "e", "size_bytes": 1, "width": 8, "height": 8, "split": "train"}
    record = Provenance(
        mode="inpaint", class_name="cell", seed=1, novelty=0.3, model=None, model_version=None, model_uri=None, background={"sample": "real"},
        exemplar=None, box_xyxy=(0.0, 0.0, 4.0, 4.0),
    )  # fmt: skip
    real = Sample(id="real", annotations=(cell, cell), **common)
    made = Sample(id="made", annotations=(cell, cell, cell), origin="synthetic", provenance=record, **common)
    tally = Tally.of([real, made])
    (found,) = health(tally, ClassMap({1: "cell"})).classes
    assert (found.instances["train"], found.own, found.synthetic) == (5, 3, 1)
    assert Tally.from_json(tally.to_json()) == tally
    assert Tally.of([real]) + Tally.of([made]) == tally
