"""kill -9, on the real stack: of the worker, of a Ray worker, of Ray's head, of the API, each in the middle of its work."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from PIL import Image

from infra.database import Database
from services.demo.walk import wait_until

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def rested(stack):
    """Each test's deaths are counted by themselves."""
    for running in stack.supervisor.running.values():
        running.restarts = 0


def kill(stack, part):
    pid = json.loads((stack.supervisor.folder / "pids.json").read_text())[part]
    os.kill(pid, signal.SIGKILL)


def test_a_worker_killed_in_a_batch_finishes_it_with_every_sample_once(stack, cells):
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "Platelets", "count": 40, "novelty": 0.1, "seed": 3})
    wait_until(lambda: 0.1 < stack.client.get(f"/v1/jobs/{job['job']}")["progress"] < 0.7, 120, "the middle of the batch")
    kill(stack, "worker")
    result = stack.client.wait(job["job"], timeout_s=240)["result"]
    samples = stack.client.get(f"/v1/batches/{job['batch']}/samples", limit=1000)["items"]
    assert result["made"] == len(samples) == len({s["id"] for s in samples}) == 40
    publishing = stack.client.post(f"/v1/batches/{job['batch']}/publish", {})
    kill(stack, "worker")
    version = stack.client.wait(publishing["job"], timeout_s=240)["result"]["version"]
    page = stack.client.get(f"/v1/datasets/{cells}/versions/{version}/samples", limit=1000, origin="synthetic")["items"]
    accepted = {s["id"] for s in samples if s["state"] == "accepted"}
    assert sorted(s["id"] for s in page) == sorted(accepted)
    for sample in page[:5]:
        assert stack.objects.read(sample["uri"], etag=sample["etag"])
    numbers = [v["number"] for v in stack.client.get(f"/v1/datasets/{cells}/versions")["items"]]
    assert len(numbers) == len(set(numbers))


def test_a_ray_worker_killed_in_training_is_replaced_and_goes_on(stack, cells):
    job = stack.client.post("/v1/generators", {"dataset": cells, "classes": ["Platelets"], "budget_s": 40})["job"]
    wait_until(lambda: stack.client.get(f"/v1/jobs/{job}")["progress"] > 0.6, 200, "the middle of the training")
    before = images_so_far(stack, job)
    raylet = json.loads((stack.supervisor.folder / "pids.json").read_text())["ray"]
    busy = [p for p in psutil.Process(raylet).children(recursive=True) if "ray::call" in " ".join(p.cmdline())]
    assert busy
    for process in busy:
        process.kill()
    result = stack.client.wait(job, timeout_s=300)["result"]
    assert result["images"] > before / 2
    phases = [e["data"]["message"] for e in events_of(stack, job) if "images" in str(e["data"].get("message"))]
    after_kill = [int(m.rsplit(": ", 1)[1].split(" ")[0]) for m in phases]
    drop = min((b for a, b in itertools.pairwise(after_kill) if b < a), default=None)
    assert drop is None or drop > 0.2 * before  # it went on from its checkpoint, not from the beginning


def events_of(stack, job):
    return Database(stack.settings.database_url).events(job, limit=100_000)


def images_so_far(stack, job):
    found = [e["data"]["message"] for e in events_of(stack, job) if "images" in str(e["data"].get("message"))]
    return int(found[-1].rsplit(": ", 1)[1].split(" ")[0])


def test_an_api_killed_while_a_client_waits_does_not_lose_the_job(stack, cells):
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "WBC", "count": 12, "novelty": 0.1})["job"]
    events: list[dict[str, object]] = []
    follower = threading.Thread(target=lambda: events.extend(stack.client.events(job)))
    follower.start()
    time.sleep(1.5)
    kill(stack, "api")
    follower.join(200)
    assert events[-1]["kind"] == "end"
    assert events[-1]["state"] == "succeeded"
    seen = [e["at"] for e in events if "at" in e]
    assert len(seen) == len(events) - 1


def test_the_head_of_ray_killed_in_a_batch_is_replaced_and_serves_again(stack, cells):
    job = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "Platelets", "count": 40, "novelty": 0.1, "seed": 5})
    wait_until(lambda: 0.1 < stack.client.get(f"/v1/jobs/{job['job']}")["progress"] < 0.7, 120, "the middle of the batch")
    kill(stack, "ray")
    result = stack.client.wait(job["job"], timeout_s=300)["result"]
    samples = stack.client.get(f"/v1/batches/{job['batch']}/samples", limit=1000)["items"]
    assert result["made"] == len({s["id"] for s in samples}) == 40
    wait_until(lambda: stack.client.http.get("/health/ready").status_code == 200, 120, "the generators' server")
    assert stack.client.post("/v1/previews", {"dataset": cells, "class_name": "WBC", "count": 1, "novelty": 0.1})["items"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_worker_that_ends_in_a_registration_goes_on_with_it(stack, how):
    name, count = stack.name("ending"), 3000
    out = io.BytesIO()
    Image.new("RGB", (16, 12), (90, 90, 90)).save(out, "JPEG")
    body = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "c"}]}
    for i in range(count):
        body["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 16, "height": 12})
        body["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 5, 5]})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: stack.objects.write(f"s3://team-data/{name}/{i}.jpg", out.getvalue()), range(count)))
    stack.objects.write(f"s3://team-data/{name}/train.json", json.dumps(body).encode())
    job = stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"]
    wait_until(lambda: stack.client.get(f"/v1/jobs/{job}")["progress"] > 0.1, 60, "the middle of the registration")
    pid = json.loads((stack.supervisor.folder / "pids.json").read_text())["worker"]
    os.kill(pid, how)
    assert stack.client.wait(job, timeout_s=200)["result"]["images"] == count
    assert stack.client.get(f"/v1/datasets/{name}/health")["images"]["train"] == count


def test_a_container_s_process_joins_as_a_node_and_ends_when_that_is_lost(stack):
    """What `docker-compose.yml` has worker and API do; here both nodes are on one machine."""
    program = (
        "import time\nfrom infra.cluster import Cluster\nfrom infra.settings import Settings\n"
        "cluster = Cluster(Settings())\nassert cluster.ready()\nimport ray\n"
        "while len([n for n in ray.nodes() if n['Alive']]) < 2: time.sleep(0.2)\n"
        "print('joined', flush=True)\ntime.sleep(100)"
    )
    environment = {**os.environ, **stack.settings.environment(), "LONGTAIL_RAY_JOIN": "true"}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "joined\n"
        children = psutil.Process(process.pid).children(recursive=True)
        next(c for c in children if c.name() == "raylet").kill()
        assert process.wait(60) == 3
    finally:
        process.kill()
        for child in children:
            if child.is_running():
                child.kill()
