"""A batch: planned, generated in parts, filtered, ready for a person; then published or discarded."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from infra.database import BATCHES, DATASETS, GENERATORS, SAMPLES, Row
from infra.durable import step
from longtail.errors import Cancelled, Conflict, InvalidRequest
from longtail.filtering import advice
from longtail.gated import Gates, unasked, with_default
from longtail.jobs import TENANT
from longtail.samples import Annotation, Provenance, Sample
from workflows.stack import Stack
from workflows.versions import publish_version

PART, ROUNDS = 32, 4
"""Samples a task of the cluster, and tasks of a step for each of its cores. A killed step is lost whole, and made again; between two steps cores wait for
the slowest (with one task a core a batch of 800 was made 6 % slower, over four turns each).
"""
MOST_TASKS = 64


def batch(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """The job behind POST /v1/batches: ends with the batch `ready`."""
    return run_batch(stack, job, request["batch"], request, low=0.0, high=1.0)


def run_batch(stack: Stack, job: str, key: str, request: dict[str, Any], *, low: float, high: float) -> dict[str, Any]:
    """Plans, generates, filters; what `keep` says. Every step may be repeated."""
    database = stack.catalogue.database
    try:
        model = step("choose model", lambda: serving_model(stack, request))
        request = with_default(request, gates_of(stack, model["name"], model["version"]))
        step("generating", lambda: database.update(BATCHES, key, state="generating"))
        count = len(request.get("boxes") or []) or int(request["count"])
        whole = {"job": job, "dataset": request["dataset"], "version": request["version"], "request": request, "key": key, "model": model}
        made: list[dict[str, Any]] = []
        span = (high - low) * 0.8
        while len(made) < count:
            made += step(f"generate {len(made)}", generate_wave, stack, whole, len(made), count, [low, low + span])
        step("filtering", lambda: database.update(BATCHES, key, state="filtering"))
        verdicts = first = step("filter", filter_all, stack, job, request, made, low + span)
        if any(partly(v) for v in verdicts):
            made = step("without", remake_wave, stack, whole, made, verdicts, [low + span, low + span])
            verdicts = step("filter again", filter_all, stack, job, request, made, low + span)
        return step("ready", lambda: keep(stack, key, made, verdicts, first))
    except Cancelled:
        step("batch cancelled", lambda: database.update(BATCHES, key, state="cancelled"))
        raise
    except Exception:
        step("batch failed", lambda: database.update(BATCHES, key, state="failed"))
        raise


def serving_model(stack: Stack, request: dict[str, Any]) -> dict[str, Any]:
    """The generator that serves the dataset now; frozen into the batch's records. Copy-paste needs none."""
    if request["mode"] == "copy_paste":
        return {"name": None, "version": None, "uri": None}
    row = stack.catalogue.database.serving(request["dataset"])
    return {"name": request["dataset"], "version": row["version"], "uri": row["uri"]}


def gates_of(stack: Stack, model: str | None, version: int | None) -> Gates:
    """The generator's gates; none where no generator makes anything."""
    gates: Gates = [] if version is None else stack.catalogue.database.get(GENERATORS, f"{model}:{version}")["gates"]
    return gates


def generate_wave(stack: Stack, whole: dict[str, Any], start: int, count: int, span: list[float]) -> list[dict[str, Any]]:
    """As many samples from `start` on as the cluster makes in a few rounds; how many that is may differ when a step is repeated."""
    left, cores = count - start, min(MOST_TASKS, stack.cluster.cpus())
    part = min(PART, math.ceil(left / cores))
    end = start + min(left, part * cores * ROUNDS)
    prefix = stack.catalogue.settings.place(whole["dataset"], "samples")

    def reached(done: int) -> float:
        return span[0] + (span[1] - span[0]) * done / count

    payloads = [
        {**whole, "start": at, "count": min(part, end - at), "prefix": prefix, "low": reached(at), "high": reached(min(at + part, end))}
        for at in range(start, end, part)
    ]
    return [sample for made in stack.cluster.run_all("trainers.tasks:generate", payloads) for sample in made]


def partly(verdict: dict[str, Any]) -> bool:
    """Whether some of an image's objects may stay, and some may not."""
    return any(verdict["objects"]) and not all(verdict["objects"])


