"""Previews at once, batches as jobs, single samples and their provenance."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from infra.database import BATCHES, JOBS, SAMPLES
from infra.version_report import pictures_of
from longtail.errors import Conflict, InvalidRequest
from longtail.gated import with_default
from longtail.jobs import TENANT
from longtail.samples import Provenance
from longtail.seeds import derive_id
from services.api.schemas import Batch, Decide, Generate, Preview, Publish
from services.api.service import Cursor, IdempotencyKey, Limit, Served, Service, accepted, check_made, job_id, page_of

router = APIRouter(prefix="/v1", tags=["samples"])


def checked(body: Generate, served: Service) -> int:
    """The number of the version to draw from, once the request can be answered from it."""
    version = served.catalogue.database.version(body.dataset, body.version)
    check_made(served, version, dataset=body.dataset, class_name=body.class_name, mode=body.mode, novelty=body.novelty)
    return int(version["number"])


@router.post("/previews")
def preview(body: Preview, served: Served) -> dict[str, Any]:
    """A handful of samples at once, stored nowhere."""
    version = checked(body, served)
    request = body.model_dump(mode="json")
    model: dict[str, Any] = {"name": None, "version": None, "uri": None}
    if body.mode != "copy_paste":
        row = served.catalogue.database.serving(body.dataset)
        model = {"name": body.dataset, "version": row["version"], "uri": row["uri"]}
        request = with_default(request, row["gates"])
    payload = {"dataset": body.dataset, "version": version, "request": request, "key": derive_id("preview", uuid.uuid4()), "model": model}
    return {"generator": model["version"], "items": served.cluster.ask_server("preview", payload)}


@router.post("/batches", status_code=202)
def batch(body: Batch, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Starts a batch: generated, filtered, then `ready` for a look, publication or discarding."""
    version = checked(body, served)
    job = job_id("batch", key, "batches", body.model_dump(mode="json"), served) or derive_id("job", TENANT, "batch", uuid.uuid4())
    name = derive_id("batch", TENANT, job)
    request = {**body.model_dump(mode="json"), "version": version, "batch": name}
    served.catalogue.database.insert(BATCHES, {"id": name, "dataset": body.dataset, "state": "queued", "request": request, "job": job})
    return accepted(served.asking.ask("batch", request, job=job), batch=name)


@router.get("/batches")
def batches(served: Served, dataset: str | None = None, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """A page of batches, newest first."""
    return page_of(served, BATCHES, cursor=cursor, limit=limit, newest=True, dataset=dataset)


@router.get("/batches/{name}")
def one_batch(name: str, served: Served) -> dict[str, Any]:
    return served.catalogue.database.get(BATCHES, name)


@router.get("/batches/{name}/samples")
def batch_samples(name: str, served: Served, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """A page of a batch's samples with their verdicts."""
    served.catalogue.database.get(BATCHES, name)
    return page_of(served, SAMPLES, cursor=cursor, limit=limit, batch=name)


@router.post("/batches/{name}/publish", status_code=202)
def publish(name: str, body: Publish, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Adds the accepted samples as a new version. Asked for twice it is the same version."""
    database = served.catalogue.database
    dataset = database.get(BATCHES, name)["dataset"]
    names = list(dict.fromkeys([name, *body.also]))
    for each in names:
        found = database.get(BATCHES, each)
        if found["dataset"] != dataset:
            raise InvalidRequest(f"batch {each!r} belongs to {found['dataset']!r}, not to {dataset!r}; a version is of one dataset")
        if found["state"] not in ("ready", "publishing", "published"):
            raise Conflict(f"batch {each!r} is {found['state']!r}; only a ready batch can be published")
    if body.onto is not None:
        served.catalogue.database.version(dataset, body.onto)
    job_id("publish", key, f"publish/{name}", body.model_dump(), served)
    request = {"dataset": dataset, "batches": names, "accept_unproven": body.accept_unproven, "onto": body.onto}
    job = served.asking.attempt(derive_id("job", TENANT, "publish", *names, *([body.onto] if body.onto is not None else [])))
    found = served.asking.ask("publish", request, job=job)
    if body.accept_unproven and not found["request"]["accept_unproven"]:
        raise Conflict(f"these batches were published by job {found['id']} without accept_unproven; move `latest` with POST /v1/datasets/{dataset}/latest")
    return accepted(found, batches=names)


@router.post("/batches/{name}/discard")
def discard(name: str, served: Served) -> dict[str, Any]:
    """Sets a batch aside; its samples enter no dataset."""
    served.catalogue.database.move(BATCHES, name, column="state", allowed=["ready", "failed", "cancelled"], to="discarded")
    return served.catalogue.database.get(BATCHES, name)


@router.post("/samples/{sample}/decision")
def decide(sample: str, body: Decide, served: Served) -> dict[str, Any]:
    """A person's word on one sample, while its batch is ready."""
    database = served.catalogue.database
    if not database.decide(sample, "accepted" if body.accept else "rejected"):
        state = database.get(BATCHES, database.get(SAMPLES, sample)["batch"])["state"]
        raise Conflict(f"sample {sample!r}: its batch is {state!r}; samples are decided on while it is 'ready'")
    return database.get(SAMPLES, sample)


@router.get("/samples/{sample}")
def one_sample(sample: str, served: Served, request: Request) -> dict[str, Any]:
    """A synthetic sample: its record, its scores, and how to make it again."""
    row = served.catalogue.database.get(SAMPLES, sample)
    return {**row, "make_again": f"curl -X POST -H 'Authorization: Bearer $KEY' {request.base_url}v1/samples/{sample}/regenerate"}


@router.get("/samples/{sample}/image")
def image(sample: str, served: Served) -> Response:
    row = served.catalogue.database.get(SAMPLES, sample)
    suffix = row["uri"].rsplit(".", 1)[-1]
    return Response(served.catalogue.objects.read(row["uri"], etag=row["etag"]), media_type=f"image/{'jpeg' if suffix == 'jpg' else suffix}")


@router.post("/samples/{sample}/regenerate")
def regenerate(sample: str, served: Served) -> dict[str, Any]:
    """Makes the sample again from its record and compares every decoded pixel with what is stored."""
    row = served.catalogue.database.get(SAMPLES, sample)
    found = served.catalogue.database.get(BATCHES, row["batch"])
    record = {**row["provenance"], "scores": {}}
    if row["state"] == "withdrawn":
        raise Conflict(f"sample {sample!r} was made from images that were withdrawn, or by a generator that learned from them")
    Provenance.from_json(record).check_rendering()
    version = served.catalogue.database.version(found["dataset"], found["request"]["version"], or_latest=True)["number"]
    payload = {"dataset": found["dataset"], "version": version, "sample": sample, "record": record, "uri": row["uri"]}
    return {"sample": sample, **served.cluster.run("trainers.tasks:regenerate", payload)}


@router.get("/batches/{name}/pictures")
def pictures(name: str, served: Served, limit: Annotated[int, Query(ge=1, le=64)] = 12) -> dict[str, Any]:
    """Crops for a report: before, after, and the nearest real neighbour of each sample."""
    return {"items": pictures_of(served.catalogue, served.cluster, name, limit)}


@router.get("/jobs/{job}/result")
def result(job: str, served: Served) -> dict[str, Any]:
    row = served.catalogue.database.get(JOBS, job)
    return {"job": job, "state": row["state"], "result": row["result"]}
