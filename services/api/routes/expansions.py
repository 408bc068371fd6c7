"""Expansions and their clock, and evaluations."""

from __future__ import annotations

import uuid
from typing import Any

from croniter import croniter
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from infra.database import EVALUATIONS, EXPANSIONS, RUNS
from longtail.errors import InvalidRequest, NotFound
from longtail.jobs import TENANT
from longtail.seeds import derive_id
from services.api.schemas import Evaluate, Expansion
from services.api.service import Cursor, IdempotencyKey, Limit, Served, accepted, job_id, page_of

router = APIRouter(prefix="/v1", tags=["expansions"])
TICK = "longtail.tick"


@router.post("/expansions", status_code=201)
def create(body: Expansion, served: Served) -> JSONResponse:
    """Keeps targets for a dataset; with a cron line the clock runs them, whatever is restarted."""
    version = served.catalogue.database.version(body.dataset)
    known = {c["name"] for c in version["health"]["classes"]}
    unknown = sorted(set(body.targets) - known)
    if unknown:
        raise InvalidRequest(f"targets: unknown class {unknown[0]!r}; {body.dataset!r} has {sorted(known)}")
    key = derive_id("expansion", TENANT, uuid.uuid4())
    if body.cron:
        if not croniter.is_valid(body.cron, second_at_beginning=True):
            raise InvalidRequest(f"cron {body.cron!r}: expected five fields (minute hour day month weekday, UTC), as in '0 3 * * *'")
        served.asking.queue.schedule(key, workflow=TICK, cron=body.cron, context={"expansion": key})
    row = {"id": key, "dataset": body.dataset, "request": body.model_dump(), "cron": body.cron, "active": True}
    served.catalogue.database.insert(EXPANSIONS, row)
    return JSONResponse(served.catalogue.database.get(EXPANSIONS, key), 201, headers={"Location": f"/v1/expansions/{key}"})


@router.get("/expansions")
def expansions(served: Served, cursor: Cursor = None, limit: Limit = 1000) -> dict[str, Any]:
    return page_of(served, EXPANSIONS, cursor=cursor, limit=limit)


@router.get("/expansions/{key}")
def one(key: str, served: Served) -> dict[str, Any]:
    """An expansion and what came of each of its last thousand runs, oldest first."""
    database = served.catalogue.database
    return {**database.get(EXPANSIONS, key), "runs": database.select(RUNS, expansion=key, newest=True)[::-1]}


@router.post("/expansions/{key}/run", status_code=202)
def run(key: str, served: Served, idempotency: IdempotencyKey = None) -> JSONResponse:
    """Runs it now. Where its targets are met it does nothing, and says so."""
    served.catalogue.database.get(EXPANSIONS, key)
    job = job_id("expand", idempotency, f"expansions/{key}", {}, served)
    return accepted(served.asking.ask("expand", {"expansion": key, "trigger": "hand"}, job=job))


@router.delete("/expansions/{key}")
def remove(key: str, served: Served) -> dict[str, Any]:
    """Stops the clock; what it made stays."""
    row = served.catalogue.database.get(EXPANSIONS, key)
    if row["active"] and row["cron"]:
        served.asking.queue.unschedule(key)
    served.catalogue.database.update(EXPANSIONS, key, active=False)
    return served.catalogue.database.get(EXPANSIONS, key)


@router.post("/evaluations", status_code=202)
def evaluate(body: Evaluate, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Measures what a version's addition does to a detector, on the real test split."""
    base = served.catalogue.database.version(body.dataset, body.base)
    candidate = served.catalogue.database.version(body.dataset, body.candidate)
    if not set(base["batches"]) < set(candidate["batches"]):
        raise InvalidRequest(f"version {body.candidate} does not add to version {body.base}; there is nothing to measure")
    job = job_id("evaluate", key, "evaluations", body.model_dump(), served)
    return accepted(served.asking.ask("evaluate", body.model_dump(), job=job))


@router.get("/evaluations/{key}")
def evaluation(key: str, served: Served) -> dict[str, Any]:
    found = served.catalogue.database.find(EVALUATIONS, key)
    if found is None:
        raise NotFound(f"no evaluation {key!r}; it is there once its job has succeeded")
    return found