def remake_wave(stack: Stack, whole: dict[str, Any], made: list[dict[str, Any]], verdicts: list[dict[str, Any]], span: list[float]) -> list[dict[str, Any]]:
    """The samples, those with objects that may not stay made again without these."""
    again = [{"id": s["id"], "record": s["record"], "kept": v["objects"]} for s, v in zip(made, verdicts, strict=True) if partly(v)]
    part = min(PART, math.ceil(len(again) / stack.cluster.cpus()))
    common = {k: whole[k] for k in ("job", "dataset", "version")} | {"prefix": stack.catalogue.settings.place(whole["dataset"], "samples")}
    payloads = [{**common, "samples": again[at : at + part], "low": span[0], "high": span[1]} for at in range(0, len(again), part)]
    anew = {s["id"]: s for found in stack.cluster.run_all("trainers.tasks:remake", payloads) for s in found}
    return [anew.get(s["id"], s) for s in made]


def filter_all(stack: Stack, job: str, request: dict[str, Any], made: list[dict[str, Any]], at: float) -> list[dict[str, Any]]:
    stack.progress(job, low=at)(0.1, "filtering: copies, labels, visibility", stage="filter")
    payload = {"job": job, "dataset": request["dataset"], "version": request["version"], "samples": made}
    verdicts: list[dict[str, Any]] = stack.cluster.run("trainers.tasks:filter_batch", payload)
    return verdicts


def keep(
    stack: Stack, key: str, made: list[dict[str, Any]], verdicts: list[dict[str, Any]], first: list[dict[str, Any]]
) -> dict[str, Any]:
    """Writes the samples with their verdicts; the batch is ready for a person, or for publication."""
    database = stack.catalogue.database
    rows = []
    for position, (sample, verdict) in enumerate(zip(made, verdicts, strict=True)):
        fields = {k: sample[k] for k in ("id", "uri", "etag", "size_bytes", "width", "height")}
        state = "accepted" if verdict["accepted"] else "rejected"
        record = {**sample["record"], "scores": verdict["figures"]}
        said = {"annotations": sample["annotations"], "provenance": record, "verdict": verdict}
        rows.append({**fields, "batch": key, "position": position, "state": state, **said})
    database.insert_all(SAMPLES, rows)
    reasons, taken = counted(verdicts), counted([v for v in first if partly(v)])
    accepted = sum(v["accepted"] for v in verdicts)
    kept = [v for v in verdicts if v["accepted"]]
    result: dict[str, Any] = {
        "batch": key, "made": len(made), "accepted": accepted, "rejected": reasons,
        "rates": {reason: count / len(made) for reason, count in reasons.items()}, "derived": derived(kept),
        "objects": {
            "made": sum(len(v["objects"]) for v in first), "accepted": sum(len(v["objects"]) for v in kept),
            "taken_out": sum(not stays for v in first if partly(v) for stays in v["objects"]), "taken_out_for": taken,
        },
    }  # fmt: skip
    lost = {"images": len(made) - accepted, "objects": result["objects"]["made"] - result["objects"]["accepted"]}
    by_generator = any(sample["record"]["model_version"] is not None for sample in made)
    for what, of in (("images", len(made)), ("objects", result["objects"]["made"])):
        told = advice(what, lost=lost[what], of=of, reasons={r: reasons.get(r, 0) + taken.get(r, 0) for r in {**reasons, **taken}}, made=by_generator)
        if told:
            result["advice"] = told
            break
    if by_generator:
        record = made[0]["record"]
        asked = {k: record[k] for k in ("class_name", "mode", "novelty")}
        beyond = unasked(gates_of(stack, record["model"], record["model_version"]), generator=record["model_version"], **asked)
        result |= {"unasked": beyond} if beyond else {}
    database.update(BATCHES, key, state="ready", summary=result)
    return result


def counted(verdicts: list[dict[str, Any]]) -> dict[str, int]:
    """How many of them give each reason."""
    return dict(Counter(reason for v in verdicts for reason in v["reasons"]))


