"""Evaluations: what an addition is worth to a model trained with it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse

from infra.changed_images import changed_pictures
from infra.database import DATASETS, EVALUATIONS, GENERATORS, Database, Row
from infra.evaluation_page import page
from longtail.errors import InvalidRequest, NotFound
from longtail.samples import is_source
from longtail.uplift import arms_asked, check_sources
from services.api.schemas import Evaluate
from services.api.service import Cursor, IdempotencyKey, Limit, Served, accepted, check_trainer, html_page, job_id, page_of

router = APIRouter(prefix="/v1", tags=["evaluations"])


@router.post("/evaluations", status_code=202)
def evaluate(body: Evaluate, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Trains a reference model, or the team's own, on every arm with every seed, and measures each on the real test split."""
    database = served.catalogue.database
    base = base_of(body, database)
    if body.candidate is not None:
        found = database.version(body.dataset, body.candidate)
        candidate = found["batches"]
        adds = found["health"]["synthetic_images"] > 0 if base["number"] == body.candidate else set(base["batches"]) < set(candidate)
        if not adds:
            raise InvalidRequest(f"version {body.candidate} does not add to version {base['number']}; there is nothing to measure")
        check_sources(base["batches"], candidate, what=f"version {body.candidate}", base_number=base["number"])
    if body.generator is not None and database.find(GENERATORS, f"{body.dataset}:{body.generator}") is None:
        raise NotFound(f"dataset {body.dataset!r} has no generator version {body.generator}")
    check_trainer(body.trainer, served)
    arms_asked(body.arms or [], body.shares, task=database.get(DATASETS, body.dataset)["task"])
    request = body.model_dump() | {"base": base["number"]}
    job = job_id("evaluate", key, "evaluations", request, served)
    return accepted(served.asking.ask("evaluate", request, job=job))


def base_of(body: Evaluate, database: Database) -> Row:
    """The version asked for; else the one that the candidate was added to, or the latest.

    A candidate whose source was looked at again since has its own real images to be measured against.
    """
    if body.base is None and body.candidate is not None:
        candidate = database.version(body.dataset, body.candidate)
        parent = database.version(body.dataset, candidate["parent"], to_see=True) if candidate["parent"] else candidate
        same = set(filter(is_source, parent["batches"])) == set(filter(is_source, candidate["batches"]))
        return parent if same and not parent["withdrawn"] else candidate
    return database.version(body.dataset, body.base)


@router.get("/evaluations")
def evaluations(served: Served, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    return page_of(served, EVALUATIONS, cursor=cursor, limit=limit)


@router.get("/evaluations/{key}")
def evaluation(key: str, served: Served) -> dict[str, Any]:
    found = served.catalogue.database.find(EVALUATIONS, key)
    if found is None:
        raise NotFound(f"no evaluation {key!r}; it is there once its job has succeeded")
    return found


@router.get("/evaluations/{key}/report.html", response_class=HTMLResponse)
def report(key: str, served: Served) -> HTMLResponse:
    """The evaluation as one self-contained page: who was hurt first, every arm with its intervals, what the policy chose, and the test images that changed."""
    found = evaluation(key, served)
    return html_page(page(found, changed_pictures(served.catalogue, found)))
