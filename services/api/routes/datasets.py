"""Datasets, their versions, samples and exports."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from infra.changes import diff, hanging_on, lineage
from infra.collecting import drop_version
from infra.database import DATASETS, EVALUATIONS, INSPECTIONS, MOVES, PROMOTIONS, VERSIONS, WITHDRAWALS, Row, now
from infra.formats.export import Format, check_fits, tar_of
from infra.odd_boxes import odd_pictures
from infra.version_page import version_page
from infra.version_report import generator_pages, version_pictures, version_report
from longtail.errors import Conflict, NotFound
from longtail.names import check_name, split_uri
from longtail.samples import Sample, is_source
from longtail.seeds import derive_id
from longtail.uplift import check_latest
from services.api.health_page import health_page
from services.api.schemas import Collect, Export, MoveLatest, RegisterDataset, Rescan, Withdraw
from services.api.service import Cursor, IdempotencyKey, Limit, Served, accepted, html_page, job_id, page_of

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


@router.post("/{name}/rescans", status_code=202)
def rescan(name: str, body: Rescan, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Looks at the source again: what was added, changed or taken away there becomes a new version."""
    served.catalogue.database.version(name)
    request = {"name": name, **body.model_dump()}
    job = job_id("rescan", key, f"rescans/{name}", request, served)
    return accepted(served.asking.ask("rescan", request, job=job), dataset=name)


@router.get("")
def datasets(served: Served, cursor: Cursor = None, limit: Limit = 1000) -> dict[str, Any]:
    found = page_of(served, DATASETS, cursor=cursor, limit=limit)
    return {**found, "items": [shown(served, d) for d in found["items"]]}


@router.get("/{name}")
def dataset(name: str, served: Served) -> dict[str, Any]:
    return shown(served, served.catalogue.database.get(DATASETS, name))


def shown(served: Served, row: Row) -> dict[str, Any]:
    said = {k: row[k] for k in ("id", "tenant", "uri", "format", "task", "classes", "latest", "serving", "created")}
    return {**said, **latest_of(served, row)}


def latest_of(served: Served, row: Row) -> dict[str, Any]:
    """{"latest", "latest_proof", "latest_accepted_unproven"}; None while the dataset is being registered."""
    found = served.catalogue.database.find_version(row["id"], row["latest"]) if row["latest"] is not None else None
    version = found or {"proof": None, "accepted_unproven": None}
    return {"latest": row["latest"], "latest_proof": version["proof"], "latest_accepted_unproven": version["accepted_unproven"]}


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
    found = served.catalogue.database.version(name, number, to_see=True)
    return {**shown_version(found), "health": found["health"], **inspected(served, found)}


def inspected(served: Served, version: Row) -> dict[str, Any]:
    """{"copies", "odd_boxes"}: what the newest inspection of a version found to be there more than once, and boxes of odd sizes; None before one has ended.

    A version that has the real images of its parent is known by what its parent's inspection found; `version` says whose it is.
    """
    database, row = served.catalogue.database, version
    while True:
        found = database.select(INSPECTIONS, dataset=row["dataset"], version=row["number"], newest=True, limit=1)
        if found:
            result = {"at": found[0]["created"], "version": row["number"], **found[0]["result"]}
            return {"odd_boxes": result.pop("odd", None), "copies": result}
        parent = database.find_version(row["dataset"], row["parent"]) if row["parent"] else None
        if parent is None or sources_of(parent) != sources_of(row):
            return {"copies": None, "odd_boxes": None}
        row = parent


def sources_of(version: Row) -> tuple[list[str], str | None]:
    """What two versions share that have the same real images: the batches from the source, and what is removed of all batches."""
    return [b for b in version["batches"] if is_source(b)], version["removed"]


def shown_version(row: Row) -> dict[str, Any]:
    return {k: row[k] for k in ("dataset", "tenant", "number", "parent", "batches", "state", "proof", "accepted_unproven", "withdrawn", "note", "created")}


