"""Expansions and their clock."""

from __future__ import annotations

import uuid
from typing import Any

from croniter import croniter
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from infra.database import DATASETS, EXPANSIONS, RUNS
from longtail.errors import InvalidRequest
from longtail.jobs import TENANT
from longtail.seeds import derive_id
from longtail.uplift import arms_asked
from services.api.schemas import Expansion
from services.api.service import Cursor, IdempotencyKey, Limit, Served, accepted, check_made, check_mode, check_trainer, job_id, page_of

router = APIRouter(prefix="/v1", tags=["expansions"])
TICK = "longtail.tick"


@router.post("/expansions", status_code=201)
def create(body: Expansion, served: Served) -> JSONResponse:
    """Keeps targets for a dataset; with a cron line the clock runs them, whatever is restarted."""
    version = served.catalogue.database.version(body.dataset)
    check_mode(served, body.dataset, body.mode)
    own = {c["name"]: c["own"] for c in version["health"]["classes"]}
    for name, target in body.targets.items():
        if own.get(name, -1) < target:  # a class that is not there lacks even none
            check_made(served, version, dataset=body.dataset, class_name=name, mode=body.mode, novelty=body.novelty)
    if body.evaluate is not None:
        check_trainer(body.evaluate.trainer, served)
        arms_asked(body.evaluate.arms, body.evaluate.shares, task=served.catalogue.database.get(DATASETS, body.dataset)["task"])
        if not any(c["instances"]["test"] for c in version["health"]["classes"]):
            raise InvalidRequest(f"evaluate: dataset {body.dataset!r} has no test split to measure on")
    key = derive_id("expansion", TENANT, uuid.uuid4())
    if body.cron:
        if not croniter.is_valid(body.cron, second_at_beginning=True):
            raise InvalidRequest(f"cron {body.cron!r}: expected five fields (minute hour day month weekday, UTC), as in '0 3 * * *'")
        served.asking.queue.schedule(key, workflow=TICK, cron=body.cron, context={"expansion": key})
    row = {"id": key, "dataset": body.dataset, "request": body.asked(), "cron": body.cron, "active": True}
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
