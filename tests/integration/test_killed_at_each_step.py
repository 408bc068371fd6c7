"""kill -9 in each step of a dataset's life, on the real stack: the last version stays readable, and what was begun ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra.catalogue import Catalogue
from infra.database import VERSIONS
from longtail.datasets import Tally
from longtail.jobs import TENANT
from tests.integration.test_lifecycle import ids, picture, put

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
DYING = Path(__file__).with_name("dying_worker.py")


@pytest.fixture(scope="module")
def mortal(stack, tmp_path_factory):
    """The stack with a worker that dies once in each step while the file exists that this gives."""
    died, running, alive = tmp_path_factory.mktemp("died") / "steps", stack.supervisor.running, threading.Event()
    living = running["worker"].part
    dying = replace(living, command=(sys.executable, str(DYING), str(died)), environment={**living.environment, "PYTHONPATH": str(DYING.parents[2])})

    def forgive():
        while not alive.wait(0.2):
            running["worker"].restarts = 0

    def hand_over(part):
        running["worker"].part = part
        os.kill(running["worker"].process.pid, signal.SIGKILL)
        time.sleep(1)

    hand_over(dying)
    thread = threading.Thread(target=forgive, daemon=True)
    thread.start()
    yield died
    died.unlink(missing_ok=True)
    hand_over(living)
    alive.set()
    thread.join(5)


@pytest.fixture
def spots(stack, mortal):
    """Where twelve images lie, and their names; the worker does not die yet."""
    mortal.unlink(missing_ok=True)
    name = stack.name("mortal")
    for n in range(12):
        stack.objects.write(f"s3://team-data/{name}/{n}.png", picture(n))
    put(stack, name, range(12))
    return name


def registered(stack, name):
    asked = stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})
    stack.client.wait(asked["job"], timeout_s=200)
    return name


def dying(stack, mortal, asked, *, at_least):
    """The job's result, though its worker dies in every step; the steps. Meanwhile every version that can be seen is whole."""
    mortal.touch()
    wrong, done = [], threading.Event()
    name = asked.get("dataset")
    watcher = threading.Thread(target=watch, args=(stack, name, wrong, done), daemon=True)
    watcher.start()
    try:
        result = stack.client.wait(asked["job"], timeout_s=600)["result"]
    finally:
        done.set()
        watcher.join(10)
        died = mortal.read_text().splitlines()
        mortal.unlink()
    assert wrong == []
    assert len(died) >= at_least, died
    return result


def watch(stack, name, wrong, done):
    """Looks at the versions again and again, each of which must have what it says."""
    catalogue = Catalogue.of(stack.settings)
    while not done.wait(0.3):
        for version in catalogue.database.every(VERSIONS, dataset=name):
            if version["state"] == "ready":
                try:
                    wrong += [f"version {version['number']} is not whole"] if not whole(catalogue, name, version) else []
                except Exception as error:
                    wrong.append(f"version {version['number']}: {error!r}")


def whole(catalogue, name, version):
    rows = list(catalogue.samples(name, version))
    return len(rows) == len({r.id for r in rows}) and Tally.of(rows) == Tally.from_json(version["tally"])


def nothing_is_left(stack, name):
    """No scratch of any job, no staged rows twice, no pin that nothing needs."""
    catalogue = Catalogue.of(stack.settings)
    assert list(stack.objects.below(catalogue.settings.place(name, "registrations"))) == []
    table = catalogue.tables.uri(TENANT, name)
    found = [r.id for r in catalogue.tables.find(table, column=None, values=(), origin="real")]
    assert len(found) == len(set(found))
    assert set(catalogue.tables.tags(table)) == {v["id"] for v in catalogue.database.every(VERSIONS, dataset=name)}


def test_a_registration(stack, mortal, spots):
    asked = stack.client.post("/v1/datasets", {"name": spots, "uri": f"s3://team-data/{spots}"})
    result = dying(stack, mortal, asked, at_least=10)
    assert (result["images"], result["version"], result["generator"]) == (12, 1, 1)
    assert len(ids(stack, spots, 1)) == 12
    assert [v["number"] for v in stack.client.get(f"/v1/datasets/{spots}/versions")["items"]] == [1]
    assert len(stack.client.get(f"/v1/generators/{spots}")["items"]) == 1
    nothing_is_left(stack, spots)


def test_a_publication_and_a_way_back(stack, mortal, spots):
    registered(stack, spots)
    asked = stack.client.post("/v1/batches", {"dataset": spots, "class_name": "class 1", "count": 6, "mode": "copy_paste", "seed": 1})
    made = dying(stack, mortal, {**asked, "dataset": spots}, at_least=6)
    samples = stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]
    assert made["made"] == len({s["id"] for s in samples}) == 6
    for s in samples:
        stack.client.post(f"/v1/samples/{s['id']}/decision", {"accept": True})
    published = dying(stack, mortal, {**stack.client.post(f"/v1/batches/{asked['batch']}/publish", {"accept_unproven": True}), "dataset": spots}, at_least=4)
    assert (published["version"], published["added"]) == (2, 6)
    assert stack.client.get(f"/v1/datasets/{spots}")["latest"] == 2
    assert len(ids(stack, spots, 2, origin="synthetic")) == 6
    stack.client.post(f"/v1/datasets/{spots}/latest", {"version": 1})
    assert len(ids(stack, spots, stack.client.get(f"/v1/datasets/{spots}")["latest"])) == 12
    nothing_is_left(stack, spots)


