"""Withdrawing source images: all that hangs on them goes too, and the dataset goes on without."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Run

from infra.changes import Hanging, hanging_on
from infra.database import DATASETS, GENERATORS, SAMPLES, VERSIONS, WITHDRAWALS, Row
from infra.durable import step
from infra.registry import CHAMPION
from workflows.evaluate import renew_pages
from workflows.generators import log_page, promote_now
from workflows.pictures import bare_page, take_pictures_out
from workflows.stack import Stack
from workflows.versions import forget_pages, publish_version, refused_by_mlflow


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


def close(stack: Stack, job: str, name: str, found: Hanging) -> dict[str, str]:
    """From here on the versions that hold the images may be seen, not used; pages in MLflow that show them say so and show nothing any more.

    {"pages_left": why} where not all of them could be let go of.
    """
    for number in found.versions:
        stack.catalogue.database.update(VERSIONS, stack.catalogue.database.version(name, number, to_see=True)["id"], withdrawn=job)
    left = [
        refused_by_mlflow(lambda: forget_pages(stack, name, found.versions)),
        refused_by_mlflow(lambda: renew_pages(stack, name, frozenset(found.ids))),
        *forget_trainings(stack, name, found.versions),
    ]
    return {"pages_left": "; ".join(filter(None, left))} if any(left) else {}


def forget_trainings(stack: Stack, dataset: str, versions: Sequence[int]) -> list[str | None]:
    """Takes the pictures out of the pages of generators that learned from those versions or were judged by them, and out of their runs in MLflow.

    Curves, gates and figures stay. Why something was left, of each that was.
    """
    made = {g["job"]: g for g in stack.catalogue.database.every(GENERATORS, dataset=dataset) if g["source"] == "finetune"}
    for job in (job for job, g in made.items() if g["dataset_version"] in versions):
        bare_page(stack, dataset, job)
    runs: list[Run] = []
    listed = refused_by_mlflow(lambda: runs.extend(stack.registry.runs(f"longtail-{dataset}")))
    saw = [r for r in runs if "longtail.start" in r.data.tags and int(r.data.tags["longtail.dataset_version"]) in versions]
    return [listed, *(refused_by_mlflow(functools.partial(blank, stack, dataset, run, made)) for run in saw)]


def blank(stack: Stack, dataset: str, run: Run, made: dict[str, Row]) -> None:
    """What a run in MLflow shows of its training; the page of a generator that came of it says what became of that."""
    job = run.data.tags["longtail.job"]
    take_pictures_out(stack, dataset, job, run.info.run_id)
    if job in made:
        log_page(stack, dataset, made[job]["version"])
