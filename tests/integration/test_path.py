"""The path through the public API on the real stack: register, preview, batch, publish, roll back, expand."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from infra.database import BATCHES, Database
from infra.marks import read_mark
from infra.registry import Registry
from longtail.client import ApiProblem
from longtail.samples import DIGITAL_SOURCE_TYPES
from services.demo.packs import PACKS
from services.demo.walk import wait_until
from tests.integration.mlflow_files import artifact


def register_single_platelet(stack, name):
    """The blood cells with one annotated platelet left in train."""
    for split in ("train", "val"):
        body = json.loads((PACKS / "bccd" / "annotations" / f"coco_{split}.json").read_text())
        platelets = next(c["id"] for c in body["categories"] if c["name"] == "Platelets")
        first = next(a["id"] for a in body["annotations"] if a["category_id"] == platelets)
        body["annotations"] = [a for a in body["annotations"] if split == "val" or a["category_id"] != platelets or a["id"] == first]
        stack.objects.write(f"s3://team-data/{name}/annotations/coco_{split}.json", json.dumps(body).encode())
        for image in body["images"]:
            path = f"JPEGImages/{image['file_name'].removeprefix('JPEGImages/')}"
            stack.objects.write(f"s3://team-data/{name}/{path}", (PACKS / "bccd" / path).read_bytes())
    stack.client.wait(stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"], timeout_s=120)


def test_health_names_the_rare_classes(stack, cells):
    found = stack.client.get(f"/v1/datasets/{cells}/health")
    assert {c["name"]: (c["instances"]["train"], c["rare"]) for c in found["classes"]} == {
        "RBC": (571, False), "WBC": (52, True), "Platelets": (49, True),
    }  # fmt: skip
    assert found["images"] == {"train": 50, "val": 30, "test": 72}


@pytest.fixture(scope="module")
def inspected(stack, cells):
    """Version 1 of the blood cells, looked at."""
    stack.client.wait(stack.client.post(f"/v1/datasets/{cells}/versions/1/inspections")["job"], timeout_s=180)
    return cells


def test_boxes_of_odd_sizes_are_named_and_shown(stack, inspected):
    """The blood cells' own labels call a platelet of 31 px a white cell, and a white cell of 143 px a platelet."""
    found = stack.client.get(f"/v1/datasets/{inspected}/health", version=1)
    odd = found["odd_boxes"]
    assert (odd["boxes"], {n: c["odd"] for n, c in odd["classes"].items()}) == (2, {"WBC": 1, "Platelets": 1})
    assert "odd" not in found["copies"]
    small = next(o for o in odd["first"] if o["class_name"] == "WBC")
    assert (small["split"], max(small["bbox_xywh"][2:])) == ("train", 31)
    page = b"".join(stack.client.download(f"/v1/datasets/{inspected}/versions/1/health.html")).decode()
    assert "WBC: 1 box is of a size unlike the others" in page
    assert page.count("data:image/png;base64,") == 2 and f"WBC, 31 px: {small['path']} (train)" in page


def test_registration_copied_no_image(stack, cells):
    page = stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=5)
    assert all(s["uri"].startswith("s3://team-data/cells/JPEGImages/") for s in page["items"])


