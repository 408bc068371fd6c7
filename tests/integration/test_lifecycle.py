"""What becomes of a dataset after it is registered: its source changes, images are withdrawn, what nobody needs is freed."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from infra.catalogue import Catalogue
from infra.database import DATASETS, EXPANSIONS, GENERATORS, JOBS
from infra.registry import Registry
from longtail.client import ApiProblem, JobFailed
from services.demo.walk import wait_until
from tests.integration.mlflow_files import artifact


def picture(seed):
    """A spot of noise on noise, red for even seeds and blue for odd ones: a label that nothing shows would be doubted."""
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(90, 130, (120, 160, 3), dtype=np.uint8)
    spot = np.random.default_rng(seed + 99).integers(150, 250, (40, 40, 3))
    pixels[20:60, 30:70] = (spot * ([0.3, 0.5, 1.0] if seed % 2 else [1.0, 0.5, 0.3])).astype(np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def put(stack, name, numbers, *, label=lambda n: 1 + n % 2, classes=(1, 2), outline=None, box=lambda n: [30, 20, 40, 40]):
    """A COCO dataset of one spotted image a number, each with its box, and its outline if one is given."""
    more = {"segmentation": outline} if outline else {}
    body = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"class {c}"} for c in classes]}
    for n in numbers:
        body["images"].append({"id": n, "file_name": f"{n}.png", "width": 160, "height": 120})
        body["annotations"].append({"id": n, "image_id": n, "category_id": label(n), "bbox": box(n), "area": 1600, "iscrowd": 0, **more})
    stack.objects.write(f"s3://team-data/{name}/train.json", json.dumps(body).encode())


def laid(stack, prefix):
    """Twelve images of a dataset that nobody has registered yet, and its name."""
    name = stack.name(prefix)
    for n in range(12):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(12))
    return name


@pytest.fixture
def spots(stack):
    """A registered dataset of twelve images, and its name."""
    name = laid(stack, "spots")
    done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    return name


def done(stack, asked, *, timeout_s=180):
    return stack.client.wait(asked["job"], timeout_s=timeout_s)["result"]


def ids(stack, name, version, **fits):
    page = stack.client.get(f"/v1/datasets/{name}/versions/{version}/samples", limit=1000, **fits)
    return {s["path"]: s["id"] for s in page["items"]}


def batch(stack, name, *, count=4, **more):
    """A ready batch of copied spots, every sample accepted by hand."""
    asked = stack.client.post("/v1/batches", {"dataset": name, "class_name": "class 1", "count": count, "mode": "copy_paste", "seed": 1, **more})
    done(stack, asked)
    for sample in stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    return asked["batch"]


def publish(stack, key):
    return done(stack, stack.client.post(f"/v1/batches/{key}/publish", {"accept_unproven": True}))["version"]


def test_a_source_that_did_not_change_makes_no_version(stack, spots):
    result = done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))
    assert (result["unchanged"], result["added"], result["changed"], result["removed"]) == (12, 0, 0, 0)
    assert len(stack.client.get(f"/v1/datasets/{spots}/versions")["items"]) == 1


def test_what_changed_at_the_source_is_a_new_version_and_the_old_one_stays(stack, spots):
    """3 gets other pixels, 4 another label, 5 vanishes, 20 is new and of a new class: 9 stay, and what was made from 3 to 5 goes."""
    made = publish(stack, batch(stack, spots, count=12))
    before = ids(stack, spots, 1)
    stack.objects.write(f"s3://team-data/{spots}/3.png", picture(33))
    stack.objects.write(f"s3://team-data/{spots}/20.png", picture(20))
    put(stack, spots, [n for n in range(12) if n != 5] + [20], label=lambda n: 3 if n == 20 else 2 if n == 4 else 1 + n % 2, classes=(1, 2, 3))
    result = done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))
    assert (result["unchanged"], result["added"], result["changed"], result["removed"]) == (9, 1, 2, 1)
    after, old = ids(stack, spots, result["version"], origin="real"), ids(stack, spots, 1)
    assert old == before
    assert set(after) == {f"{n}.png" for n in (*range(5), *range(6, 12), 20)}
    assert {p for p in after if p in before and after[p] != before[p]} == {"3.png", "4.png"}
    touched = {before[f"{n}.png"] for n in (3, 4, 5)}
    page = stack.client.get(f"/v1/datasets/{spots}/versions/{made}/samples", limit=100, origin="synthetic")["items"]
    derived = {s["id"] for s in page if touched & {s["provenance"]["background"]["sample"], s["provenance"]["exemplar"]["sample"]}}
    left = stack.client.get(f"/v1/datasets/{spots}/versions/{result['version']}/samples", limit=100, origin="synthetic")["items"]
    assert result["derived_removed"] == len(derived) > 0
    assert {s["id"] for s in left} == {s["id"] for s in page} - derived
    health = stack.client.get(f"/v1/datasets/{spots}/health", version=result["version"])
    assert {c["name"]: c["own"] - c["synthetic"] for c in health["classes"]} == {"class 1": 5, "class 2": 6, "class 3": 1}
    assert done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))["unchanged"] == 12
    difference = stack.client.get(f"/v1/datasets/{spots}/diff", base=made, candidate=result["version"])
    assert (difference["added"], difference["changed"], difference["removed"]) == (1, 2, 1 + len(derived))
    assert {s["path"] for s in difference["samples"]["changed"]} == {"3.png", "4.png"}


def test_a_source_that_broke_meanwhile_changes_nothing(stack, spots):
    stack.objects.write(f"s3://team-data/{spots}/3.png", b"not an image")
    with pytest.raises(JobFailed, match=r"3\.png"):
        done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))
    assert len(stack.client.get(f"/v1/datasets/{spots}/versions")["items"]) == 1
    result = done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {"on_problem": "skip"}))
    assert "3.png" in result["skipped"][0]
    assert "3.png" not in ids(stack, spots, result["version"])


def test_a_difference_of_two_versions_names_what_one_batch_added(stack, spots):
    made = publish(stack, batch(stack, spots))
    found = stack.client.get(f"/v1/datasets/{spots}/diff", base=1, candidate=made)
    assert (found["added"], found["removed"], found["changed"]) == (4, 0, 0)
    back = stack.client.get(f"/v1/datasets/{spots}/diff", base=made, candidate=1, limit=1)
    assert (back["added"], back["removed"], len(back["samples"]["removed"])) == (0, 4, 1)
    line = stack.client.get(f"/v1/datasets/{spots}/versions/{made}/lineage")["items"]
    assert [v["number"] for v in line] == [made, 1]
    assert line[0]["batches"][0]["asked"]["mode"] == "copy_paste"
    assert line[1]["batches"] == [{"batch": "source", "source": True}]


def test_a_withdrawn_image_takes_all_that_was_made_from_it(stack, spots):
    """It is in no later version, what was made from it neither, and looking at the source again does not bring it back."""
    key = batch(stack, spots, count=12)
    made = publish(stack, key)
    samples = stack.client.get(f"/v1/datasets/{spots}/versions/{made}/samples", limit=100, origin="synthetic")["items"]
    victim = samples[0]["provenance"]["exemplar"]["path"]
    dry = stack.client.post(f"/v1/datasets/{spots}/withdrawals", {"paths": [victim], "reason": "consent", "dry_run": True})
    used = {s["id"] for s in samples if victim in (s["provenance"]["exemplar"]["path"], s["provenance"]["background"]["path"])}
    assert set(dry["samples"]) == used
    assert dry["versions"] == [1, made]
    assert stack.client.get(f"/v1/datasets/{spots}")["latest"] == made
    result = done(stack, stack.client.post(f"/v1/datasets/{spots}/withdrawals", {"paths": [victim], "reason": "consent"}))
    assert stack.client.get(f"/v1/datasets/{spots}")["latest"] == result["version"] and not {"not_logged", "pages_left"} & set(result)
    registry = Registry(stack.settings.mlflow_url)
    pages = {run.info.run_name: artifact(stack, run, "version.html") for run in registry.runs(f"longtail-{spots}") if run.info.run_name.startswith("version ")}
    assert all(b"withdrawn" in pages[f"version {n}"] and b"data:image" not in pages[f"version {n}"] for n in (1, made))
    assert b"data:image" in pages[f"version {result['version']}"]
    now = ids(stack, spots, result["version"])
    assert victim not in now
    assert not used & set(now.values())
    assert len(now) == 11 + 12 - len(used)
    with pytest.raises(ApiProblem, match="were withdrawn; use version"):
        stack.client.get(f"/v1/datasets/{spots}/versions/{made}/samples")
    with pytest.raises(ApiProblem, match="withdrawn"):
        stack.client.post(f"/v1/samples/{samples[0]['id']}/regenerate")
    assert victim not in ids(stack, spots, publish(stack, batch(stack, spots, seed=2)))
    again = done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))
    assert (again["withdrawn"], again["added"], again["removed"]) == (1, 0, 0)
    stack.client.delete(f"/v1/datasets/{spots}/withdrawals/{result['withdrawal']}")
    assert done(stack, stack.client.post(f"/v1/datasets/{spots}/rescans", {}))["added"] == 1
    with pytest.raises(ApiProblem, match="has no source image"):
        stack.client.post(f"/v1/datasets/{spots}/withdrawals", {"paths": ["none.png"], "reason": "label"})


def test_what_a_person_takes_in_against_the_filters_is_told(stack):
    """Labels that contradict the colours are refused by the filters; accepted by hand they are published, and the version says so."""
    name = stack.name("doubted")
    for n in range(24):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(24), label=lambda n: 1 + (n % 2 if n > 3 else 1 - n % 2))  # four that are called what they are not
    done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    key = batch(stack, name, count=24)
    refused = [s for s in stack.client.get(f"/v1/batches/{key}/samples", limit=100)["items"] if s["verdict"]["reasons"]]
    assert refused
    number = publish(stack, key)
    report = stack.client.get(f"/v1/datasets/{name}/versions/{number}/report")
    assert report["batches"][0]["by_hand"] == len(refused)
    assert any(f"{len(refused)} samples that the filters refused" in line for line in report["failures"])


def test_a_withdrawn_image_is_shown_on_no_page(stack):
    """An image whose box is odd has its picture on the page of its version until it is withdrawn."""
    name = stack.name("shown")
    for n in range(10):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(10), label=lambda n: 1, classes=(1,), box=lambda n: [30, 20, 4, 4] if n == 5 else [30, 20, 40, 40])
    registered = done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    stack.client.wait(registered["inspection"], timeout_s=180)

    def pictures():
        return b"".join(stack.client.download(f"/v1/datasets/{name}/versions/1/health.html")).decode().count("data:image/png;base64,")

    assert [o["path"] for o in stack.client.get(f"/v1/datasets/{name}/health")["odd_boxes"]["first"]] == ["5.png"]
    assert pictures() == 1
    done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": ["5.png"], "reason": "consent"}))
    assert pictures() == 0


def test_a_generator_that_learned_from_a_withdrawn_image_serves_no_more(stack, spots):
    trained = done(stack, stack.client.post("/v1/generators", {"dataset": spots, "classes": ["class 1"], "budget_s": 3}))["generator"]
    done(stack, stack.client.post(f"/v1/generators/{spots}/champion", {"version": trained}))
    result = done(stack, stack.client.post(f"/v1/datasets/{spots}/withdrawals", {"paths": ["0.png"], "reason": "label"}))
    assert result["generators"] == [trained]
    assert stack.client.get(f"/v1/datasets/{spots}")["serving"] == 1
    registry = Registry(stack.settings.mlflow_url)
    run = SimpleNamespace(info=SimpleNamespace(run_id=registry.client.get_model_version(spots, str(trained)).run_id))
    page = b"".join(stack.client.download(f"/v1/generators/{spots}/{trained}/report.html"))
    for shown in (page, artifact(stack, run, "report.html")):
        assert b"were withdrawn since" in shown and b"data:image" not in shown
    kept = stack.objects.read(stack.settings.report_of(spots, registry.tags(spots, trained)["longtail.job"]))
    assert b"<h2>Training</h2>" in kept and b"data:image" not in kept
    pictures = [name for name in registry.below(run.info.run_id) if name.endswith(".png")]
    assert "grids/final.png" in pictures and len(pictures) > 2
    assert all(Image.open(io.BytesIO(artifact(stack, run, name))).size == (1, 1) for name in pictures)
    with pytest.raises(JobFailed, match="were withdrawn since"):
        done(stack, stack.client.post(f"/v1/generators/{spots}/champion", {"version": trained}))
    assert stack.client.get(f"/v1/datasets/{spots}")["serving"] == 1


@pytest.mark.long
def test_what_judged_a_generator_goes_from_its_page_when_it_is_withdrawn(stack):
    """The generator did not learn from it, and serves on; its pictures, which may show it, are gone."""
    name = laid(stack, "judging")
    body = {"name": name, "uri": f"s3://team-data/{name}", "splits": {"val": 0.5, "test": 0, "grouped": False}}
    done(stack, stack.client.post("/v1/datasets", body))
    trained = done(stack, stack.client.post("/v1/generators", {"dataset": name, "classes": ["class 1"], "budget_s": 3}))["generator"]
    page = f"/v1/generators/{name}/{trained}/report.html"
    assert b"data:image" in b"".join(stack.client.download(page))
    held = next(s["path"] for s in stack.client.get(f"/v1/datasets/{name}/versions/1/samples", limit=100)["items"] if s["split"] == "val")
    result = done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": [held], "reason": "consent"}))
    assert result["generators"] == [] and "pages_left" not in result
    shown = b"".join(stack.client.download(page))
    assert b"<h2>Training</h2>" in shown and b"data:image" not in shown
    run = SimpleNamespace(info=SimpleNamespace(run_id=Registry(stack.settings.mlflow_url).client.get_model_version(name, str(trained)).run_id))
    assert b"data:image" not in artifact(stack, run, "report.html")
    assert Image.open(io.BytesIO(artifact(stack, run, "grids/final.png"))).size == (1, 1)
    done(stack, stack.client.post(f"/v1/generators/{name}/champion", {"version": trained}))


@pytest.mark.long
def test_a_training_whose_image_is_withdrawn_meanwhile_leaves_no_picture(stack):
    name = laid(stack, "meanwhile")
    done(stack, stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"}))
    job = stack.client.post("/v1/generators", {"dataset": name, "classes": ["class 1"], "budget_s": 20})["job"]
    wait_until(lambda: "images" in stack.client.get(f"/v1/jobs/{job}")["message"], 60, "the first images")
    done(stack, stack.client.post(f"/v1/datasets/{name}/withdrawals", {"paths": ["1.png"], "reason": "consent"}))
    with pytest.raises(JobFailed, match="holds images that were withdrawn"):
        stack.client.wait(job, timeout_s=300)
    registry = Registry(stack.settings.mlflow_url)
    (run,) = (r for r in registry.runs(f"longtail-{name}") if r.data.tags["longtail.job"] == job)
    pictures = [file for file in registry.below(run.info.run_id) if file.endswith(".png")]
    assert "grids/final.png" in pictures
    assert all(Image.open(io.BytesIO(artifact(stack, run, file))).size == (1, 1) for file in pictures)
    assert b"data:image" not in artifact(stack, run, "report.html")


def test_a_generator_that_is_withdrawn_while_it_is_loaded_is_not_served(stack, spots):
    """The withdrawal has marked it here and not yet in MLflow, so that only the last look can see it; the champion is put back."""
    trained = done(stack, stack.client.post("/v1/generators", {"dataset": spots, "classes": ["class 1"], "budget_s": 3}))["generator"]
    database = Catalogue.of(stack.settings).database
    database.update(GENERATORS, f"{spots}:{trained}", withdrawn="a withdrawal")
    with pytest.raises(JobFailed, match="were withdrawn since"):
        done(stack, stack.client.post(f"/v1/generators/{spots}/champion", {"version": trained}))
    assert stack.client.get(f"/v1/datasets/{spots}")["serving"] == 1
    assert Registry(stack.settings.mlflow_url).champion(spots) == 1
    database.update(DATASETS, spots, serving=trained)
    with pytest.raises(ApiProblem, match="promote another"):
        stack.client.post("/v1/previews", {"dataset": spots, "class_name": "class 1", "novelty": 0.2})


def test_a_collection_frees_what_nothing_needs_and_nothing_else(stack, spots):
    kept, dropped = batch(stack, spots), batch(stack, spots, seed=7)
    version = publish(stack, kept)
    stack.client.post(f"/v1/batches/{dropped}/discard")
    gone = {s["uri"] for s in stack.client.get(f"/v1/batches/{dropped}/samples")["items"]}
    body = {"grace_hours": 0, "keep_last": 1}
    dry = done(stack, stack.client.post(f"/v1/datasets/{spots}/collections", body))
    assert dry["dry_run"]
    assert gone <= set(dry["first"])
    assert all(stack.objects.read(uri) for uri in gone)
    freed = done(stack, stack.client.post(f"/v1/datasets/{spots}/collections", {**body, "dry_run": False}))
    assert {k: freed[k] for k in ("files", "bytes", "versions", "rows")} == {k: dry[k] for k in ("files", "bytes", "versions", "rows")}
    with pytest.raises(Exception, match="NoSuchKey"):
        stack.objects.read(next(iter(gone)))
    for sample in stack.client.get(f"/v1/datasets/{spots}/versions/{version}/samples", limit=100)["items"]:
        assert stack.objects.read(sample["uri"], etag=sample["etag"])
    assert done(stack, stack.client.post(f"/v1/datasets/{spots}/collections", {**body, "dry_run": False}))["files"] == 0


def test_a_version_that_something_needs_is_not_dropped(stack, spots):
    version = publish(stack, batch(stack, spots))
    with pytest.raises(ApiProblem, match="it is the latest"):
        stack.client.delete(f"/v1/datasets/{spots}/versions/{version}")
    database = Catalogue.of(stack.settings).database
    database.insert(JOBS, {"id": stack.name("job"), "kind": "none", "state": "running", "progress": 0.0, "request": {"dataset": spots, "version": 1}})
    with pytest.raises(ApiProblem, match="is running"):
        stack.client.delete(f"/v1/datasets/{spots}/versions/1")
    database.delete(JOBS, kind="none")


def test_what_an_expansion_that_is_still_measuring_rests_on_is_not_dropped(stack, spots):
    older, first = publish(stack, batch(stack, spots)), publish(stack, batch(stack, spots, seed=8))
    database = Catalogue.of(stack.settings).database
    key = stack.name("expansion")
    database.insert(EXPANSIONS, {"id": key, "dataset": spots, "request": {}, "cron": "", "active": False})
    database.insert(JOBS, {"id": stack.name("job"), "kind": "expand", "state": "running", "progress": 0.0, "request": {"expansion": key}})
    second, third = publish(stack, batch(stack, spots, seed=9)), publish(stack, batch(stack, spots, seed=10))
    for number in (older, first, second):
        with pytest.raises(ApiProblem, match="is running"):
            stack.client.delete(f"/v1/datasets/{spots}/versions/{number}")
    database.delete(JOBS, kind="expand")
    stack.client.delete(f"/v1/datasets/{spots}/versions/{older}")
    database.delete(EXPANSIONS, id=key)
    stack.client.delete(f"/v1/datasets/{spots}/versions/{second}")
    assert len(ids(stack, spots, third)) == 12 + 4 * 4


def test_a_dropped_version_is_gone_and_its_child_is_whole(stack, spots):
    first = publish(stack, batch(stack, spots))
    second = publish(stack, batch(stack, spots, seed=9))
    stack.client.delete(f"/v1/datasets/{spots}/versions/{first}")
    done(stack, stack.client.post(f"/v1/datasets/{spots}/collections", {"grace_hours": 0, "dry_run": False}))
    assert len(ids(stack, spots, second)) == 12 + 8
    (line,) = stack.client.get(f"/v1/datasets/{spots}/versions/{second}/lineage")["items"]
    assert [b["source"] for b in line["batches"]] == [True, False, False]
    assert stack.client.get(f"/v1/datasets/{spots}/health", version=second)["copies"] is None  # its parent, whose look would do, is gone
    with pytest.raises(ApiProblem, match="has no version"):
        stack.client.get(f"/v1/datasets/{spots}/versions/{first}/samples")