@router.get("/{name}/health")
def health(name: str, served: Served, version: int | None = None) -> dict[str, Any]:
    found = served.catalogue.database.version(name, version)
    said = {"proof": found["proof"], "accepted_unproven": bool(found["accepted_unproven"])}
    return {"dataset": name, "version": found["number"], **said, **(found["health"] or {}), **inspected(served, found)}


@router.get("/{name}/versions/{number}/health.html", response_class=HTMLResponse)
def page(name: str, number: int, served: Served) -> HTMLResponse:
    """The health of a version as a page with plots; it fetches nothing."""
    found = served.catalogue.database.version(name, number, to_see=True)
    seen = inspected(served, found)
    return html_page(health_page(name, found, seen, odd_pictures(served.catalogue, name, found, seen["odd_boxes"])))


@router.get("/{name}/versions/{number}/report")
def report(name: str, number: int, served: Served) -> dict[str, Any]:
    """What a version holds that was made, what it was measured to do, and what did not go well."""
    return version_report(served.catalogue, name, number)


@router.get("/{name}/versions/{number}/report.html", response_class=HTMLResponse)
def report_page(name: str, number: int, served: Served, limit: Annotated[int, Query(ge=1, le=64)] = 12) -> HTMLResponse:
    """The same as one self-contained page, with `limit` samples of each batch beside their nearest real objects, and what its generators are judged by."""
    found = version_report(served.catalogue, name, number)
    pictures = version_pictures(served.catalogue, served.cluster, found, limit)
    return html_page(version_page(found, pictures, generator_pages(served.catalogue, found)))


