"""Splits on request, and what is in a dataset more than once, through the API on the real stack."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from infra.catalogue import Catalogue
from longtail.client import ApiProblem, JobFailed

CLASSES = ("ålesund", "two words")


def scene(seed):
    """A picture unlike those of other seeds."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((160, 120), Image.Resampling.BICUBIC)


def stored(image, format="PNG", **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def folders(stack):
    """An ImageFolder of 60 pictures; every sixth is there again: as it is, recompressed and half its size, all in turn."""
    name = stack.name("folders")
    for n in range(60):
        put(stack, name, f"{CLASSES[n % 3 == 0]}/{n:03d}.png", stored(scene(n)))
    for n in range(0, 60, 6):
        again = (stored(scene(n)), stored(scene(n), "JPEG", quality=60), stored(scene(n).resize((80, 60))))[n // 6 % 3]
        put(stack, name, f"{CLASSES[n % 3 == 0]}/{n:03d}-again.{'jpg' if n // 6 % 3 == 1 else 'png'}", again)
    return f"s3://team-data/{name}"


def put(stack, name, path, data):
    stack.objects.write(f"s3://team-data/{name}/{path}", data)


def registered(stack, uri, **body):
    asked = stack.client.post("/v1/datasets", {"name": stack.name("dealt"), "uri": uri, **body})
    return stack.client.wait(asked["job"], timeout_s=180)["result"]


def splits_of(stack, name, version=1):
    page = stack.client.get(f"/v1/datasets/{name}/versions/{version}/samples", limit=1000)
    return {s["path"]: s["split"] for s in page["items"]}


@pytest.fixture(scope="module")
def dealt(stack, folders):
    return registered(stack, folders, splits={"val": 0.2, "test": 0.2, "seed": 4})


def test_splits_are_dealt_by_class_and_copies_stay_on_one_side(stack, dealt):
    splits = splits_of(stack, dealt["dataset"])
    assert len(splits) == 70
    for n in range(0, 60, 6):
        both = {s for path, s in splits.items() if path.split("/")[1].startswith(f"{n:03d}")}
        assert len(both) == 1
    health = stack.client.get(f"/v1/datasets/{dealt['dataset']}/health")
    for c in health["classes"]:
        total = sum(c["instances"].values())
        assert abs(c["instances"]["val"] - 0.2 * total) <= 2
        assert abs(c["instances"]["test"] - 0.2 * total) <= 2


def test_the_same_seed_deals_the_same_and_another_does_not(stack, folders, dealt):
    first = splits_of(stack, dealt["dataset"])
    again = registered(stack, folders, splits={"val": 0.2, "test": 0.2, "seed": 4})
    other = registered(stack, folders, splits={"val": 0.2, "test": 0.2, "seed": 5, "grouped": False})
    assert splits_of(stack, again["dataset"]) == first
    assert splits_of(stack, other["dataset"]) != first


def test_an_inspection_finds_copies_and_what_leaks(stack, folders, dealt):
    stack.client.wait(dealt["inspection"], timeout_s=180)
    found = stack.client.get(f"/v1/datasets/{dealt['dataset']}/health")["copies"]
    assert (found["images"], found["unread"]) == (70, [])
    assert (found["exact"]["groups"], found["near"]["groups"], found["leaking"]["groups"]) == (4, 6, 0)
    assert {m["path"] for m in found["exact"]["first"][0]} == {"two words/000.png", "two words/000-again.png"}


def test_an_ungrouped_split_is_seen_to_leak(stack, folders):
    loose = registered(stack, folders, splits={"val": 0.3, "test": 0.3, "seed": 1, "grouped": False})
    stack.client.wait(loose["inspection"], timeout_s=180)
    leaking = stack.client.get(f"/v1/datasets/{loose['dataset']}/versions/1")["copies"]["leaking"]
    splits = splits_of(stack, loose["dataset"])
    pairs = [{s for path, s in splits.items() if path.split("/")[1].startswith(f"{n:03d}")} for n in range(0, 60, 6)]
    assert leaking["groups"] == sum(len(p) > 1 for p in pairs) > 0


def test_an_inspection_again_looks_at_what_is_missing_alone_and_says_what_it_cannot_read(stack, folders, dealt):
    name, path = dealt["dataset"], "two words/003.png"
    stack.client.wait(dealt["inspection"], timeout_s=180)
    gone = next(s["id"] for s in stack.client.get(f"/v1/datasets/{name}/versions/1/samples", limit=1000)["items"] if s["path"] == path)
    looks = Catalogue.of(stack.settings).looks(name)
    known = looks.known()
    assert len(known) == 70
    assert all(abs(np.linalg.norm(v) - 1) < 0.01 for v in looks.vectors(known).values())
    looks.forget([gone])
    stack.objects.write(f"{folders}/{path}", stored(scene(999)))
    try:
        again = stack.client.post(f"/v1/datasets/{name}/versions/1/inspections")
        result = stack.client.wait(again["job"], timeout_s=180)["result"]
    finally:
        stack.objects.write(f"{folders}/{path}", stored(scene(3)))
    assert len(result["unread"]) == 1
    assert f"{path}: changed since it was registered" in result["unread"][0]
    assert result["images"] == 69
    assert looks.known() == known - {gone}


@pytest.mark.parametrize("format", ["imagefolder", "webdataset"])
def test_dealt_splits_go_out_with_an_export(stack, dealt, format):
    name = dealt["dataset"]
    place = f"s3://team-data/{stack.name('dealt-out')}"
    job = stack.client.post(f"/v1/datasets/{name}/versions/1/exports", {"format": format, "destination": place})
    stack.client.wait(job["job"], timeout_s=120)
    if format == "webdataset":
        assert {o.path.split("-")[0] for o in stack.objects.list(place) if o.path.endswith(".tar")} == {"train", "val", "test"}
        told = json.loads(stack.objects.read(f"{place}/longtail-version.json"))
        assert (told["version"], told["synthetic_images"], told["proof"]) == (1, 0, "none")
        return
    again = registered(stack, place)
    assert {p.split("/", 1)[1]: s for p, s in splits_of(stack, again["dataset"]).items()} == splits_of(stack, name)


def test_a_later_look_at_the_source_keeps_the_splits(stack, folders, dealt):
    name, before = dealt["dataset"], splits_of(stack, dealt["dataset"])
    put(stack, folders.rsplit("/", 1)[1], "two words/new.png", stored(scene(500)))
    try:
        job = stack.client.post(f"/v1/datasets/{name}/rescans", {})
        result = stack.client.wait(job["job"], timeout_s=120)["result"]
        assert (result["added"], result["changed"], result["removed"]) == (1, 0, 0)
        assert splits_of(stack, name, result["version"]) == {**before, "two words/new.png": "train"}
    finally:
        stack.objects.remove(f"{folders}/two words/new.png")


def test_a_source_with_splits_of_its_own_keeps_them(stack, cells):
    with pytest.raises(JobFailed, match=r"splits were asked for, and the source has its own \(test 72, train 50, val 30\)"):
        registered(stack, "s3://team-data/cells", splits={"val": 0.2})


@pytest.mark.parametrize(
    "splits", [{"val": 0.6, "test": 0.4}, {"val": 0, "test": 0}, {"val": -0.1}, {"val": float("nan")}, {"seed": -1}, {"odd": 1}], ids=str
)
def test_splits_that_make_no_sense_are_refused(stack, folders, splits):
    with pytest.raises((ApiProblem, ValueError)):
        stack.client.post("/v1/datasets", {"name": stack.name("dealt"), "uri": folders, "splits": splits})
