"""Registration: read what lies at the source, check all of it, publish version 1, give it the foundation as generator 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from infra.database import DATASETS, VERSIONS, Row
from infra.durable import step
from infra.formats.listing import DEALT
from infra.formats.source import check_images, read_source
from infra.looks import looks_uri
from longtail.datasets import ClassMap, Tally
from longtail.errors import BrokenDataset, Conflict, InvalidRequest
from longtail.jobs import TENANT
from longtail.samples import SOURCE_BATCH, Sample
from longtail.seeds import derive_id
from workflows.generators import register_foundation
from workflows.inspect import ask_for_inspection
from workflows.parts import PART, keep, keep_part, kept, kept_part, parts_uri, refuse
from workflows.splits import deal_splits
from workflows.stack import Stack
from workflows.versions import publish_version


def register(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """All or nothing, unless `on_problem` is "skip": then what was skipped is listed in the result.

    Version 1 can be seen as `checking` once the annotations are read; it can be used when every image has been looked at.
    """
    name = request["name"]
    try:
        read = step("read annotations", lambda: read_annotations(stack, job, request))
        problems: list[str] = read["problems"]
        for part in range(read["parts"]):
            problems += step(f"check images {part}", check_part, stack, job, request, read, part)
        if request.get("splits"):
            problems += deal_splits(stack, job, request, read, problems)
        staged = step("stage", lambda: stage(stack, job, request, read, problems))
        published = publish_version(
            stack, name, job=job, first=True, batches=[SOURCE_BATCH], lance_version=staged["lance_version"], note="as registered", make_latest=True
        )
        generator = register_foundation(stack, job, name)
    except Exception:
        step("undo", lambda: undo(stack, job, name))
        raise
    step("clean up", lambda: stack.catalogue.objects.remove_below(parts_uri(stack, job, name)))
    inspection = ask_for_inspection(stack, job, name, published["version"])
    return {"dataset": name, **published, "images": staged["images"], "skipped": problems, "generator": generator, "inspection": inspection}


def read_annotations(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Reads the listing and the annotations, and keeps what they say in parts; the version can be seen from here on."""
    catalogue, name = stack.catalogue, request["name"]
    stack.progress(job)(0.0, "listing the prefix and reading its annotations")
    source, found = read_source(catalogue.objects, request["uri"], format=request["format"])
    refuse(request, list(source.problems))
    own = Counter(s.split for s in source.samples)
    if request.get("splits") and set(own) != {"train"}:
        held = ", ".join(f"{split} {n}" for split, n in sorted(own.items()))
        raise InvalidRequest(f"{request['uri']}: splits were asked for, and the source has its own ({held}); register it without `splits`")
    parts = keep(stack, job, name, "read", source.samples)
    dealt = {DEALT: request["splits"]} if request.get("splits") else {}
    row: Row = {
        "id": name, "uri": request["uri"], "format": found, "task": source.task, "classes": {str(k): v for k, v in source.classes.items()},
        "meta": {**source.meta, **dealt, "job": job}, "table_uri": catalogue.tables.uri(TENANT, name), "latest": None, "serving": None,
    }  # fmt: skip
    if not catalogue.database.insert(DATASETS, row) and catalogue.database.get(DATASETS, name)["meta"].get("job") != job:
        raise Conflict(f"dataset {name!r} was registered by another job meanwhile")
    for table in (row["table_uri"], looks_uri(row["table_uri"])):
        catalogue.objects.remove_below(table)  # rows that an earlier attempt may have left
    catalogue.begin(name, job=job, tally=Tally.of(source.samples))
    return {
        "format": found, "parts": parts, "images": len(source.samples), "problems": list(source.problems), "classes": row["classes"],
    }  # fmt: skip


def check_part(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], part: int) -> list[str]:
    """Looks at every image of a part and keeps its finished samples; returns the problems found."""
    objects, name = stack.catalogue.objects, request["name"]
    progress = stack.progress(job, high=0.8)
    done = part * PART

    def report(count: int) -> None:
        progress((done + count) / read["images"], f"checked {done + count} of {read['images']} images")

    samples = kept_part(stack, job, name, "read", part)
    classes, limit = ClassMap({int(k): v for k, v in read["classes"].items()}), stack.catalogue.settings.max_image_pixels
    good, problems = check_images(read["format"], samples, objects, classes=classes, max_pixels=limit, report=report)
    keep_part(stack, job, name, "checked", part, good)
    return problems


def stage(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Writes the rows of all parts, once every image is known to be good or may be skipped."""
    catalogue, name = stack.catalogue, request["name"]
    refuse(request, problems)
    counted = 0

    def rows() -> Iterator[Sample]:
        nonlocal counted
        for sample in staged_rows(stack, job, name, read["parts"]):
            counted += 1
            yield sample

    table = catalogue.tables.uri(TENANT, name)
    catalogue.tables.merge(table, rows(), tenant=TENANT)
    if not counted:
        raise BrokenDataset(f"{request['uri']}: no usable image is left", problems)
    return {"lance_version": catalogue.tables.index(table), "images": counted}


def staged_rows(stack: Stack, job: str, name: str, parts: int) -> Iterator[Sample]:
    """The finished samples of all checked parts. Raises BrokenDataset where two files are one synthetic sample."""
    made: dict[str, str] = {}
    for sample in kept(stack, job, name, "checked", parts):
        if sample.origin == "synthetic" and made.setdefault(sample.id, sample.path) != sample.path:
            raise BrokenDataset(f"{made[sample.id]} and {sample.path} are the same synthetic sample ({sample.id}); take one of them out")
        yield sample


def undo(stack: Stack, job: str, name: str) -> None:
    """Nothing is half-registered: what this job had entered is taken away again."""
    database = stack.catalogue.database
    row = database.find(DATASETS, name)
    if row is not None and row["meta"].get("job") == job:
        database.delete(VERSIONS, id=derive_id("version", TENANT, name, job))
        database.delete(DATASETS, id=name)
        stack.catalogue.objects.remove_below(row["table_uri"])
        stack.catalogue.objects.remove_below(looks_uri(row["table_uri"]))
    stack.catalogue.objects.remove_below(parts_uri(stack, job, name))
