"""Registration: read what lies at the source, check all of it, publish version 1, give it the foundation as generator 1."""

from __future__ import annotations

from typing import Any

from infra.database import DATASETS
from infra.durable import step
from infra.formats.source import check_images, read_source
from longtail.errors import BrokenDataset, Conflict
from longtail.jobs import TENANT
from longtail.samples import SOURCE_BATCH
from workflows.generators import register_foundation
from workflows.stack import Stack
from workflows.versions import publish_version


def register(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """All or nothing, unless `on_problem` is "skip": then what was skipped is listed in the result."""
    name = request["name"]
    staged = step("read and stage", lambda: stage(stack, job, request))
    published = publish_version(
        stack, name, job=job, parent=None, batches=[SOURCE_BATCH], lance_version=staged["lance_version"], note="as registered",
        make_latest=True, accepted_unproven=False,
    )  # fmt: skip
    generator = register_foundation(stack, job, name)
    return {"dataset": name, **published, "images": staged["images"], "skipped": staged["skipped"], "generator": generator}


def stage(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Reads and checks everything; only then writes the dataset's row and its samples."""
    catalogue, name = stack.catalogue, request["name"]
    progress = stack.progress(job, high=0.8)
    progress(0.0, "listing the prefix")
    source, found = read_source(catalogue.objects, request["uri"], format=request["format"])
    samples, broken = check_images(source, catalogue.objects, max_pixels=catalogue.settings.max_image_pixels, report=progress)
    problems = [*source.problems, *broken]
    if problems and request.get("on_problem") != "skip":
        shown = "; ".join(problems[:3])
        raise BrokenDataset(f"{request['uri']}: {len(problems)} problem(s): {shown}", problems)
    if not samples:
        raise BrokenDataset(f"{request['uri']}: no usable image is left", problems)
    table = catalogue.tables.uri(TENANT, name)
    row = {
        "id": name, "uri": request["uri"], "format": found, "task": source.task, "classes": {str(k): v for k, v in source.classes.items()},
        "meta": {**source.meta, "job": job}, "table_uri": table, "latest": None, "serving": None,
    }  # fmt: skip
    if not catalogue.database.insert(DATASETS, row) and catalogue.database.get(DATASETS, name)["meta"].get("job") != job:
        raise Conflict(f"dataset {name!r} was registered by another job meanwhile")
    version = catalogue.tables.merge(table, samples, tenant=TENANT)
    return {"lance_version": version, "images": len(samples), "skipped": problems}