@router.post("/{name}/versions/{number}/inspections", status_code=202)
def inspect(name: str, number: int, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Looks at every real image of the version: exact and near duplicates, and those that lie in two splits."""
    served.catalogue.database.version(name, number)
    job = job_id("inspect", key, f"inspections/{name}/{number}", {}, served)
    return accepted(served.asking.ask("inspect", {"dataset": name, "version": number}, job=job), dataset=name)


@router.delete("/{name}/versions/{number}")
def drop(name: str, number: int, served: Served) -> dict[str, Any]:
    """Takes a version away that nothing needs; 409 names who does. Its files are freed by the next collection."""
    drop_version(served.catalogue, name, number)
    return {"dataset": name, "dropped": number}


@router.get("/{name}/versions/{number}/lineage")
def version_lineage(name: str, number: int, served: Served) -> dict[str, Any]:
    """The version and its ancestors: what each brought, by which generators it was made."""
    return {"dataset": name, "items": lineage(served.catalogue, name, number)}


@router.get("/{name}/diff")
def compare(name: str, base: int, candidate: int, served: Served, limit: Annotated[int, Query(ge=0, le=1000)] = 100) -> dict[str, Any]:
    """What `candidate` adds to `base`, lacks of it and has otherwise, and the counts per class of both."""
    database = served.catalogue.database
    versions = [database.version(name, n, to_see=True) for n in (base, candidate)]
    return diff(served.catalogue, name, *versions, limit=limit)


@router.get("/{name}/hanging")
def hanging(
    name: str, served: Served, path: Annotated[list[str] | None, Query()] = None, sample: Annotated[list[str] | None, Query()] = None
) -> dict[str, Any]:
    """What hangs on source images, by path or sample id: what was made from them, what learned from them, versions that hold either."""
    served.catalogue.database.get(DATASETS, name)
    return hanging_on(served.catalogue, name, paths=path or [], samples=sample or []).to_json()


@router.post("/{name}/withdrawals", status_code=202)
def withdraw(name: str, body: Withdraw, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Takes source images out, with every sample and generator that hangs on them, and publishes without. A dry run lists them."""
    served.catalogue.database.get(DATASETS, name)
    found = hanging_on(served.catalogue, name, paths=body.paths, samples=body.samples).to_json()
    if body.dry_run:
        return JSONResponse({"dataset": name, "dry_run": True, **found})
    request = {"name": name, **body.model_dump()}
    job = job_id("withdraw", key, f"withdrawals/{name}", request, served)
    return accepted(served.asking.ask("withdraw", request, job=job), dataset=name)


@router.get("/{name}/withdrawals")
def withdrawals(name: str, served: Served, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """What was withdrawn, when, why, and what went with it; oldest first."""
    return page_of(served, WITHDRAWALS, cursor=cursor, limit=limit, dataset=name)


@router.delete("/{name}/withdrawals/{withdrawal}")
def lift(name: str, withdrawal: str, served: Served) -> dict[str, Any]:
    """Lets the images come back: the next look at the source adds them again, as new. What went with them stays away."""
    database = served.catalogue.database
    if database.get(WITHDRAWALS, withdrawal)["dataset"] != name:
        raise NotFound(f"dataset {name!r} has no withdrawal {withdrawal!r}")
    database.update(WITHDRAWALS, withdrawal, lifted=now())
    return database.get(WITHDRAWALS, withdrawal)


@router.post("/{name}/collections", status_code=202)
def collect(name: str, body: Collect, served: Served, key: IdempotencyKey = None) -> JSONResponse:
    """Frees what nothing needs any more; by default it only lists it."""
    served.catalogue.database.get(DATASETS, name)
    request = {"name": name, **body.model_dump()}
    job = job_id("collect", key, f"collections/{name}", request, served)
    return accepted(served.asking.ask("collect", request, job=job), dataset=name)


@router.post("/{name}/latest")
def move_latest(name: str, body: MoveLatest, served: Served) -> dict[str, Any]:
    """Moves `latest`: back to any version, or to an unproven one if that is accepted. Rewrites nothing."""
    database = served.catalogue.database
    target, before = database.version(name, body.version), database.get(DATASETS, name)["latest"]
    was_latest = bool(database.select(MOVES, dataset=name, version=body.version, limit=1))
    check_latest(target, was_latest=was_latest, accepted=body.accept_unproven)
    if body.accept_unproven and target["proof"] != "positive" and target["health"]["synthetic_images"]:
        database.update(VERSIONS, target["id"], accepted_unproven=True)
        target = database.version(name, body.version)
        served.asking.ask("renew", {"dataset": name, "version": body.version})  # MLflow's page of it says so too
    database.move_latest(target, key=derive_id("move", uuid4().hex), who="api", why=body.why)
    return {"dataset": name, "before": before, "latest": body.version, "proof": target["proof"], "accepted_unproven": bool(target["accepted_unproven"])}


@router.get("/{name}/latest")
def latest_moves(name: str, served: Served, cursor: Cursor = None, limit: Limit = 100) -> dict[str, Any]:
    """What `latest` is, what is proven of it, and who moved it, when, from what to what and why; newest first."""
    found = page_of(served, MOVES, cursor=cursor, limit=limit, newest=True, dataset=name)
    return {**latest_of(served, served.catalogue.database.get(DATASETS, name)), **found}


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
    said = served.catalogue.database.count(EVALUATIONS, dataset=name), served.catalogue.database.count(MOVES, dataset=name)  # by which a proof may have changed
    job = job or served.asking.attempt(derive_id("job", place, number, body.format, *said))
    return accepted(served.asking.ask("export", request, job=job), destination=place)


@router.get("/{name}/versions/{number}/archive")
def stream(name: str, number: int, served: Served, format: Format = "coco") -> StreamingResponse:
    """The version as a tar, streamed: one image in memory at a time. What is proven of it is in a header, and in a file of the formats that take one."""
    catalogue = served.catalogue
    row, version = catalogue.database.get(DATASETS, name), catalogue.database.version(name, number)
    check_fits(format, row["task"])
    found, classes = catalogue.samples(name, version), catalogue.classes(name).names
    chunks = tar_of(format, found, classes, row["meta"], task=row["task"], load=lambda s: catalogue.objects.read(s.uri, etag=s.etag), version=version)
    proof = {"Longtail-Proof": version["proof"], "Longtail-Accepted-Unproven": str(bool(version["accepted_unproven"])).lower()}
    headers = {"Content-Disposition": f'attachment; filename="{name}-v{number}-{format}.tar"', **proof}
    return StreamingResponse(chunks, media_type="application/x-tar", headers=headers)
