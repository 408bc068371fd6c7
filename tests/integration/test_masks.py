"""A dataset with masks, end to end: what is made has a mask of its own, and nothing about the object is painted over."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from infra.formats.segmentation import mask_of
from infra.pages import shown_interval
from longtail.client import ApiProblem, JobFailed

WIDTH, HEIGHT = 160, 120


def diamond(center_x, center_y, radius):
    """A polygon that fills half of its box."""
    return [float(v) for v in (center_x, center_y - radius, center_x + radius, center_y, center_x, center_y + radius, center_x - radius, center_y)]


@pytest.fixture(scope="module")
def diamonds(stack):
    """Twelve images, each with a bright diamond outlined in the upper half and noise elsewhere."""
    return registered(stack, "diamonds", lambda n: (40 + 6 * n, 30, 16 + n % 5))


@pytest.fixture(scope="module")
def boulders(stack):
    """Diamonds so large that their windows are larger than the network paints."""
    return registered(stack, "boulders", lambda n: (60 + 3 * n, 60, 48 + n % 5))


def registered(stack, name, place):
    body = {"images": [], "annotations": [], "categories": [{"id": 5, "name": "diamond"}]}
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for n in range(12):
        rng = np.random.default_rng(n)
        pixels = rng.integers(90, 130, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        cx, cy, r = place(n)
        pixels[abs(x - cx) + abs(y - cy) <= r] = rng.integers(180, 250, 3)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        stack.objects.write(f"s3://team-data/{name}/{n}.png", out.getvalue())
        body["images"].append({"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT})
        body["annotations"].append(
            {"id": n, "image_id": n, "category_id": 5, "bbox": [cx - r, cy - r, 2 * r, 2 * r], "area": 2 * r * r, "iscrowd": 0,
             "segmentation": [diamond(cx, cy, r)]}
        )  # fmt: skip
    stack.objects.write(f"s3://team-data/{name}/train.json", json.dumps(body).encode())
    stack.client.wait(stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"], timeout_s=120)
    return name


def pixels_of(stack, uri):
    return np.asarray(Image.open(io.BytesIO(stack.objects.read(uri))).convert("RGB"))


@pytest.mark.parametrize(("mode", "novelty"), [("inpaint", 0.2), ("inpaint", 1.0), ("copy_paste", None)])
def test_what_is_made_has_its_mask_and_keeps_the_ground_about_it(stack, diamonds, mode, novelty):
    asked = {"dataset": diamonds, "class_name": "diamond", "count": 3, "mode": mode, "novelty": novelty, "seed": 4}
    made = stack.client.post("/v1/batches", asked)
    stack.client.wait(made["job"], timeout_s=180)
    samples = stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"]
    assert len(samples) == 3
    for sample in samples:
        *_, own = sample["annotations"]
        mask = mask_of(own["extra"]["segmentation"], WIDTH, HEIGHT)
        x, y, w, h = own["bbox"]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert np.allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], [x, y, x + w, y + h], atol=2)
        assert 0.3 < mask.sum() / (w * h) < 0.75, "a diamond fills half of its box"
        before, after = pixels_of(stack, sample["provenance"]["background"]["uri"]), pixels_of(stack, sample["uri"])
        changed = (before != after).any(2)
        assert changed[mask].mean() > 0.9
        corners = np.zeros_like(mask)
        corners[int(y) : int(y + h), int(x) : int(x + w)] = True
        assert changed[corners & ~mask].mean() < 0.8, "the box's corners lie beyond the outline's hole"
        record = sample["provenance"]
        assert bool(record["outline"]) == (novelty == 1.0) and bool(record["exemplar"]) == (novelty != 1.0)
        assert stack.client.post(f"/v1/samples/{sample['id']}/regenerate")["identical"]


def test_masks_of_what_was_made_are_exported(stack, diamonds):
    made = stack.client.post("/v1/batches", {"dataset": diamonds, "class_name": "diamond", "count": 2, "mode": "copy_paste", "seed": 5})
    stack.client.wait(made["job"], timeout_s=180)
    for sample in stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    version = stack.client.wait(stack.client.post(f"/v1/batches/{made['batch']}/publish", {"accept_unproven": True})["job"], timeout_s=120)["result"]
    place = "s3://team-data/diamonds-out"
    job = stack.client.post(f"/v1/datasets/{diamonds}/versions/{version['version']}/exports", {"format": "coco", "destination": place})
    stack.client.wait(job["job"], timeout_s=120)
    (file,) = [f.uri for f in stack.objects.below(place) if f.uri.endswith(".json") and "train" in f.uri]
    body = json.loads(stack.objects.read(file))
    new = {i["id"] for i in body["images"]} - set(range(12))
    assert len(new) == 2
    assert all(mask_of(a["segmentation"], WIDTH, HEIGHT).any() for a in body["annotations"] if a["image_id"] in new)


def test_training_takes_presets_starts_and_options(stack, diamonds):
    options = {"loss": "hinge", "penalty": "r1", "minibatch_std": True, "ground_share": 0.25, "novelty_range": [0.0, 0.5]}
    asked = stack.client.post("/v1/generators", {"dataset": diamonds, "budget_s": 3, "recipe": options})
    result = stack.client.wait(asked["job"], timeout_s=300)["result"]
    found = next(g for g in stack.client.get(f"/v1/generators/{diamonds}")["items"] if g["version"] == result["generator"])["recipe"]
    assert {k: found[k] for k in options if k != "minibatch_std"} == {k: v for k, v in options.items() if k != "minibatch_std"}
    assert found["network"]["minibatch_std"] is True
    asked = stack.client.post("/v1/generators", {"dataset": diamonds, "budget_s": 3, "recipe": {"aim": "invent", "rate_generator": 1e-4}})
    result = stack.client.wait(asked["job"], timeout_s=300)["result"]
    assert result["best_kid_at"] == {"diamond": [1.0, 0.8]}, "what is to invent has its checkpoint chosen by inventions"
    assert {g.get("novelty") for g in result["gates"] if g["name"] != "utility"} == {1.0}, "and its gates look at them"
    found = next(g for g in stack.client.get(f"/v1/generators/{diamonds}")["items"] if g["version"] == result["generator"])["recipe"]
    assert (found["aim"], found["reconstruction_weight"], found["full_novelty_share"], found["rate_generator"]) == ("invent", 0, 1, 1e-4)
    asked = stack.client.post("/v1/generators", {"dataset": diamonds, "budget_s": 3, "preset": "baseline"})
    result = stack.client.wait(asked["job"], timeout_s=300)["result"]
    items = stack.client.get(f"/v1/generators/{diamonds}")["items"]
    assert next(g for g in items if g["version"] == result["generator"])["recipe"]["network"]["architecture"] == "dcgan"


def test_a_batch_tells_what_the_gates_of_its_generator_were_not_asked(stack, diamonds):
    """The foundation's have no class, a fine-tune's look at the usual novelty, those of one that is to invent at 1."""

    def made(novelty, mode="inpaint"):
        asked = {"dataset": diamonds, "class_name": "diamond", "count": 1, "mode": mode, "novelty": novelty, "seed": 6}
        return stack.client.wait(stack.client.post("/v1/batches", asked)["job"], timeout_s=180)["result"]

    def serve(aim):
        asked = stack.client.post("/v1/generators", {"dataset": diamonds, "budget_s": 2, "recipe": {"aim": aim}})
        number = stack.client.wait(asked["job"], timeout_s=300)["result"]["generator"]
        stack.client.wait(stack.client.post(f"/v1/generators/{diamonds}/champion", {"version": number})["job"], timeout_s=60)
        return number

    def published(batch):
        (sample,) = stack.client.get(f"/v1/batches/{batch}/samples")["items"]
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
        job = stack.client.post(f"/v1/batches/{batch}/publish", {"accept_unproven": False})["job"]
        return stack.client.get(f"/v1/datasets/{diamonds}/versions/{stack.client.wait(job, timeout_s=120)['result']['version']}/report")

    def novelty_of(batch):
        return stack.client.get(f"/v1/batches/{batch}/samples")["items"][0]["provenance"]["novelty"]

    plain = made(0.5)
    assert "no gate of 'diamond' was asked of generator 1" in plain["unasked"]
    failures = published(plain["batch"])["failures"]
    assert any("generator 1 is the shipped foundation" in line for line in failures) and not any(plain["unasked"] in line for line in failures), "told once"
    assert "unasked" not in made(None, "copy_paste")
    number = serve("restore")
    usual = made(None)
    assert "unasked" not in usual and novelty_of(usual["batch"]) == 0.5
    beyond = made(0.9)
    assert beyond["unasked"].startswith(f"made at novelty 0.9, where the gates of generator {number} looked at 'diamond' at 0.5")
    report = published(beyond["batch"])
    assert f"batch {beyond['batch']}: {beyond['unasked']}" in report["failures"]
    assert {g["novelty"] for g in report["gates"] if g["name"] != "utility"} == {0.5}
    fell = [g for g in report["gates"] if g["verdict"] != "passed" and g["figure"] is not None]
    said = [f"{g['figure']:.3f} ({shown_interval(g['interval'])}), wanted {g['threshold']}" for g in fell]
    assert said and all(any(words in line for line in report["failures"]) for words in said)
    serve("invent")
    usual = made(None)
    assert "unasked" not in usual and novelty_of(usual["batch"]) == 1.0, "what was made to invent is asked to, where nobody says otherwise"
    preview = {"dataset": diamonds, "class_name": "diamond", "count": 1, "seed": 6}
    shown = [stack.client.post("/v1/previews", {**preview, **asked})["items"][0] for asked in ({}, {"novelty": 0.5})]
    assert [item["provenance"]["novelty"] for item in shown] == [1.0, 0.5]
    assert "ask for 1" in made(0.5)["unasked"]
    now = next(c["own"] for c in stack.client.get(f"/v1/datasets/{diamonds}/health")["classes"] if c["name"] == "diamond")
    key = stack.client.post("/v1/expansions", {"dataset": diamonds, "targets": {"diamond": now + 1}, "novelty": 0.5, "objects": 1})["id"]
    outcome = stack.client.wait(stack.client.post(f"/v1/expansions/{key}/run", {})["job"], timeout_s=180)["result"]
    assert "ask for 1" in outcome["unasked"]["diamond"]


@pytest.mark.long
def test_real_images_are_enlarged_with_their_labels(stack, boulders):
    asked = {"dataset": boulders, "class_name": "diamond", "count": 3, "mode": "enlarge", "factor": 2, "seed": 1}
    with pytest.raises(JobFailed, match="wants a generator with an upsampler"):  # the foundation that serves at first has none
        stack.client.wait(stack.client.post("/v1/batches", asked)["job"], timeout_s=120)
    body = {"dataset": boulders, "budget_s": 3, "recipe": {"upscaler_s": 70}}
    trained = stack.client.wait(stack.client.post("/v1/generators", body)["job"], timeout_s=300)["result"]
    assert trained["upscaler"]["used"] and trained["upscaler"]["gain_x2"] > 0
    stack.client.wait(stack.client.post(f"/v1/generators/{boulders}/champion", {"version": trained["generator"]})["job"], timeout_s=60)
    for factor in (2, 4):
        made = stack.client.post("/v1/batches", {**asked, "factor": factor})
        stack.client.wait(made["job"], timeout_s=120)
        samples = stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"]
        assert len({s["provenance"]["exemplar"]["sample"] for s in samples}) == 3
        for sample in samples:
            (own,) = sample["annotations"]
            mask = mask_of(own["extra"]["segmentation"], factor * WIDTH, factor * HEIGHT)
            x0, y0, x1, y1 = sample["provenance"]["exemplar"]["box_xyxy"]
            assert own["bbox"] == [factor * v for v in (x0, y0, x1 - x0, y1 - y0)]
            real, large = pixels_of(stack, sample["provenance"]["exemplar"]["uri"]), pixels_of(stack, sample["uri"])
            assert large.shape == (factor * HEIGHT, factor * WIDTH, 3)
            assert large[mask].mean() > 150 > large[~mask].mean(), "mask and image must lie on each other"
            reduced = large.reshape(HEIGHT, factor, WIDTH, factor, 3).mean((1, 3))
            assert np.abs(reduced - real).mean() < 12
            assert stack.client.post(f"/v1/samples/{sample['id']}/regenerate")["identical"]
    with pytest.raises(JobFailed, match="seen in 12 training images"):
        stack.client.wait(stack.client.post("/v1/batches", {**asked, "count": 13})["job"], timeout_s=120)
    with pytest.raises(ApiProblem, match="does not enlarge"):
        stack.client.post("/v1/batches", {**asked, "mode": "inpaint"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"recipe": {"loss": "wasserstein"}}, "loss"),
        ({"recipe": {"no_such": 1}}, "no_such"),
        ({"recipe": {"batch": 5}}, "batch"),
        ({"recipe": {"novelty_range": [0.8, 0.2]}}, "novelty_range"),
        ({"preset": "base", "start": "foundation"}, "has no foundation"),
        ({"preset": "huge"}, "preset"),
        ({"recipe": {"aim": "dream"}}, "aim"),
        ({"preset": "baseline", "recipe": {"aim": "invent"}}, "plain DCGAN"),
    ],
)
def test_recipes_that_are_none_are_refused(stack, diamonds, body, said):
    with pytest.raises(ApiProblem, match=said) as problem:
        stack.client.post("/v1/generators", {"dataset": diamonds, "budget_s": 3, **body})
    assert problem.value.status == 422