def derived(verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """Of accepted samples, how many derive from real instances, from how many of them, and how many from each, the most first."""
    counts = Counter(instance for v in verdicts for instance in v["derived_from"])
    by_instance = dict(counts.most_common())
    return {"samples": sum(bool(v["derived_from"]) for v in verdicts), "instances": len(counts), "by_instance": by_instance}


def publish(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Adds the batches' accepted samples to their dataset as a new version, whole or not at all."""
    return publish_batches(
        stack, job, request["dataset"], request["batches"], accept_unproven=request["accept_unproven"], onto=request.get("onto")
    )


def publish_batches(
    stack: Stack, job: str, dataset: str, keys: list[str], *, accept_unproven: bool, onto: int | None = None, instead_of: int | None = None
) -> dict[str, Any]:
    """Stages every accepted sample, then names them in one version: a child of `onto`, or of the latest.

    `latest` moves only where unproven is accepted, and with `instead_of` only in the place of that version. From here on nobody can discard
    the batches or decide on their samples.
    """
    claimed = step("claim", lambda: claim(stack, keys))
    try:
        return publish_claimed(stack, job, dataset, keys, accept_unproven=accept_unproven, onto=onto, instead_of=instead_of)
    except Exception:
        step("give back", lambda: move_all(stack, claimed, allowed="publishing", to="ready"))
        raise


def claim(stack: Stack, keys: list[str]) -> list[str]:
    """Takes the batches that are ready, so that they stay as they are; which those are. Raises Conflict for any that may not be published."""
    database = stack.catalogue.database
    fresh = [key for key in keys if database.get(BATCHES, key)["state"] != "published"]
    for done, key in enumerate(fresh):
        try:
            database.move(BATCHES, key, column="state", allowed=["ready"], to="publishing")
        except Conflict:
            move_all(stack, fresh[:done], allowed="publishing", to="ready")
            raise
    return fresh


def move_all(stack: Stack, keys: list[str], *, allowed: str, to: str) -> None:
    for key in keys:
        if stack.catalogue.database.get(BATCHES, key)["state"] == allowed:
            stack.catalogue.database.move(BATCHES, key, column="state", allowed=[allowed], to=to)


def publish_claimed(
    stack: Stack, job: str, dataset: str, keys: list[str], *, accept_unproven: bool, onto: int | None, instead_of: int | None
) -> dict[str, Any]:
    staged = step("stage rows", lambda: stage(stack, dataset, keys))
    published = publish_version(
        stack, dataset, job=job, onto=onto, batches=keys, lance_version=staged["lance_version"], note=f"{staged['added']} synthetic samples",
        make_latest=accept_unproven, instead_of=instead_of, accepted_unproven=accept_unproven,
    )  # fmt: skip
    step("published", lambda: move_all(stack, keys, allowed="publishing", to="published"))
    return {**published, "dataset": dataset, "added": staged["added"], "proof": "none", "accepted_unproven": accept_unproven}


def stage(stack: Stack, dataset: str, keys: list[str]) -> dict[str, Any]:
    catalogue = stack.catalogue
    rows: list[Sample] = []
    for key in keys:
        found = catalogue.database.get(BATCHES, key)
        accepted = list(catalogue.database.every(SAMPLES, batch=key, state="accepted"))
        rows += as_samples(stack, dataset, found, accepted)
    if not rows:
        raise InvalidRequest("no accepted sample is left to publish; accept some, or make another batch")
    version = catalogue.tables.merge(catalogue.tables.uri(TENANT, dataset), rows, tenant=TENANT)
    return {"lance_version": version, "added": len(rows)}


def as_samples(stack: Stack, dataset: str, batch_row: Row, accepted: list[Row]) -> list[Sample]:
    """Training samples, marked synthetic, with the labels of all that is seen in them: the object that was made comes last."""
    task = stack.catalogue.database.get(DATASETS, dataset)["task"]
    made = []
    for row in accepted:
        record = Provenance.from_json(row["provenance"])
        labels = tuple(Annotation.from_json(a) for a in row["annotations"])
        if not labels:
            raise Conflict(f"batch {batch_row['id']!r} was made by an older Longtail, which kept no labels; make it again")
        folder = record.class_name if task == "classification" else f"longtail/{batch_row['id']}"
        made.append(
            Sample(
                id=row["id"], path=f"{folder}/{row['id']}.{row['uri'].rsplit('.', 1)[-1]}", uri=row["uri"], etag=row["etag"],
                size_bytes=row["size_bytes"], width=row["width"], height=row["height"], split="train", annotations=labels, origin="synthetic",
                batch=batch_row["id"], provenance=record,
            )
        )  # fmt: skip
    return made