def test_pages_hold_every_sample_once(stack, cells):
    seen, cursor = [], None
    while True:
        page = stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=40, **({"cursor": cursor} if cursor else {}))
        seen += [s["id"] for s in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 152


@pytest.mark.parametrize(("mode", "novelty"), [("inpaint", 0.0), ("inpaint", 1.0), ("copy_paste", None), ("synthesis", 0.2)])
def test_a_preview_is_a_marked_image_with_its_box(stack, cells, mode, novelty):
    body = {"dataset": cells, "class_name": "Platelets", "count": 2, "mode": mode, "novelty": novelty}
    for item in stack.client.post("/v1/previews", body)["items"]:
        data = base64.b64decode(item["image_base64"])
        image = Image.open(io.BytesIO(data))
        x0, y0, x1, y1 = item["box_xyxy"]
        assert 0 <= x0 < x1 <= image.width
        assert 0 <= y0 < y1 <= image.height
        assert read_mark(data).source_type == DIGITAL_SOURCE_TYPES[mode]


def test_previews_go_from_one_latent_to_another_in_one_place(stack, cells):
    body = {"dataset": cells, "class_name": "Platelets", "count": 3, "novelty": 1.0, "interpolate": True, "truncation": 1.5, "seed": 4}
    items = stack.client.post("/v1/previews", body)["items"]
    records = [item["provenance"] for item in items]
    assert [r["towards"]["share"] for r in records] == [0.0, 0.5, 1.0]
    assert len({(r["seed"], tuple(r["box_xyxy"]), r["background"]["sample"], r["truncation"]) for r in records}) == 1
    assert len({item["image_base64"] for item in items}) == 3
    assert len({item["id"] for item in items}) == 3


def test_a_box_given_by_the_caller_is_kept_and_the_rest_untouched(stack, cells):
    sample = stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=200)["items"]
    background = next(s for s in sample if s["split"] == "train")
    body = {"dataset": cells, "class_name": "Platelets", "novelty": 0.1, "boxes": [{"image": background["path"], "box_xyxy": [300, 200, 340, 236]}]}
    (item,) = stack.client.post("/v1/previews", body)["items"]
    assert item["box_xyxy"] == [300, 200, 340, 236]
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["image_base64"]))).convert("RGB")).astype(int)
    before = np.asarray(Image.open(io.BytesIO(stack.objects.read(background["uri"]))).convert("RGB")).astype(int)
    far = np.ones(after.shape[:2], dtype=bool)
    far[160:280, 260:380] = False
    assert np.abs(after - before)[far].mean() < 1.5  # one more pass of the same codec


def test_a_batch_is_filtered_and_explained(stack, made):
    samples = stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"]
    assert len(samples) == made["made"] == 6
    assert made["accepted"] == sum(s["state"] == "accepted" for s in samples)
    assert all(s["verdict"]["nearest"] and s["provenance"]["exemplar"]["sample"] for s in samples)
    assert all(0 <= s["verdict"]["figures"]["apart"] <= 2 for s in samples)  # from what their pixels repeat
    assert made["derived"]["samples"] == made["accepted"]  # novelty 0.1: each from its exemplar
    counts = list(made["derived"]["by_instance"].values())
    assert (len(counts), sum(counts)) == (made["derived"]["instances"], made["accepted"])
    assert made["rates"] == {reason: count / 6 for reason, count in made["rejected"].items()}


def test_the_same_key_and_body_is_the_same_job_and_another_body_is_refused(stack, cells, made):
    body = {"dataset": cells, "class_name": "Platelets", "count": 6, "novelty": 0.1, "seed": 11}
    again = stack.client.post("/v1/batches", body, idempotency_key="six platelets")
    assert again["batch"] == made["batch"]
    with pytest.raises(ApiProblem, match="another body") as error:
        stack.client.post("/v1/batches", {**body, "count": 7}, idempotency_key="six platelets")
    assert error.value.status == 422


def test_a_sample_is_made_again_pixel_for_pixel(stack, made):
    for sample in stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"][:3]:
        assert stack.client.post(f"/v1/samples/{sample['id']}/regenerate")["identical"]


def test_the_same_request_seed_gives_the_same_images_in_another_batch(stack, cells, made):
    body = {"dataset": cells, "class_name": "Platelets", "count": 3, "novelty": 0.1, "seed": 11}
    other = stack.client.wait(stack.client.post("/v1/batches", body)["job"], timeout_s=240)["result"]
    first = stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"]
    second = stack.client.get(f"/v1/batches/{other['batch']}/samples")["items"]
    seeds = {s["provenance"]["seed"]: s["verdict"]["figures"]["change"] for s in first}
    assert all(seeds[s["provenance"]["seed"]] == s["verdict"]["figures"]["change"] for s in second)


def test_an_unproven_version_is_published_beside_latest(stack, cells, made, published):
    assert stack.client.get(f"/v1/datasets/{cells}")["latest"] == 1
    version = stack.client.get(f"/v1/datasets/{cells}/versions/{published['version']}")
    assert (version["proof"], version["parent"]) == ("none", 1)
    after = {c["name"]: c["instances"]["train"] for c in version["health"]["classes"]}
    assert after["Platelets"] >= 49 + made["accepted"]
    assert version["health"]["images"] == {"train": 50 + made["accepted"], "val": 30, "test": 72}


