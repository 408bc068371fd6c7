"""Datasets, their versions, samples and exports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse

from infra.database import DATASETS, PROMOTIONS, VERSIONS, Row
from infra.formats.export import Format, check_fits, tar_of
from longtail.errors import Conflict
from longtail.names import check_name, split_uri
from longtail.samples import Sample
from longtail.seeds import derive_id
from services.api.schemas import Export, MoveLatest, RegisterDataset
from services.api.service import Cursor, IdempotencyKey, Limit, Served, accepted, job_id, page_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post("", status_code=202)
def register(body: RegisterDataset, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Registers a dataset where it lies. The job lists every problem found; with any, nothing is registered."""
    check_name(body.name, what="dataset name")
    split_uri(body.uri)
    job = job_id("register", key, "datasets", body.model_dump(), served)
    known = served.catalogue.database.find(DATASETS, body.name)
    if known is not None and known["meta"].get("job") != job:
        raise Conflict(f"dataset {body.name!r} is registered already, from {known['uri']}; choose another name")
    return accepted(served.asking.ask("register", body.model_dump(), job=job), dataset=body.name)


@router.get("")
def datasets(served: Served, cursor: Cursor = None, limit: Limit = 1000) -> dict[str, Any]:
    found = page_of(served, DATASETS, cursor=cursor, limit=limit)
    return {**found, "items": [shown(d) for d in found["items"]]}


@router.get("/{name}")
def dataset(name: str, served: Served) -> dict[str, Any]:
    return shown(served.catalogue.database.get(DATASETS, name))


def shown(row: Row) -> dict[str, Any]:
    return {k: row[k] for k in ("id", "tenant", "uri", "format", "task", "classes", "latest", "serving", "created")}


@router.get("/{name}/versions")
def versions(name: str, served: Served, cursor: Cursor = None, limit: Limit = 1000) -> dict[str, Any]:
    served.catalogue.database.get(DATASETS, name)
    found = page_of(served, VERSIONS, cursor=cursor, limit=limit, dataset=name)
    return {**found, "items": [shown_version(v) for v in found["items"]]}


@router.get("/{name}/versions/{number}")
def version(name: str, number: int, served: Served) -> dict[str, Any]:
    """One version with its health: counts per class and split, and which classes are rare.

    While its state is `checking`, the counts are what the annotations claim, and it cannot be used yet.
    """
    found = served.catalogue.database.version(name, number, checking=True)
    return {**shown_version(found), "health": found["health"]}


def shown_version(row: Row) -> dict[str, Any]:
    return {k: row[k] for k in ("dataset", "tenant", "number", "parent", "batches", "state", "proof", "accepted_unproven", "note", "created")}


@router.get("/{name}/health")
def health(name: str, served: Served, version: int | None = None) -> dict[str, Any]:
    found = served.catalogue.database.version(name, version)
    return {"dataset": name, "version": found["number"], **(found["health"] or {})}


@router.post("/{name}/latest")
def move_latest(name: str, body: MoveLatest, served: Served) -> dict[str, Any]:
    """Moves `latest`: back to any version, or to an unproven one if that is accepted. Rewrites nothing."""
    database = served.catalogue.database
    target = database.version(name, body.version)
    before = database.get(DATASETS, name)["latest"]
    grows = set(target["batches"]) - set(database.version(name)["batches"])
    if grows and target["proof"] != "positive" and not body.accept_unproven:
        raise Conflict(f"version {body.version} has proof {target['proof']!r}; evaluate it, or say accept_unproven: true")
    if body.accept_unproven and target["proof"] != "positive":
        database.update(VERSIONS, target["id"], accepted_unproven=True)
    database.update(DATASETS, name, latest=body.version)
    return {"dataset": name, "before": before, "latest": body.version}


@router.get("/{name}/versions/{number}/samples")
def samples(
    name: str, number: int, served: Served, cursor: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    origin: Literal["real", "synthetic"] | None = None, split: Literal["train", "val", "test"] | None = None, class_name: str | None = None,
) -> dict[str, Any]:
    """A page of the version's samples in the order in which they were added; `next` is the cursor of the following page."""
    found = served.catalogue.database.version(name, number)
    page, following = served.catalogue.page(name, found, after=cursor, limit=limit, origin=origin, split=split, class_name=class_name)
    return {"items": [shown_sample(s) for s in page], "next": following}


def shown_sample(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id, "path": sample.path, "uri": sample.uri, "etag": sample.etag, "width": sample.width, "height": sample.height,
        "split": sample.split, "origin": sample.origin, "batch": sample.batch,
        "annotations": [{"category_id": a.category_id, "bbox_xywh": a.bbox_xywh, **dict(a.extra)} for a in sample.annotations],
        "provenance": sample.provenance.to_json() if sample.provenance else None,
    }  # fmt: skip


@router.get("/{name}/promotions")
def promotions(name: str, served: Served, cursor: Cursor = None, limit: Limit = 1000) -> dict[str, Any]:
    """Who moved the champion, when, from what to what, and why; oldest first."""
    return page_of(served, PROMOTIONS, cursor=cursor, limit=limit, model=name)


@router.post("/{name}/versions/{number}/exports", status_code=202)
def export(name: str, number: int, body: Export, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Writes the version as a prefix in the bucket."""
    served.catalogue.database.version(name, number)
    check_fits(body.format, served.catalogue.database.get(DATASETS, name)["task"])
    job = job_id("export", key, f"export/{name}/{number}", body.model_dump(), served)
    place = body.destination or served.settings.place(name, "exports", f"v{number}-{body.format}")
    split_uri(place)
    request = {"dataset": name, "version": number, "format": body.format, "destination": place}
    job = job or served.asking.attempt(derive_id("job", place, number, body.format))
    return accepted(served.asking.ask("export", request, job=job), destination=place)


@router.get("/{name}/versions/{number}/archive")
def stream(name: str, number: int, served: Served, format: Format = "coco") -> StreamingResponse:
    """The version as a tar, streamed: one image in memory at a time."""
    catalogue = served.catalogue
    row = catalogue.database.get(DATASETS, name)
    check_fits(format, row["task"])
    found, classes = catalogue.samples(name, catalogue.database.version(name, number)), catalogue.classes(name).names
    chunks = tar_of(format, found, classes, row["meta"], task=row["task"], load=lambda s: catalogue.objects.read(s.uri, etag=s.etag))
    headers = {"Content-Disposition": f'attachment; filename="{name}-v{number}-{format}.tar"'}
    return StreamingResponse(chunks, media_type="application/x-tar", headers=headers)