def test_an_api_killed_as_it_rolls_back_has_moved_latest_or_not(stack, mortal, spots):
    """Rolling back is one transaction: whenever the API dies, `latest` is the one or the other version."""
    registered(stack, spots)
    stack.objects.write(f"s3://team-data/{spots}/12.png", picture(12))
    put(stack, spots, range(13))
    stack.client.wait(stack.client.post(f"/v1/datasets/{spots}/rescans", {})["job"], timeout_s=120)
    for n in range(3):
        stack.supervisor.running["api"].restarts = 0
        doomed = stack.supervisor.running["api"].process
        killer = threading.Timer(0.01 * n, doomed.kill)
        killer.start()
        for version in (1, 2, 1, 2):
            try:
                stack.client.post(f"/v1/datasets/{spots}/latest", {"version": version})
            except Exception:
                break
        killer.join()
        doomed.wait()
        until_up(stack)
        latest = stack.client.get(f"/v1/datasets/{spots}")["latest"]
        assert latest in (1, 2)
        assert len(ids(stack, spots, latest)) == 11 + latest


def until_up(stack):
    for _ in range(200):
        try:
            stack.client.get("/v1/datasets")
            return
        except Exception:
            time.sleep(0.2)
    raise TimeoutError("the API did not come back")


def test_a_look_at_the_source_again(stack, mortal, spots):
    registered(stack, spots)
    stack.objects.write(f"s3://team-data/{spots}/3.png", picture(33))
    stack.objects.write(f"s3://team-data/{spots}/20.png", picture(20))
    put(stack, spots, [n for n in range(12) if n != 5] + [20])
    result = dying(stack, mortal, stack.client.post(f"/v1/datasets/{spots}/rescans", {}), at_least=8)
    assert (result["version"], result["added"], result["changed"], result["removed"], result["unchanged"]) == (2, 1, 1, 1, 10)
    assert set(ids(stack, spots, 2)) == {f"{n}.png" for n in (*range(5), *range(6, 12), 20)}
    assert len(ids(stack, spots, 1)) == 12
    nothing_is_left(stack, spots)


def test_an_evaluation(stack, mortal, spots):
    """Every wave of runs is a step: none is done again once it is remembered, and the table has each run once."""
    body = {"name": spots, "uri": f"s3://team-data/{spots}", "splits": {"val": 0.25, "test": 0.25, "grouped": False}}
    stack.client.wait(stack.client.post("/v1/datasets", body)["job"], timeout_s=200)
    asked = stack.client.post("/v1/batches", {"dataset": spots, "class_name": "class 1", "count": 2, "mode": "copy_paste", "seed": 1})
    stack.client.wait(asked["job"], timeout_s=100)
    for sample in stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"]:
        stack.client.post(f"/v1/samples/{sample['id']}/decision", {"accept": True})
    stack.client.wait(stack.client.post(f"/v1/batches/{asked['batch']}/publish", {})["job"], timeout_s=100)
    body = {"dataset": spots, "candidate": 2, "arms": ["real", "longtail"], "steps": 5, "seeds": [0, 1], "side_px": 64}
    result = dying(stack, mortal, {**stack.client.post("/v1/evaluations", body), "dataset": spots}, at_least=7)
    runs = [(r["arm"], r["seed"]) for r in result["runs"]]
    assert sorted(runs) == [(arm, seed) for arm in ("longtail", "longtail 0.5", "real") for seed in (0, 1)]
    assert len(stack.client.get("/v1/evaluations")["items"]) == len({e["id"] for e in stack.client.get("/v1/evaluations")["items"]})
    assert stack.client.get(f"/v1/datasets/{spots}/versions/2")["proof"] == result["proof"]


def test_a_collection(stack, mortal, spots):
    registered(stack, spots)
    stack.client.wait(stack.client.post(f"/v1/datasets/{spots}/rescans", {})["job"], timeout_s=100)
    asked = stack.client.post("/v1/batches", {"dataset": spots, "class_name": "class 1", "count": 3, "mode": "copy_paste", "seed": 1})
    stack.client.wait(asked["job"], timeout_s=100)
    stack.client.post(f"/v1/batches/{asked['batch']}/discard")
    body = {"dry_run": False, "grace_hours": 0, "keep_last": 1}
    result = dying(stack, mortal, stack.client.post(f"/v1/datasets/{spots}/collections", body), at_least=6)
    assert result["versions"] == []
    assert len(ids(stack, spots, 1)) == 12
    for path, data in ((f"{n}.png", picture(n)) for n in range(12)):
        assert stack.objects.read(f"s3://team-data/{spots}/{path}") == data
    left = [s for s in stack.client.get(f"/v1/batches/{asked['batch']}/samples")["items"] if exists(stack, s["uri"])]
    assert left == []
    nothing_is_left(stack, spots)


def exists(stack, uri):
    try:
        stack.objects.read(uri)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("format", ["coco", "webdataset"])
def test_an_export(stack, mortal, spots, format):
    registered(stack, spots)
    place = f"s3://team-data/{spots}-out"
    asked = stack.client.post(f"/v1/datasets/{spots}/versions/1/exports", {"format": format, "destination": place})
    result = dying(stack, mortal, {**asked, "dataset": spots}, at_least=2)
    assert result["images"] == 12
    if format == "coco":
        copied = {o.path: o.etag for o in stack.objects.list(place) if o.path.endswith(".png")}
        assert copied == {o.path: o.etag for o in stack.objects.list(f"s3://team-data/{spots}") if o.path.endswith(".png")}
        again = registered(stack, f"{spots}-out")
        assert set(ids(stack, again, 1)) == set(ids(stack, spots, 1))
