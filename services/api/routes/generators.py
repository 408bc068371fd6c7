"""Generators: fine-tuning, versions, promotion, and MLflow's word that a champion moved."""

from __future__ import annotations

import hmac
import json
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from infra.database import DATASETS, GENERATORS, Row
from infra.generator_page import generator_page, generator_twin
from infra.signatures import signature
from longtail.errors import NotFound
from longtail.uplift import arms_asked
from services.api.schemas import Evaluate, Finetune, Promote
from services.api.service import IdempotencyKey, Served, accepted, authorised, check_trainer, html_page, job_id

router = APIRouter(prefix="/v1", tags=["generators"])


@router.post("/generators", status_code=202, dependencies=[Depends(authorised)])
def finetune(body: Finetune, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Fine-tunes, from the foundation unless asked otherwise, and registers the result in MLflow.

    It is the challenger if every gate passed but `utility`, which an evaluation measures.
    """
    served.catalogue.database.version(body.dataset)
    request = {**body.model_dump(exclude={"recipe", "start"}), "start": body.from_where, "recipe": body.options}
    job = job_id("finetune", key, "generators", request, served)
    return accepted(served.asking.ask("finetune", request, job=job), dataset=body.dataset)


@router.get("/generators/{dataset}", dependencies=[Depends(authorised)])
def generators(dataset: str, served: Served) -> dict[str, Any]:
    """The dataset's generators with their gates, and which one serves."""
    serving = served.catalogue.database.get(DATASETS, dataset)["serving"]
    items = [{**g, "serving": g["version"] == serving} for g in served.catalogue.database.every(GENERATORS, dataset=dataset)]
    return {"dataset": dataset, "serving": serving, "items": items}


@router.get("/generators/{dataset}/{version}/report.html", response_class=HTMLResponse, dependencies=[Depends(authorised)])
def report(dataset: str, version: int, served: Served) -> HTMLResponse:
    """A generator's gates with their pictures, its curves and latents, as one self-contained page. What was measured of its use stands first."""
    return html_page(generator_page(served.catalogue, generator(dataset, version, served), linked=True))


@router.get("/generators/{dataset}/{version}/report", dependencies=[Depends(authorised)])
def report_twin(dataset: str, version: int, served: Served) -> dict[str, Any]:
    """The same for programs: gates as they stand now, watchdogs, recipe, curves."""
    return generator_twin(served.catalogue, generator(dataset, version, served))


def generator(dataset: str, version: int, served: Served) -> Row:
    row = served.catalogue.database.find(GENERATORS, f"{dataset}:{version}")
    if row is None:
        raise NotFound(f"dataset {dataset!r} has no generator version {version}")
    return row


@router.post("/generators/{dataset}/champion", status_code=202, dependencies=[Depends(authorised)])
def promote(dataset: str, body: Promote, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Moves `champion` in MLflow and serves that version once it is loaded; with `evaluate`, once its images are known to do no harm."""
    generator(dataset, body.version, served)
    request = {"dataset": dataset, "version": body.version, "who": "api", "why": body.why or "asked over REST", "set_alias": True}
    if body.evaluate is None:
        job = job_id("promote", key, f"champion/{dataset}", request, served)
        return accepted(served.asking.ask("promote", request, job=job))
    base = served.catalogue.database.version(dataset)["number"]
    measured = Evaluate(dataset=dataset, base=base, generator=body.version, **body.evaluate.model_dump()).model_dump() | {"promote": request}
    check_trainer(measured["trainer"], served)
    arms_asked(measured["arms"], measured["shares"], task=served.catalogue.database.get(DATASETS, dataset)["task"])
    job = job_id("evaluate", key, f"champion/{dataset}", measured, served)
    return accepted(served.asking.ask("evaluate", measured, job=job))


@router.post("/webhooks/mlflow", status_code=202)
async def webhook(request: Request, served: Served) -> dict[str, Any]:
    """MLflow's hint that an alias moved, signed by it. The champion's swap follows as a job; polling would find it too."""
    raw = await request.body()
    headers = request.headers
    wanted = signature(
        served.settings.webhook_secret, delivery=headers.get("x-mlflow-delivery-id", ""), timestamp=headers.get("x-mlflow-timestamp", ""), body=raw
    )
    if not served.settings.webhook_secret or not hmac.compare_digest(wanted, headers.get("x-mlflow-signature", "")):
        raise HTTPException(401, "the webhook's signature does not match")
    event = json.loads(raw)
    data = event.get("data", {})
    if event.get("entity") != "model_version_alias" or event.get("action") != "created" or data.get("alias") != "champion":
        return {"ignored": True}
    dataset = served.catalogue.database.find(DATASETS, str(data.get("name")))
    if dataset is None:
        return {"ignored": True}
    job = served.asking.promotion_seen(dataset["id"], int(data["version"]), serving=dataset["serving"], source="webhook")
    return {"job": job["id"] if job else None}
