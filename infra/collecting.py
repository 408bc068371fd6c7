"""What nothing needs any more: versions past their keeping, rows that no version lists, files that nothing names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.catalogue import Catalogue
from infra.database import BATCHES, DATASETS, EVALUATIONS, EXPANSIONS, GENERATORS, JOBS, SAMPLES, VERSIONS, Row
from infra.objects import ObjectInfo
from longtail.errors import Conflict
from longtail.jobs import BUSY_BATCHES, TENANT, UNFINISHED_STATES
from longtail.samples import is_source

SHOWN = 1000
COLLECTED = ("samples", "generators", "checkpoints", "registrations", "evaluations", "removed")
"""Folders of a dataset in our bucket that are looked through; exports belong to those who asked for them."""


def cutoff(catalogue: Catalogue, name: str, job: str, *, hours: float) -> datetime:
    """Nothing made after this is touched: the grace, or the begin of the oldest unfinished job of the dataset."""
    oldest = datetime.now(UTC) - timedelta(hours=hours)
    for row in unfinished(catalogue, name):
        if row["id"] != job:
            oldest = min(oldest, datetime.fromisoformat(row["created"]))
    return oldest


def unfinished(catalogue: Catalogue, name: str) -> Iterator[Row]:
    """Jobs that may yet need something of the dataset; an inspection, which nobody asked for, does not hold others up."""
    for state in UNFINISHED_STATES:
        for row in catalogue.database.every(JOBS, state=state):
            if row["kind"] != "inspect" and name in (row["request"].get("dataset"), row["request"].get("name"), expanded_by(catalogue, row, name)):
                yield row


def expanded_by(catalogue: Catalogue, job: Row, name: str) -> str | None:
    """The dataset that an expansion's job grows; `name`, to be safe, where the expansion is gone; None for other jobs."""
    if job["kind"] != "expand":
        return None
    expansion = catalogue.database.find(EXPANSIONS, job["request"]["expansion"])
    return str(expansion["dataset"]) if expansion else name


def needed_by(catalogue: Catalogue, name: str, number: int) -> list[str]:
    """Who needs a version of a dataset, in words; nobody if empty.

    An expansion that runs needs any: it may rest on the latest as it was, on what it made before, and on what it has just made.
    """
    database = catalogue.database
    who = ["it is the latest"] if database.get(DATASETS, name)["latest"] == number else []
    for row in unfinished(catalogue, name):
        if row["kind"] == "expand" or number in (row["request"].get(k) for k in ("version", "base", "candidate", "onto")):
            who.append(f"job {row['id']} ({row['kind']}) is {row['state']}")
    for row in database.every(BATCHES, dataset=name):
        if row["state"] in BUSY_BATCHES and row["request"].get("version") == number:
            who.append(f"batch {row['id']} is {row['state']}")
    for row in database.every(GENERATORS, dataset=name):
        if row["dataset_version"] == number and not row["withdrawn"]:
            who.append(f"generator {row['version']} learned from it")
    return who + [f"version {one} was measured beside its synthetic images" for one in measured_beside(catalogue, name, number)]


def measured_beside(catalogue: Catalogue, name: str, number: int) -> list[int]:
    """The versions that are there yet, whose proof rests on that of this one's synthetic images; none where it has none."""
    database, found = catalogue.database, set[int]()
    version = database.find_version(name, number)
    for row in database.every(EVALUATIONS, dataset=name) if version and version["health"]["synthetic_images"] else ():
        if row["request"]["base"] == number:
            found |= {row["request"]["candidate"], (row["result"].get("published") or {}).get("version")} - {None, number}
    return [one for one in sorted(found) if database.find_version(name, one)]


def expire(catalogue: Catalogue, name: str, *, keep_last: int | None, dry_run: bool) -> list[int]:
    """Versions that go: all but the last so many, and but those that something needs."""
    if keep_last is None:
        return []
    numbers = sorted(v["number"] for v in catalogue.database.every(VERSIONS, dataset=name))
    gone = [n for n in numbers[:-keep_last] if not needed_by(catalogue, name, n)]
    if not dry_run:
        for number in gone:
            drop_version(catalogue, name, number)
    return gone


