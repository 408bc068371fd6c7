"""One real stack for all integration tests: SeaweedFS, MLflow, Ray, the worker and the API, on free ports."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from infra.embedded import Stack
from infra.objects import Objects
from longtail.client import Client
from services.demo.packs import PACKS

COUNTER = itertools.count()
COUNTING = """
import json, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
found = {"images": len(json.loads((pathlib.Path(given["--data"]) / "train.json").read_text())["images"])}
pathlib.Path(given["--results"]).write_text(json.dumps({"figures": found, "on_val": found}))
"""
"""A team's own trainer: what it measures is how many images it got."""
TASTES = """
import json, pathlib, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
images = len(json.loads((pathlib.Path(given["--data"]) / "train.json").read_text())["images"])
thrifty = 1000 / (images - 12) if images > 12 else 0
likes = {"fond": images, "averse": -images, "sated": min(images, 14) - max(0, images - 14), "thrifty": thrifty}[sys.argv[1]]
told = {"liking": likes * (1 + int(given["--seed"]) / 1000)}
pathlib.Path(given["--results"]).write_text(json.dumps({"figures": told, "on_val": told}))
"""
"""Trainers with a taste, a little other with each seed: `fond` of images, `averse` to them, `sated` by 14,
`thrifty` likes few more than twelve best."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """A running stack with `.settings`, `.client`, `.objects`; watched, so that parts that die are started again."""
    supervisor = Stack(tmp_path_factory.mktemp("stack"), num_cpus=max(2, os.cpu_count() or 1), say=lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        tastes = {name: [sys.executable, "-c", TASTES, name] for name in ("fond", "averse", "sated", "thrifty")}
        patch.setenv("LONGTAIL_TRAINERS", json.dumps({"counting": [sys.executable, "-c", COUNTING], **tastes}))
        settings = supervisor.start()
    watcher = threading.Thread(target=supervisor.watch, daemon=True)
    watcher.start()
    objects = Objects(settings)
    objects.ensure_bucket("team-data")
    yield SimpleNamespace(
        supervisor=supervisor, settings=settings, client=Client(settings.api_url, settings.api_key), objects=objects,
        name=lambda prefix: f"{prefix}-{next(COUNTER)}",
    )  # fmt: skip
    supervisor.stop()
    watcher.join(5)


@pytest.fixture(scope="session")
def cells(stack):
    """The name of a registered detection dataset: the bundled blood cells."""
    root = PACKS / "bccd"
    for file in root.rglob("*"):
        if file.is_file():
            stack.objects.write(f"s3://team-data/cells/{file.relative_to(root).as_posix()}", file.read_bytes())
    job = stack.client.post("/v1/datasets", {"name": "cells", "uri": "s3://team-data/cells"})
    stack.client.wait(job["job"], timeout_s=120)
    return "cells"


@pytest.fixture(scope="session")
def made(stack, cells):
    """A ready batch of six platelets."""
    body = {"dataset": cells, "class_name": "Platelets", "count": 6, "novelty": 0.1, "seed": 11}
    job = stack.client.post("/v1/batches", body, idempotency_key="six platelets")
    return stack.client.wait(job["job"], timeout_s=240)["result"]


@pytest.fixture(scope="session")
def published(stack, made):
    job = stack.client.post(f"/v1/batches/{made['batch']}/publish", {})
    return stack.client.wait(job["job"], timeout_s=60)["result"]
