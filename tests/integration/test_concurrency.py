"""Many publishers of one dataset at once, readers meanwhile, and the S3 server killed in the middle: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.catalogue import Catalogue
from infra.database import DATASETS, VERSIONS
from infra.embedded import Stack
from longtail.jobs import TENANT
from tests.integration.publisher import ROWS, not_whole, row

pytestmark = pytest.mark.long
PUBLISHER = Path(__file__).with_name("publisher.py")


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """The S3 server and a database, watched: what dies is started again."""
    supervisor = Stack(tmp_path_factory.mktemp("storage"), say=lambda line: None)
    settings = supervisor.start_storage()
    watcher = threading.Thread(target=supervisor.watch, daemon=True)
    watcher.start()
    Catalogue.of(settings).database.create_tables()
    yield supervisor, settings
    supervisor.stop()
    watcher.join(5)


def founded(settings, name):
    """A dataset with a first version of its own batch."""
    catalogue = Catalogue.of(settings)
    table = catalogue.tables.uri(TENANT, name)
    known = {"id": name, "uri": "s3://none", "format": "coco", "task": "detection", "classes": {"1": "c"}, "meta": {}}
    catalogue.database.insert(DATASETS, {**known, "table_uri": table, "latest": None, "serving": None})
    version = catalogue.tables.merge(table, [row(catalogue, name, "source", i) for i in range(ROWS)], tenant=TENANT)
    catalogue.publish(name, job="first", parent=None, batches=["source"], lance_version=version, note="", make_latest=True)
    return catalogue


def start(what, settings, name, who, rounds):
    command = [sys.executable, str(PUBLISHER), what, settings.model_dump_json(), name, who, str(rounds)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root)


def ended(process, timeout_s=1000):
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err[-2000:]
    return out


def check_all(catalogue, name, batches):
    """Every version is whole, each grew out of the one before, and the last holds every batch once, with every object by its hash."""
    versions = list(catalogue.database.every(VERSIONS, dataset=name))
    versions.sort(key=lambda v: v["number"])
    assert [v["number"] for v in versions] == list(range(1, len(versions) + 1))
    assert [v["parent"] for v in versions] == [None, *range(1, len(versions))]
    for version in versions[:: max(1, len(versions) // 20)]:
        assert not_whole(catalogue, name, version, set(), objects=2) == []
    latest = catalogue.database.version(name)
    assert latest["number"] == len(versions)
    assert sorted(latest["batches"]) == sorted(batches)
    assert not_whole(catalogue, name, latest, set(), objects=None) == []
    assert set(catalogue.tables.tags(catalogue.tables.uri(TENANT, name))) >= {v["id"] for v in versions}


@pytest.mark.timeout(1200)
def test_eight_publish_thirty_rounds_at_once_while_readers_look(storage):
    _, settings = storage
    catalogue = founded(settings, "crowd")
    readers = [start("read", settings, "crowd", f"reader-{n}", 10_000) for n in range(2)]
    publishers = [start("publish", settings, "crowd", f"p{n}", 30) for n in range(8)]
    try:
        for process in publishers:
            ended(process)
        looked = [json.loads(ended(process)) for process in readers]
    finally:
        for process in (*publishers, *readers):
            process.kill()
    for found in looked:
        assert found["wrong"] == []
        assert len(found["seen"]) > 20
    check_all(catalogue, "crowd", ["source", *(f"p{n}-{k}" for n in range(8) for k in range(30))])


def test_the_s3_server_killed_in_the_middle_loses_nothing(storage):
    supervisor, settings = storage
    catalogue = founded(settings, "storm")
    wanted = ["source"]
    for n in range(3):
        process = start("publish", settings, "storm", f"s{n}", 10)
        time.sleep(4)
        os.killpg(supervisor.running["s3"].process.pid, signal.SIGKILL)
        process.communicate(timeout=300)
        for _ in range(60):
            if reachable(settings):
                break
            time.sleep(0.5)
        ended(start("publish", settings, "storm", f"s{n}", 10))  # asked for again, it goes on where it was
        wanted += [f"s{n}-{k}" for k in range(10)]
    check_all(catalogue, "storm", wanted)


def reachable(settings):
    try:
        Catalogue.of(settings).objects.ensure_bucket()
    except Exception:
        return False
    return True
