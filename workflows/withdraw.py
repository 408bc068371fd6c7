"""Withdrawing source images: all that hangs on them goes too, and the dataset goes on without."""

from __future__ import annotations

from typing import Any

import numpy as np

from infra.changes import Hanging, hanging_on
from infra.database import DATASETS, GENERATORS, SAMPLES, VERSIONS, WITHDRAWALS
from infra.durable import step
from infra.images import to_png
from infra.registry import CHAMPION
from workflows.evaluate import renew_pages
from workflows.generators import log_page, promote_now
from workflows.stack import Stack
from workflows.versions import forget_pages, publish_version, refused_by_mlflow

BLANK = np.full((1, 1, 3), 255, dtype=np.uint8)


def withdraw(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"version", what hung on the images}: the new latest version holds none of it, and nothing is made from it again.

    From the record on, no publication can hold those rows. Versions that have them stay to be seen, not to be used.
    """
    name = request["name"]
    found = Hanging(**step("find", lambda: hanging_on(stack.catalogue, name, paths=request["paths"], samples=request["samples"]).to_json()))
    step("record", lambda: record(stack, job, request, found))
    step("samples", lambda: set_aside(stack, found))
    step("looks", lambda: stack.catalogue.looks(name).forget(found.sources))
    step("generators", lambda: retire(stack, job, name, found))
    note = f"without {len(found.paths)} withdrawn images"
    published = publish_version(stack, name, job=job, batches=[], lance_version=0, note=note, make_latest=True)
    left = step("close versions", lambda: close(stack, job, name, found)) or {}
    return {"dataset": name, "withdrawal": job, **published, **found.to_json(), **left}


def record(stack: Stack, job: str, request: dict[str, Any], found: Hanging) -> None:
    row = {"id": job, "dataset": request["name"], "reason": request["reason"], "who": "api", "paths": list(found.paths), "samples": sorted(found.ids)}
    stack.catalogue.database.insert(WITHDRAWALS, {**row, "outcome": found.to_json(), "lifted": None})


def set_aside(stack: Stack, found: Hanging) -> None:
    for sample in (*found.samples, *found.unpublished):
        stack.catalogue.database.update(SAMPLES, sample, state="withdrawn")


def retire(stack: Stack, job: str, name: str, found: Hanging) -> None:
    """Generators that learned from the images serve no more; the newest that did not takes their place."""
    database, registry = stack.catalogue.database, stack.registry
    for version in found.generators:
        database.update(GENERATORS, f"{name}:{version}", withdrawn=job)
        registry.tag(name, version, {"longtail.withdrawn": job})
    left = [g["version"] for g in database.every(GENERATORS, dataset=name) if not g["withdrawn"]]
    affected = {database.get(DATASETS, name)["serving"], registry.champion(name)} & set(found.generators)
    if affected and left:
        why = f"generator {sorted(affected)} learned from withdrawn images"
        promote_now(stack, f"{job}-promotion", name, max(left), who="withdrawal", why=why, set_alias=True)
    elif affected:
        database.update(DATASETS, name, serving=None)
        registry.drop_alias(name, CHAMPION)


def forget_generator(stack: Stack, dataset: str, version: int) -> None:
    """A generator's page says that it was withdrawn, and its pictures are blank: they show what it learned from."""
    log_page(stack, dataset, version)
    run = stack.catalogue.database.get(GENERATORS, f"{dataset}:{version}")["run"]
    for name in stack.registry.below(run):
        if name.endswith(".png"):
            stack.registry.log_file(run, name, to_png(BLANK))


def close(stack: Stack, job: str, name: str, found: Hanging) -> dict[str, str]:
    """From here on the versions that hold the images may be seen, not used; their pages in MLflow say so and show nothing any more.

    {"pages_left": why} where MLflow did not let go of them.
    """
    for number in found.versions:
        stack.catalogue.database.update(VERSIONS, stack.catalogue.database.version(name, number, to_see=True)["id"], withdrawn=job)

    def forget() -> None:
        forget_pages(stack, name, found.versions)
        renew_pages(stack, name, frozenset(found.ids))
        for version in found.generators:
            forget_generator(stack, name, version)

    why = refused_by_mlflow(forget)
    return {"pages_left": why} if why else {}
