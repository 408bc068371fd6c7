"""Looking at a source again: what was added, changed or taken away becomes a new version; the rest stays as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from infra.database import DATASETS, Row
from infra.durable import step
from infra.formats.listing import DEALT, SourceDataset
from infra.formats.source import finish, read_source
from longtail.errors import BrokenDataset, Conflict, LongtailError
from longtail.jobs import TENANT
from longtail.samples import SOURCE_BATCH, Sample, is_source
from longtail.seeds import derive_id
from workflows.inspect import ask_for_inspection
from workflows.parts import keep, kept, parts_uri, refuse
from workflows.register import check_part, staged_rows
from workflows.stack import Stack
from workflows.versions import publish_version

Key = tuple[str, str, str]
NUMBERED_BY_SOURCE = ("coco",)
"""Formats whose category ids are the source's own; in the others a class is its name."""


def rescan(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"added", "changed", "removed", "unchanged", "derived_removed", ...}; a new version where anything differs.

    What was made from an image that changed or vanished goes with it. Versions that there are stay as they are.
    """
    name = request["name"]
    try:
        read = step("read annotations", lambda: read_again(stack, job, request))
        problems: list[str] = read["problems"]
        found = step("compare", lambda: compare(stack, job, request, read))
        for part in range(found["parts"]):
            problems += step(f"check images {part}", check_part, stack, job, request, {**read, "images": found["fresh"]}, part)
        outcome = {k: found[k] for k in ("added", "changed", "removed", "unchanged", "withdrawn")}
        if not found["fresh"] and not found["gone"]:
            result = {"dataset": name, "version": found["parent"], "latest": True, **outcome, "derived_removed": 0, "skipped": problems}
        else:
            published = publish(stack, job, request, read, found, problems)
            inspection = ask_for_inspection(stack, job, name, published["version"])
            result = {**published, **outcome, "skipped": problems, "inspection": inspection}
    finally:
        step("clean up", lambda: stack.catalogue.objects.remove_below(parts_uri(stack, job, name)))
    return result


def publish(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], found: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    catalogue, name = stack.catalogue, request["name"]
    batch = f"{SOURCE_BATCH}-{job}"
    staged = step("stage", lambda: stage(stack, job, request, found, problems, batch))
    gone = frozenset(found["gone"])
    step("classes", lambda: catalogue.database.update(DATASETS, name, classes=read["classes"], meta=read["meta"]))
    before = catalogue.database.version(name, found["parent"], to_see=True)
    made = f"; what was made is not proven with it (version {before['number']}: {before['proof']})" if before["health"]["synthetic_images"] else ""
    published = publish_version(
        stack, name, job=job, batches=[batch] if staged["rows"] else [], lance_version=staged["lance_version"], note=f"source looked at again{made}",
        make_latest=True, removed=lambda parent: gone | derived_from(stack, name, same_source(stack, name, parent, found["parent"]), gone),
    )  # fmt: skip
    derived = step("derived", lambda: len(derived_from(stack, name, catalogue.database.version(name, published["parent"], to_see=True), gone)))
    return {"dataset": name, **published, "derived_removed": derived}


def read_again(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """The source as it is now, in parts, its classes numbered as the dataset numbers them."""
    catalogue, row = stack.catalogue, stack.catalogue.database.get(DATASETS, request["name"])
    stack.progress(job)(0.0, "listing the prefix and reading its annotations")
    source, _ = read_source(catalogue.objects, row["uri"], format=row["format"])
    source, classes, problems = renumbered(source, catalogue.classes(request["name"]).names, by_source=row["format"] in NUMBERED_BY_SOURCE)
    refuse({**request, "uri": row["uri"]}, problems)
    source = as_dealt(stack, row, source)
    parts = keep(stack, job, request["name"], "listed", source.samples)
    numbers = {k: max(row["meta"].get(k, 1), source.meta[k]) for k in ("next_image_id", "next_annotation_id") if k in source.meta}
    meta = {**row["meta"], **source.meta, **numbers}
    return {"format": row["format"], "uri": row["uri"], "parts": parts, "problems": problems, "classes": {str(k): v for k, v in classes.items()}, "meta": meta}


def as_dealt(stack: Stack, row: Row, source: SourceDataset) -> SourceDataset:
    """Where the splits were dealt on request, every known image keeps its own, and what is new trains."""
    if DEALT not in row["meta"]:
        return source
    own = {s.split for s in source.samples} - {"train"}
    if own:
        raise Conflict(f"dataset {row['id']!r} was split on request, and its source has splits of its own now ({', '.join(sorted(own))}); register it anew")
    split_of = {s.path: s.split for s in stack.catalogue.sources(row["id"], stack.catalogue.database.version(row["id"]))}
    return replace(source, samples=tuple(replace(s, split=split_of.get(s.path, "train")) for s in source.samples))


def renumbered(source: SourceDataset, known: Mapping[int, str], *, by_source: bool) -> tuple[SourceDataset, dict[int, str], list[str]]:
    """(source, classes, problems): every class of the dataset keeps its number, new ones come after."""
    problems, classes = list(source.problems), dict(known)
    if by_source:
        for number, name in source.classes.items():
            if classes.setdefault(number, name) != name:
                problems.append(f"category {number} is {name!r} now and was {classes[number]!r}; register it as a dataset of its own")
        return source, classes, problems
    numbers = {name: number for number, name in known.items()}
    for name in source.classes.values():
        numbers.setdefault(name, max(numbers.values(), default=-1) + 1)
    of = {number: numbers[name] for number, name in source.classes.items()}
    samples = []
    for s in source.samples:
        extra = {**s.extra, "category_id": of[s.extra["category_id"]]} if "category_id" in s.extra else s.extra
        samples.append(replace(s, extra=extra, annotations=tuple(replace(a, category_id=of[a.category_id]) for a in s.annotations)))
    return replace(source, samples=tuple(samples)), {number: name for name, number in numbers.items()}, problems


@dataclass(frozen=True, slots=True)
class Known:
    """What has to be remembered of a sample to see whether it is still the same."""

    id: str
    etag: str
    size: tuple[int, int, int]
    content: bytes
    synthetic: bool


def known_of(sample: Sample) -> Known:
    size = sample.width, sample.height, sample.size_bytes
    return Known(sample.id, sample.etag, size, content_of(sample), sample.origin == "synthetic")


def key_of(sample: Sample) -> Key:
    return sample.path, sample.split, json.dumps(sample.extra.get("source_id"))


def content_of(sample: Sample) -> bytes:
    """A short hash of labels and source fields."""
    body = [[asdict(a) for a in sample.annotations], dict(sample.extra)]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:16]


def compare(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """Keeps in parts what has to be looked at, and says how much of each kind there is and which rows are gone."""
    catalogue, name = stack.catalogue, request["name"]
    parent = catalogue.database.version(name)
    known = {key_of(s): known_of(s) for s in catalogue.sources(name, parent)}
    withdrawn = catalogue.withdrawn_paths(name)
    counts = dict.fromkeys(("added", "changed", "unchanged", "withdrawn"), 0)
    gone: list[str] = []

    def fresh() -> Iterator[Sample]:
        for sample in kept(stack, job, name, "listed", read["parts"]):
            kind, old = judge(sample, known, withdrawn, read["format"], catalogue.objects.read)
            counts[kind] += 1
            if kind in ("changed", "withdrawn") and old is not None:
                gone.append(old.id)
            if kind in ("added", "changed"):
                yield sample

    parts = keep(stack, job, name, "read", fresh())
    vanished = [k.id for k in known.values()]
    return {
        "parent": parent["number"], "parts": parts, "fresh": counts["added"] + counts["changed"], "removed": len(vanished),
        "gone": sorted(gone + vanished), **counts,
    }  # fmt: skip


def judge(
    sample: Sample, known: dict[Key, Known], withdrawn: frozenset[str], format: str, load: Callable[[str], bytes]
) -> tuple[str, Known | None]:
    """("added", "changed", "unchanged" or "withdrawn", what it was); takes it from `known`."""
    old = known.pop(key_of(sample), None)
    if sample.path in withdrawn:
        return "withdrawn", old
    if old is None:
        return "added", None
    newly_marked = sample.origin == "synthetic" and not old.synthetic
    if newly_marked or (sample.etag, sample.size_bytes) != (old.etag, old.size[2]):
        return "changed", old
    try:
        same = content_of(finish(format, sample, old.size[:2], load)) == old.content
    except LongtailError:  # what is wrong with it now is said when it is checked
        same = False
    return ("unchanged", old) if same else ("changed", old)


def stage(stack: Stack, job: str, request: dict[str, Any], found: dict[str, Any], problems: list[str], batch: str) -> dict[str, Any]:
    """Writes the rows that are new, under ids of their own: a row that there is never changes."""
    catalogue, name = stack.catalogue, request["name"]
    table = catalogue.tables.uri(TENANT, name)
    refuse({**request, "uri": name}, problems)
    fresh = 0

    def rows() -> Iterator[Sample]:
        nonlocal fresh
        for sample in staged_rows(stack, job, name, found["parts"]):
            fresh += 1
            yield replace(sample, id=derive_id("real", sample.id, sample.etag, job), batch=batch)

    version = catalogue.tables.merge(table, rows(), tenant=TENANT)
    if not fresh and not found["unchanged"]:
        raise BrokenDataset(f"{name}: no usable image is left at its source", problems)
    return {"lance_version": version, "rows": fresh}


def same_source(stack: Stack, name: str, parent: Row | None, compared: int) -> Row | None:
    """The parent. Raises Conflict where another look at the source came first: both would bring the same images."""
    seen = stack.catalogue.database.version(name, compared, to_see=True)["batches"]
    if parent is not None and [b for b in parent["batches"] if is_source(b)] != [b for b in seen if is_source(b)]:
        raise Conflict(f"dataset {name!r}: another look at the source was published meanwhile; ask again")
    return parent


def derived_from(stack: Stack, name: str, version: Row | None, gone: frozenset[str]) -> frozenset[str]:
    """Ids of a version's synthetic samples that have one of those images as background or exemplar."""
    found = stack.catalogue.samples(name, version, origin="synthetic") if version is not None else ()
    return frozenset(s.id for s in found if s.provenance is not None and gone & s.provenance.sources)
