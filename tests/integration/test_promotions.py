"""A generator is trained, registered and promoted, by MLflow or by request: what serves changes once, or not at all."""

from __future__ import annotations

import time

import pytest

from infra.asking import Asking
from infra.database import Database
from infra.durable import Queue
from infra.registry import CHAMPION, Registry
from longtail.client import JobFailed
from services.demo.walk import wait_until
from tests.integration.browsing import linked, opened


def test_training_registers_a_version_that_mlflow_can_promote(stack, cells):
    job = stack.client.post("/v1/generators", {"dataset": cells, "classes": ["Platelets"], "budget_s": 4})
    result = stack.client.wait(job["job"], timeout_s=300)["result"]
    assert {g["name"] for g in result["gates"]} >= {"kid", "coverage", "density", "copying"}
    version = result["generator"]
    registry = Registry(stack.settings.mlflow_url)
    tags = registry.tags(cells, version)
    assert tags["longtail.weights"].endswith(".safetensors")
    assert tags["gate.utility"].startswith("unknown") and tags["longtail.gates"] != "passed", "nobody has measured what it is good for"
    assert "Utility: <b class=unknown>" in opened(stack, f"v1/generators/{cells}/{version}/report.html")
    run = registry.client.get_model_version(cells, str(version)).run_id
    assert {"generator", "grids", "gates", "report.html", "report.json"} <= {f.path for f in registry.client.list_artifacts(run)}
    pictured = [g["pictures"] for g in result["gates"] if g["pictures"]]
    folder = pictured[0].rsplit("/", 1)[0]
    assert set(pictured) == {f.path for f in registry.client.list_artifacts(run, folder)}
    assert registry.client.get_metric_history(run, "train/l1")
    registry.client.set_registered_model_alias(cells, CHAMPION, str(version))
    wait_until(lambda: stack.client.get(f"/v1/datasets/{cells}")["serving"] == version, 60, "the swap")
    promotions = stack.client.get(f"/v1/datasets/{cells}/promotions")["items"]
    assert (promotions[-1]["before"], promotions[-1]["after"]) == (1, version)
    assert promotions[-1]["who"] in ("webhook", "polling")
    asked = stack.client.post("/v1/batches", {"dataset": cells, "class_name": "Platelets", "count": 4, "novelty": 0.2})
    stack.client.wait(asked["job"], timeout_s=120)
    job = stack.client.post(f"/v1/batches/{asked['batch']}/publish", {})
    grown = stack.client.wait(job["job"], timeout_s=60)["result"]["version"]
    page = b"".join(stack.client.download(f"/v1/datasets/{cells}/versions/{grown}/report.html", limit=2)).decode()
    assert f"generator {version}: dial" in page and "From one latent to another" in page and "<h2>Training</h2>" in page
    found = {f"v1/datasets/{cells}/versions/{grown}/report.html", f"v1/generators/{cells}/{version}/report.html"}
    assert found <= linked(stack)
    assert "<h2>Training</h2>" in opened(stack, f"v1/generators/{cells}/{version}/report.html")
    job = stack.client.post(f"/v1/generators/{cells}/champion", {"version": 1, "why": "back"})
    assert stack.client.wait(job["job"], timeout_s=60)["result"]["serving"] == 1
    assert registry.champion(cells) == 1
    time.sleep(2 * stack.settings.poll_seconds)  # webhook and polling hear of it too, and find nothing to do
    logged = stack.client.get(f"/v1/datasets/{cells}/promotions")["items"][len(promotions) :]
    assert [(p["before"], p["after"], p["who"]) for p in logged] == [(version, 1, "api")]


def test_a_promotion_that_was_overtaken_changes_nothing(stack, cells):
    """A late webhook names a version that `champion` does not point at any more."""
    before = stack.client.get(f"/v1/datasets/{cells}")["serving"]
    other = next(g["version"] for g in stack.client.get(f"/v1/generators/{cells}")["items"] if g["version"] != before)
    asking = Asking(Database(stack.settings.database_url), Queue(stack.settings.durable_url))
    job = asking.promotion_seen(cells, other, serving=before, source="webhook")
    assert stack.client.wait(job["id"], timeout_s=60)["result"]["outcome"] == "nothing to do"
    assert stack.client.get(f"/v1/datasets/{cells}")["serving"] == before


def test_a_generator_that_cannot_be_loaded_is_no_champion_and_what_serves_goes_on_serving(stack, cells):
    registry = Registry(stack.settings.mlflow_url)
    serving, champion = stack.client.get(f"/v1/datasets/{cells}")["serving"], registry.champion(cells)
    other = next(g["version"] for g in stack.client.get(f"/v1/generators/{cells}")["items"] if g["version"] != serving)
    weights = registry.tags(cells, other)["longtail.weights"]
    registry.tag(cells, other, {"longtail.weights": "s3://team-data/gone.safetensors"})
    try:
        with pytest.raises(JobFailed, match=r"gone\.safetensors"):
            stack.client.wait(stack.client.post(f"/v1/generators/{cells}/champion", {"version": other})["job"], timeout_s=60)
        assert (stack.client.get(f"/v1/datasets/{cells}")["serving"], registry.champion(cells)) == (serving, champion)
    finally:
        registry.tag(cells, other, {"longtail.weights": weights})


def test_the_webhook_refuses_a_body_that_mlflow_did_not_sign(stack):
    response = stack.client.http.post("/v1/webhooks/mlflow", json={"entity": "model_version_alias"}, headers={"x-mlflow-signature": "v1,x"})
    assert response.status_code == 401
