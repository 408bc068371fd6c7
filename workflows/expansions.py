"""An expansion: bring classes to their target counts, asked by hand or by the clock; nothing where they are met."""

from __future__ import annotations

from typing import Any

from infra.database import BATCHES, EXPANSIONS, RUNS, VERSIONS
from infra.durable import step
from longtail.errors import Cancelled
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
        outcome: dict[str, Any]
        if counted.get("harmful") is not None:
            why = f"version {counted['harmful']}, which this expansion made, did harm; drop it to let it try again, or change the generator"
            outcome = {"did": "nothing", "why": why, "counts": counted["counts"]}
        elif not counted["missing"]:
            outcome = {"did": "nothing", "why": met(counted), "counts": counted["counts"]}
        else:
            outcome = grow(stack, job, expansion["dataset"], wanted, counted)
    except Cancelled:
        step("record cancelled run", lambda: record(stack, job, key, request["trigger"], {"did": "cancelled", "why": "cancelled by its owner"}))
        raise
    except Exception as error:
        failed = {"did": "failed", "why": str(error)}
        step("record failed run", lambda: record(stack, job, key, request["trigger"], failed))
        raise
    step("record run", lambda: record(stack, job, key, request["trigger"], outcome))
    return {"expansion": key, **outcome}


def count(stack: Stack, key: str, dataset: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """{"version", "onto", "counts", "missing", "harmful"}: of the latest version, or of what this expansion has made of it, unproven yet.

    `harmful` is what it has made of it and what proved to do harm; nothing is added to that.
    """
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
    harmful = seen["number"] if seen["proof"] == "negative" and seen["number"] != latest["number"] else None
    return {"version": latest["number"], "onto": seen["number"], "counts": counts, "missing": lacking, "harmful": harmful, "proof": seen["proof"]}


def met(counted: dict[str, Any]) -> str:
    if counted["onto"] == counted["version"]:
        return "every target is met"
    return f"every target is met by version {counted['onto']}, which is not the latest: its proof is {counted.get('proof', 'none')}"


def grow(stack: Stack, job: str, dataset: str, wanted: dict[str, Any], counted: dict[str, Any]) -> dict[str, Any]:
    keys: list[str] = []
    plan, accepted, share = counted["missing"], 0, 0.3 if wanted.get("evaluate") else 0.9
    told: dict[str, dict[str, str]] = {"advice": {}, "unasked": {}}
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
        for what, of in told.items():
            of |= {name: made[what]} if what in made else {}
        keys.append(key)
    if not accepted:
        return {"did": "nothing", "why": "no sample passed the filters", "asked": plan, "batches": keys, **told}
    published = publish_batches(
        stack, job, dataset, keys, accept_unproven=wanted["accept_unproven"], onto=counted["onto"], instead_of=counted["version"]
    )
    outcome = {"did": "expanded", "asked": plan, "batches": keys, **told, **published}
    if not wanted.get("evaluate"):
        return outcome
    settings = {k: v for k, v in wanted["evaluate"].items() if k not in ("count", "classes", "novelty", "objects")}
    asked = {"dataset": dataset, "base": counted["version"], "candidate": published["version"], **settings}
    try:
        found = measure(stack, job, asked, low=0.35, high=1.0)
    except Cancelled:
        raise
    except Exception as error:  # whatever it was, what was published is there, and is not to be made again at the next tick
        return {**outcome, "evaluation": None, "why": f"it could not be measured: {error}"}
    part = found["published"] or {"latest_moved": False}
    moved = outcome["latest"] or found["latest_moved"] or part["latest_moved"]
    return {**outcome, "evaluation": job, "proof": found["version_proof"], "latest": moved, "why": found["latest_why"], "published": found["published"]}


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
