"""Several new objects in one image: records that replay, labels, counts, and an expansion that meets its target exactly."""

from __future__ import annotations

from itertools import combinations

import pytest

from infra.marks import read_mark
from longtail.boxes import intersection, xywh_to_xyxy
from longtail.client import ApiProblem
from longtail.samples import Provenance
from tests.integration.test_lifecycle import done, picture, put


@pytest.fixture(scope="module")
def spots(stack):
    """Twelve images of 160x120 with one object each."""
    name = stack.name("several")
    for n in range(12):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(12), label=lambda n: 1)
    done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    return name


@pytest.fixture(scope="module")
def made(stack, spots):
    """(batch, its samples): every one accepted, so that what is counted does not hang on a filter."""
    asked = stack.client.post("/v1/batches", {"dataset": spots, "class_name": "class 1", "count": 4, "mode": "copy_paste", "seed": 1, "objects": 3})
    done(stack, asked)
    for sample in stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    told = stack.client.get(f"/v1/jobs/{asked['job']}")["result"]
    assert told["objects"]["taken_out"] + told["objects"]["accepted"] <= 12
    assert told["objects"]["accepted"] >= told["accepted"]
    return asked["batch"], stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]


def layers(sample):
    return Provenance.from_json(sample["provenance"]).layers


def test_an_image_has_several_new_objects_that_touch_neither_each_other_nor_what_was_there(made):
    assert max(len(layers(s)) for s in made[1]) > 1
    for sample in made[1]:
        added = layers(sample)
        assert len(sample["annotations"]) == 1 + len(added)
        assert len({r.background["sample"] for r in added}) == 1
        assert len({r.seed for r in added}) == len(added)
        boxes = [xywh_to_xyxy(a["bbox"]) for a in sample["annotations"]]
        assert [tuple(r.box_xyxy) for r in added] == boxes[1:]
        assert all(intersection(a, b) == 0 for a, b in combinations(boxes, 2))


def test_it_is_made_again_pixel_for_pixel_and_its_file_tells_of_all_its_objects(stack, made):
    for sample in made[1]:
        assert stack.client.post(f"/v1/samples/{sample['id']}/regenerate")["identical"] is True
        mark = read_mark(stack.objects.read(sample["uri"]))
        assert [r.box_xyxy for r in mark.provenance.layers] == [r.box_xyxy for r in layers(sample)]
        assert mark.provenance.sources == {part["sample"] for r in layers(sample) for part in (r.background, r.exemplar)}


def test_images_and_objects_are_counted_apart(stack, spots, made):
    key, samples = made
    version = done(stack, stack.client.post(f"/v1/batches/{key}/publish", {"accept_unproven": False}))["version"]
    health = stack.client.get(f"/v1/datasets/{spots}/versions/{version}")["health"]
    (mine,) = [c for c in health["classes"] if c["name"] == "class 1"]
    added = sum(len(layers(s)) for s in samples)
    before = stack.client.get(f"/v1/datasets/{spots}/versions/1")["health"]["classes"]
    own = next(c["own"] for c in before if c["name"] == "class 1")
    assert (health["synthetic_images"], mine["synthetic"], mine["own"]) == (4, added, own + added)


def test_an_expansion_adds_as_many_objects_as_its_target_lacks(stack, spots):
    own = next(c["own"] for c in stack.client.get(f"/v1/datasets/{spots}/versions/1")["health"]["classes"] if c["name"] == "class 1")
    key = stack.client.post("/v1/expansions", {"dataset": spots, "targets": {"class 1": own + 4}, "mode": "copy_paste"})["id"]
    first = done(stack, stack.client.post(f"/v1/expansions/{key}/run"))
    assert first["asked"] == {"class 1": 4}
    (batch,) = first["batches"]
    samples = stack.client.get(f"/v1/batches/{batch}/samples")["items"]
    assert len(samples) == 2  # three objects and one
    assert [len(layers(s)) for s in sorted(samples, key=lambda s: s["position"])][1] == 1
    assert sum(len(layers(s)) for s in samples) <= 4


def test_previews_say_where_each_object_is_and_a_policy_moves_them_all(stack, spots):
    body = {"dataset": spots, "class_name": "class 1", "mode": "copy_paste", "count": 2, "seed": 5, "objects": 2}
    turned = {**body, "augment": [{"name": "HorizontalFlip", "p": 1.0}]}
    for plain, moved in zip(*(stack.client.post("/v1/previews", b)["items"] for b in (body, turned)), strict=True):
        assert plain["boxes_xyxy"][-1] == plain["box_xyxy"]
        for (a0, b0, a1, b1), (x0, y0, x1, y1) in zip(plain["boxes_xyxy"], moved["boxes_xyxy"], strict=True):
            assert (x0, y0, x1, y1) == pytest.approx((160 - a1, b0, 160 - a0, b1), abs=1e-3)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("previews", {"mode": "synthesis", "objects": 2}), ("previews", {"boxes": [{"image": "0.png", "box_xyxy": [0, 0, 9, 9]}], "objects": 2}),
        ("previews", {"interpolate": True, "objects": 2}), ("batches", {"objects": 9}), ("batches", {"objects": 0}),
    ],
)  # fmt: skip
def test_several_objects_are_refused_where_they_cannot_be(stack, spots, path, more):
    with pytest.raises(ApiProblem) as error:
        stack.client.post(f"/v1/{path}", {"dataset": spots, "class_name": "class 1", "mode": "copy_paste", **more})
    assert error.value.status == 422
    assert "objects" in str(error.value)