def test_a_version_with_the_real_images_of_its_parent_is_known_by_that_one_s_inspection(stack, inspected, published):
    first = stack.client.get(f"/v1/datasets/{inspected}/health", version=1)
    found = stack.client.get(f"/v1/datasets/{inspected}/health", version=published["version"])
    assert (found["odd_boxes"], found["copies"]) == (first["odd_boxes"], first["copies"])
    assert found["copies"]["version"] == 1


def test_publishing_again_adds_nothing_twice(stack, made, published):
    job = stack.client.post(f"/v1/batches/{made['batch']}/publish", {})
    assert stack.client.wait(job["job"], timeout_s=60)["result"]["version"] == published["version"]


def test_mlflow_has_the_page_of_a_version_as_it_was_published(stack, cells, made, published):
    client = Registry(stack.settings.mlflow_url).client
    experiment = client.get_experiment_by_name(f"longtail-{cells}").experiment_id
    (run,) = client.search_runs([experiment], filter_string=f"tags.`longtail.dataset_version` = '{published['version']}'")
    assert "not_logged" not in published
    assert {"version.html", "version.json"} <= {f.path for f in client.list_artifacts(run.info.run_id)}
    told = json.loads(artifact(stack, run, "version.json"))
    assert (told["proof"], [b["batch"] for b in told["batches"]]) == ("none", [made["batch"]])
    assert artifact(stack, run, "version.html").count(b"data:image/png;base64,") >= made["accepted"]
    (first,) = client.search_runs([experiment], filter_string="attributes.run_name = 'version 1'")
    assert b"50 training images, 0 of them synthetic" in artifact(stack, first, "version.html")


def test_latest_moves_to_an_unproven_version_only_when_told_so_and_back_freely(stack, cells, published):
    path = f"/v1/datasets/{cells}/latest"
    with pytest.raises(ApiProblem, match="accept_unproven"):
        stack.client.post(path, {"version": published["version"]})
    assert stack.client.post(path, {"version": published["version"], "accept_unproven": True})["latest"] == published["version"]
    assert stack.client.get(f"/v1/datasets/{cells}/versions/{published['version']}")["accepted_unproven"] is True
    assert stack.client.post(path, {"version": 1})["latest"] == 1


def test_an_expansion_fills_its_targets_once_and_then_does_nothing(stack, cells):
    body = {"dataset": cells, "targets": {"WBC": 58}, "mode": "copy_paste"}
    key = stack.client.post("/v1/expansions", body)["id"]
    first = stack.client.wait(stack.client.post(f"/v1/expansions/{key}/run")["job"], timeout_s=240)["result"]
    assert first["did"] == "expanded"
    assert first["asked"] == {"WBC": 6}
    second = stack.client.wait(stack.client.post(f"/v1/expansions/{key}/run")["job"], timeout_s=240)["result"]
    if first["added"] == 6:
        assert second["did"] == "nothing"
    assert len(stack.client.get(f"/v1/expansions/{key}")["runs"]) == 2


def test_an_expansion_goes_on_from_what_it_made_until_its_target_is_met(stack):
    """One instance alone, copied: near-duplicates are filtered out, so that one run does not reach the target."""
    name = stack.name("twins")
    register_single_platelet(stack, name)
    key = stack.client.post("/v1/expansions", {"dataset": name, "targets": {"Platelets": 8}, "mode": "copy_paste", "objects": 1})["id"]
    last, count, parents = 1, 1, []
    for _ in range(6):
        result = stack.client.wait(stack.client.post(f"/v1/expansions/{key}/run")["job"], timeout_s=240)["result"]
        if result["did"] == "nothing":
            break
        made = stack.client.get(f"/v1/datasets/{name}/versions/{result['version']}")
        platelets = next(c for c in made["health"]["classes"] if c["name"] == "Platelets")
        parents.append((made["parent"], last))
        assert result["asked"] == {"Platelets": 8 - count}
        assert platelets["own"] == count + result["added"] <= 8
        last, count = result["version"], platelets["own"]
    assert parents
    assert all(parent == before for parent, before in parents)
    assert result["did"] == "nothing"
    met = f"every target is met by version {last}, which is not the latest: its proof is none"
    assert result["why"] == (met if count == 8 else "no sample passed the filters")