def drop_version(catalogue: Catalogue, name: str, number: int) -> None:
    """Takes one version away. Raises Conflict, naming who needs it, and NotFound where there is none."""
    row = catalogue.database.version(name, number, to_see=True)
    who = needed_by(catalogue, name, number)
    if who:
        raise Conflict(f"version {number} of dataset {name!r} is needed: {'; '.join(who)}")
    for pin in (row["id"], f"v{number}"):  # an older Longtail pinned by number
        catalogue.tables.untag(catalogue.tables.uri(TENANT, name), pin)
    catalogue.database.update(DATASETS, name, numbered=catalogue.database.last_number(name))
    catalogue.database.delete(VERSIONS, id=row["id"])


def drop_rows(catalogue: Catalogue, name: str, *, without: list[int], dry_run: bool) -> int:
    """How many rows belong to no version, to no batch that may yet be published, to no running job."""
    database = catalogue.database
    versions = [v for v in database.every(VERSIONS, dataset=name) if v["number"] not in without]
    if publishing(catalogue, name):
        return 0  # rows that are staged and not yet published cannot be told from those that were given up
    listed = {b for v in versions for b in v["batches"]}
    live = {b["id"] for b in database.every(BATCHES, dataset=name) if b["state"] in BUSY_BATCHES}
    held = frozenset.intersection(*(catalogue.removed(v) for v in versions)) if versions else frozenset()
    return catalogue.tables.drop(catalogue.tables.uri(TENANT, name), batches=listed | live, ids=held, dry_run=dry_run)


def publishing(catalogue: Catalogue, name: str) -> bool:
    return any(row["kind"] in ("register", "rescan", "publish", "expand", "withdraw") for row in unfinished(catalogue, name))


def drop_pins(catalogue: Catalogue, name: str) -> int:
    """Gives up what publications pinned that never came to an end; how many."""
    if publishing(catalogue, name):
        return 0
    table, versions = catalogue.tables.uri(TENANT, name), list(catalogue.database.every(VERSIONS, dataset=name))
    stray = set(catalogue.tables.tags(table)) - {v["id"] for v in versions} - {f"v{v['number']}" for v in versions}
    for pin in stray:
        catalogue.tables.untag(table, pin)
    return len(stray)


def drop_files(catalogue: Catalogue, name: str, *, without: list[int], before: datetime, dry_run: bool) -> dict[str, Any]:
    """{"files", "bytes", "first"}: objects of ours that nothing names, older than `before`."""
    used = needed_files(catalogue, name, without=without)
    busy = {row["id"] for row in unfinished(catalogue, name)}
    found: list[ObjectInfo] = []
    for folder in COLLECTED:
        for item in catalogue.objects.below(catalogue.settings.place(name, folder)):
            running = any(item.path.startswith(job) for job in busy)
            if item.uri not in used and not running and (item.modified is None or item.modified < before):
                found.append(item)
    if not dry_run:
        for item in found:
            catalogue.objects.remove(item.uri)
    return {"files": len(found), "bytes": sum(i.size_bytes for i in found), "first": [i.uri for i in found[:SHOWN]]}


def needed_files(catalogue: Catalogue, name: str, *, without: list[int]) -> set[str]:
    """Uris that a version, a batch or a generator names."""
    database = catalogue.database
    used: set[str] = set()
    for version in database.every(VERSIONS, dataset=name):
        if version["number"] in without:
            continue
        used |= {version["removed"]} if version["removed"] else set()
        made = [b for b in version["batches"] if not is_source(b)]
        used |= {s.uri for s in catalogue.samples(name, version, batches=made)}
    for batch in database.every(BATCHES, dataset=name):
        for sample in database.every(SAMPLES, batch=batch["id"]) if batch["state"] in BUSY_BATCHES else ():
            used |= {sample["uri"]} if sample["state"] != "withdrawn" else set()
    used |= {g["uri"] for g in database.every(GENERATORS, dataset=name) if not g["withdrawn"]}
    return used
