"""Evaluation: the same detector with and without an addition, and what that proves of the version."""

from __future__ import annotations

from typing import Any

from infra.database import DATASETS, EVALUATIONS, VERSIONS
from infra.durable import step
from longtail.errors import InvalidRequest
from workflows.stack import Stack

PROOF = {"helped": "positive", "harmed": "negative", "inconclusive": "inconclusive"}


def evaluate(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Trains both arms for each seed; the version's proof is the verdict on AP50. Positive proof moves `latest`."""
    dataset = request["dataset"]
    if stack.catalogue.database.get(DATASETS, dataset)["task"] != "detection":
        raise InvalidRequest("the quick uplift harness measures detection; a classification arm is not there yet")
    if not any(c["instances"]["test"] for c in stack.catalogue.database.version(dataset, request["base"])["health"]["classes"]):
        raise InvalidRequest(f"dataset {dataset!r} has no test split to measure on")
    asked: dict[str, Any] = {k: request[k] for k in ("dataset", "base", "candidate", "steps", "seeds", "augment", "copies") if k in request}
    payload: dict[str, Any] = {"job": job, **asked}
    measured = step("measure", lambda: stack.cluster.run("trainers.tasks:uplift", payload))
    return step("record", lambda: record(stack, job, request, measured))


def record(stack: Stack, job: str, request: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    database, dataset = stack.catalogue.database, request["dataset"]
    says = next(row["says"] for row in measured["table"] if row["figure"] == "AP50")
    proof = PROOF[says]
    version = database.version(dataset, request["candidate"])
    database.update(VERSIONS, version["id"], proof=proof)
    latest = database.get(DATASETS, dataset)["latest"]
    moved = proof == "positive" and version["parent"] == latest
    if moved:
        database.update(DATASETS, dataset, latest=request["candidate"])
    result = {**measured, "proof": proof, "latest_moved": moved, "harness": "quick: only the head is trained, on cached features of a frozen backbone"}
    database.insert(EVALUATIONS, {"id": job, "dataset": dataset, "request": request, "result": result})
    return result