def test_a_batch_that_is_being_published_can_be_neither_discarded_nor_decided_on(stack, cells):
    made = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "WBC", "count": 2, "mode": "copy_paste"})
    stack.client.wait(made["job"], timeout_s=120)
    database, sample = Database(stack.settings.database_url), stack.client.get(f"/v1/batches/{made['batch']}/samples")["items"][0]["id"]
    assert stack.client.post(f"/v1/samples/{sample}/decision", {"accept": True})["state"] == "accepted"
    database.update(BATCHES, made["batch"], state="publishing")
    with pytest.raises(ApiProblem, match="publishing") as refused:
        stack.client.post(f"/v1/samples/{sample}/decision", {"accept": False})
    assert refused.value.status == 409
    with pytest.raises(ApiProblem, match="publishing"):
        stack.client.post(f"/v1/batches/{made['batch']}/discard")
    database.update(BATCHES, made["batch"], state="ready")
    assert stack.client.post(f"/v1/batches/{made['batch']}/discard")["state"] == "discarded"


def test_a_batch_can_be_published_onto_an_unproven_version(stack, cells, published):
    made = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "WBC", "count": 2, "mode": "copy_paste"})
    stack.client.wait(made["job"], timeout_s=120)
    job = stack.client.post(f"/v1/batches/{made['batch']}/publish", {"onto": published["version"]})["job"]
    number = stack.client.wait(job, timeout_s=120)["result"]["version"]
    version = stack.client.get(f"/v1/datasets/{cells}/versions/{number}")
    assert version["parent"] == published["version"]
    assert made["batch"] in version["batches"]


def test_jobs_come_newest_first_and_each_once(stack, cells):
    seen, cursor = [], None
    while True:
        page = stack.client.get("/v1/jobs", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len({j["id"] for j in seen}) >= 4
    assert [j["created"] for j in seen] == sorted((j["created"] for j in seen), reverse=True)


def test_the_clock_runs_an_expansion(stack, cells):
    body = {"dataset": cells, "targets": {"WBC": 1}, "cron": "*/2 * * * * *"}
    key = stack.client.post("/v1/expansions", body)["id"]
    wait_until(lambda: len(stack.client.get(f"/v1/expansions/{key}")["runs"]) >= 2, 60, "two ticks")
    assert stack.client.delete(f"/v1/expansions/{key}")["active"] is False
    assert all(r["trigger"] == "clock" and r["outcome"]["did"] == "nothing" for r in stack.client.get(f"/v1/expansions/{key}")["runs"])


def test_a_job_tells_its_events_and_can_be_followed_from_the_middle(stack, cells):
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "Platelets", "count": 3, "mode": "copy_paste"})["job"]
    events = list(stack.client.events(job))
    assert events[-1]["kind"] == "end"
    assert events[-1]["state"] == "succeeded"
    assert sum(e["kind"] == "progress" for e in events) >= 3
    with stack.client.http.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "999999999"}) as response:
        response.read()
        assert response.text.startswith("event: end")


def test_a_cancelled_job_stops_and_stays_stopped(stack, cells):
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "Platelets", "count": 500, "novelty": 0.2})
    wait_until(lambda: stack.client.get(f"/v1/jobs/{job['job']}")["progress"] > 0, 60, "some progress")
    stack.client.post(f"/v1/jobs/{job['job']}/cancel")
    wait_until(lambda: stack.client.get(f"/v1/jobs/{job['job']}")["state"] == "cancelled", 60, "the end")
    wait_until(lambda: stack.client.get(f"/v1/batches/{job['batch']}")["state"] == "cancelled", 10, "the batch's end")
    assert stack.client.post(f"/v1/jobs/{job['job']}/cancel")["state"] == "cancelled"
