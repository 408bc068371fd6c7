"""An expansion: bring classes to their target counts, asked by hand or by the clock; nothing where they are met."""

from __future__ import annotations

from typing import Any

from infra.database import BATCHES, EXPANSIONS, RUNS, VERSIONS
from infra.durable import step
from longtail.expansion import images_for, missing
from longtail.jobs import TENANT
from longtail.seeds import derive_id
from workflows.batches import publish_batches, run_batch
from workflows.evaluate import measure
from workflows.stack import Stack

TICK = "longtail.tick"


def expand(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Counts, makes a batch for each class that lacks, publishes them as one version; records what came of it."""
    key = request["expansion"]
    expansion = stack.catalogue.database.get(EXPANSIONS, key)
    wanted = expansion["request"]
    counted = step("count", lambda: count(stack, key, expansion["dataset"], wanted))
    try:
        if not counted["missing"]:
            outcome: dict[str, Any] = {"did": "nothing", "why": "every target is met", "counts": counted["counts"]}
        else:
            outcome = grow(stack, job, expansion["dataset"], wanted, counted)
    except Exception as error:
        failed = {"did": "failed", "why": str(error)}
        step("record failed run", lambda: record(stack, job, key, request["trigger"], failed))
        raise
    step("record run", lambda: record(stack, job, key, request["trigger"], outcome))
    return {"expansion": key, **outcome}


def count(stack: Stack, key: str, dataset: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """{"version", "onto", "counts", "missing"}: of the latest version, or of what this expansion has made of it, unproven yet."""
    database = stack.catalogue.database
    latest = database.version(dataset)
    seen = latest
    for run in database.every(RUNS, expansion=key):
        number = run["outcome"].get("version")
        if number is not None:
            for made in database.select(VERSIONS, dataset=dataset, number=number):  # none if it was dropped
                seen = made if made["parent"] in (latest["number"], seen["number"]) and not made["withdrawn"] else seen
    counts = {c["name"]: c["own"] for c in seen["health"]["classes"]}
    lacking = missing(wanted["targets"], counts, budget=wanted["max_images"], objects=wanted.get("objects") or 1)
    return {"version": latest["number"], "onto": seen["number"], "counts": counts, "missing": lacking}


def grow(stack: Stack, job: str, dataset: str, wanted: dict[str, Any], counted: dict[str, Any]) -> dict[str, Any]:
    keys: list[str] = []
    plan, accepted, share = counted["missing"], 0, 0.3 if wanted.get("evaluate") else 0.9
    objects = wanted.get("objects") or 1
    for position, (name, number) in enumerate(plan.items()):
        key = derive_id("batch", TENANT, job, name)
        request = {
            "dataset": dataset, "version": counted["version"], "class_name": name, "count": images_for(number, objects),
            "mode": wanted["mode"], "novelty": wanted["novelty"], "seed": None, "augment": wanted.get("augment"), "batch": key,
            "objects": objects, "total": number,
        }  # fmt: skip
        row = {"id": key, "dataset": dataset, "state": "queued", "request": request, "job": job}
        step(f"batch {name}", stack.catalogue.database.insert, BATCHES, row)
        made = run_batch(stack, job, key, request, low=share * position / len(plan), high=share * (position + 1) / len(plan))
        accepted += made["accepted"]
        keys.append(key)
    if not accepted:
        return {"did": "nothing", "why": "no sample passed the filters", "asked": plan, "batches": keys}
    published = publish_batches(stack, job, dataset, keys, accept_unproven=wanted["accept_unproven"], onto=counted["onto"])
    outcome = {"did": "expanded", "asked": plan, "batches": keys, **published}
    if not wanted.get("evaluate"):
        return outcome
    settings = {k: v for k, v in wanted["evaluate"].items() if k not in ("count", "classes", "novelty", "objects")}
    asked = {"dataset": dataset, "base": counted["version"], "candidate": published["version"], **settings}
    try:
        found = measure(stack, job, asked, low=0.35, high=1.0)
    except Exception as error:  # whatever it was, what was published is there, and is not to be made again at the next tick
        return {**outcome, "evaluation": None, "why": f"it could not be measured: {error}"}
    return {**outcome, "evaluation": job, "proof": found["proof"], "latest": outcome["latest"] or found["latest_moved"]}


def record(stack: Stack, job: str, key: str, trigger: str, outcome: dict[str, Any]) -> None:
    stack.catalogue.database.insert(RUNS, {"id": job, "expansion": key, "trigger": trigger, "outcome": outcome})


def tick(stack: Stack, scheduled: str, context: dict[str, Any]) -> None:
    """The clock's hand: asks for the expansion once for each tick (an ISO time), however often it is told of it."""
    key = context["expansion"]
    found = stack.catalogue.database.find(EXPANSIONS, key)
    if found is None or not found["active"]:
        return
    job = derive_id("job", TENANT, "expand", key, scheduled)
    step("ask", lambda: stack.asking.ask("expand", {"expansion": key, "trigger": "clock"}, job=job) and None)
