"""A classical policy as part of a batch and of an uplift arm, through the API on the real stack."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from infra.catalogue import Catalogue
from infra.formats.segmentation import run_lengths
from infra.marks import read_mark
from longtail.client import ApiProblem
from longtail.policies import PRESETS
from tests.integration.test_lifecycle import done, picture, put

TURN = [{"name": "HorizontalFlip", "p": 1.0}, {"name": "RandomBrightnessContrast", "p": 1.0, "options": {"brightness_limit": [0.1, 0.2]}}]


@pytest.fixture(scope="module")
def spots(stack):
    """Twelve images with one spot each at (30, 20) of 40x40, its mask among the labels."""
    name = stack.name("varied")
    for n in range(12):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    mask = np.zeros((120, 160), dtype=bool)
    mask[20:60, 30:70] = True
    put(stack, name, range(12), label=lambda n: 1, outline=run_lengths(mask))
    done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    return name


def batch(stack, name, **more):
    asked = stack.client.post("/v1/batches", {"dataset": name, "class_name": "class 1", "count": 4, "mode": "copy_paste", "seed": 1, **more})
    done(stack, asked)
    found = stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]
    return asked["batch"], sorted(found, key=lambda s: s["position"])


def pixels(stack, sample):
    return np.asarray(Image.open(io.BytesIO(stack.objects.read(sample["uri"]))).convert("RGB"), dtype=int)


@pytest.fixture(scope="module")
def pair(stack, spots):
    """The same batch without and with the policy."""
    return batch(stack, spots), batch(stack, spots, augment=TURN)


def test_labels_follow_the_pixels(stack, pair):
    (_, plain), (_, turned) = pair
    for before, after in zip(plain, turned, strict=True):
        assert len(before["annotations"]) == len(after["annotations"]) == 2
        for a, b in zip(before["annotations"], after["annotations"], strict=True):
            x, y, w, h = a["bbox"]
            assert np.allclose(b["bbox"], (160 - x - w, y, w, h), atol=1e-3)
        first, second = pixels(stack, before)[:, ::-1], pixels(stack, after)
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.95 > 0.7 > np.corrcoef(first[:, ::-1].ravel(), second.ravel())[0, 1]
        assert second.mean() > first.mean() + 5
        kept = after["annotations"][0]["extra"]["segmentation"]
        mirrored = np.zeros((120, 160), dtype=bool)
        mirrored[20:60, 90:130] = True
        assert kept == run_lengths(mirrored)


def test_the_record_holds_the_policy_and_replays(stack, pair):
    for sample in pair[1][1]:
        said = sample["provenance"]["augment"]
        assert [s["name"] for s in said["policy"]] == ["HorizontalFlip", "RandomBrightnessContrast"]
        assert stack.client.post(f"/v1/samples/{sample['id']}/regenerate")["identical"] is True
        assert read_mark(stack.objects.read(sample["uri"])).provenance.augment == said
    seeds = {s["provenance"]["augment"]["seed"] for s in pair[1][1]}
    assert len(seeds) == 4


def test_what_is_published_has_the_moved_labels(stack, spots, pair):
    key, samples = pair[1]
    for s in samples:
        stack.client.post(f"/v1/samples/{s['id']}/decision", {"accept": True})
    version = done(stack, stack.client.post(f"/v1/batches/{key}/publish", {"accept_unproven": True}))["version"]
    page = stack.client.get(f"/v1/datasets/{spots}/versions/{version}/samples", limit=50, origin="synthetic")["items"]
    assert {s["id"]: s["annotations"][-1]["bbox_xywh"] for s in page} == {s["id"]: s["annotations"][-1]["bbox"] for s in samples}
    rows = Catalogue.of(stack.settings).samples(spots, Catalogue.of(stack.settings).database.version(spots, version), origin="synthetic")
    assert all(r.provenance.augment["policy"][0]["name"] == "HorizontalFlip" for r in rows)


def test_a_preset_is_written_out_and_previews_take_it_too(stack, spots):
    body = {"dataset": spots, "class_name": "class 1", "mode": "copy_paste", "count": 2, "augment": "standard"}
    for item in stack.client.post("/v1/previews", body)["items"]:
        assert [s["name"] for s in item["provenance"]["augment"]["policy"]] == [s["name"] for s in PRESETS["standard"]]
        x0, y0, x1, y1 = item["box_xyxy"]
        assert 0 <= x0 < x1 <= item["width"] and 0 <= y0 < y1 <= item["height"]


@pytest.mark.parametrize(
    ("augment", "says"),
    [("wild", "unknown policy 'wild'"), ([{"name": "Lambda"}], "unknown step 'Lambda'"), ([], "expected 1 to 20 steps"), ([{"p": 1}], "name")],
    ids=["preset", "step", "none", "nameless"],
)
def test_a_policy_that_cannot_be_is_refused_at_once(stack, spots, augment, says):
    with pytest.raises(ApiProblem, match=says) as error:
        stack.client.post("/v1/batches", {"dataset": spots, "class_name": "class 1", "mode": "copy_paste", "augment": augment})
    assert error.value.status == 422


def test_an_option_that_a_step_does_not_take_is_named(stack, spots):
    body = {"dataset": spots, "class_name": "class 1", "mode": "copy_paste", "augment": [{"name": "Affine", "options": {"rotation": 4}}]}
    with pytest.raises(ApiProblem, match=r"augment: Affine: .*rotation"):
        stack.client.post("/v1/previews", body)
