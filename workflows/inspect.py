"""A look at every image of a version: fingerprints, features, what is there more than once, and boxes of odd sizes. It follows a registration."""

from __future__ import annotations

from typing import Any

from infra.database import INSPECTIONS
from infra.durable import step
from longtail.jobs import TENANT
from longtail.seeds import derive_id
from workflows.stack import Stack


def ask_for_inspection(stack: Stack, job: str, dataset: str, version: int) -> str:
    """The id of the inspection's job, which goes on by itself."""
    key = derive_id("job", TENANT, "inspect", job)
    step("ask for inspection", lambda: stack.asking.ask("inspect", {"dataset": dataset, "version": version}, job=key) and None)
    return key


def inspect(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"images", "unread", "exact", "near", "leaking", "odd"}; see `longtail.duplicates.copies` and `longtail.odd_boxes`.

    Resumable: an image is looked at once.
    """
    payload = {"job": job, "dataset": request["dataset"], "version": request["version"]}
    found: dict[str, Any] = step("look", lambda: stack.cluster.run("trainers.inspection:inspect", payload))
    row = {"id": job, "dataset": request["dataset"], "version": request["version"], "result": found}
    step("record", lambda: stack.catalogue.database.insert(INSPECTIONS, row))
    return {"dataset": request["dataset"], "version": request["version"], **found}
