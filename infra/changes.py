"""What differs between two versions, and what hangs on an image: for people who ask before they publish or withdraw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.catalogue import Catalogue
from infra.database import BATCHES, GENERATORS, SAMPLES, VERSIONS, Row
from longtail.datasets import Tally
from longtail.errors import NotFound
from longtail.samples import SPLITS, Provenance, Sample

SHOWN = ("id", "path", "split", "origin", "batch")


def diff(catalogue: Catalogue, dataset: str, base: Row, candidate: Row, *, limit: int) -> dict[str, Any]:
    """How many samples `candidate` adds, lacks and has otherwise than `base`, the first `limit` of each, and counts per class.

    What has the same path and split on both sides under another id is changed. Costs what the difference costs.
    """
    added = {key_of(s): brief(s) for s in only_in(catalogue, dataset, candidate, base)}
    removed = {key_of(s): brief(s) for s in only_in(catalogue, dataset, base, candidate)}
    changed = [{**added[k], "was": removed[k]["id"]} for k in added if k in removed]
    lists = {"added": [v for k, v in added.items() if k not in removed], "removed": [v for k, v in removed.items() if k not in added], "changed": changed}
    before, after = (Tally.from_json(v["tally"]) for v in (base, candidate))
    classes: list[dict[str, Any]] = []
    for number, name in sorted(catalogue.classes(dataset).names.items()):
        pairs: dict[str, list[int]] = {split: [before.instances[number, split], after.instances[number, split]] for split in SPLITS}
        classes.append({"name": name, "instances": pairs})
    return {
        "dataset": dataset, "base": base["number"], "candidate": candidate["number"], **{k: len(v) for k, v in lists.items()}, "classes": classes,
        "samples": {k: v[:limit] for k, v in lists.items()},
    }  # fmt: skip


def only_in(catalogue: Catalogue, dataset: str, version: Row, other: Row) -> Iterator[Sample]:
    """The samples of a version that the other has not."""
    shared = [b for b in version["batches"] if b in other["batches"]]
    yield from catalogue.samples(dataset, version, batches=[b for b in version["batches"] if b not in shared])
    missing = catalogue.removed(other) - catalogue.removed(version)
    if missing and shared:
        yield from catalogue.samples(dataset, version, batches=shared, ids=sorted(missing))


def key_of(sample: Sample) -> tuple[str, str, str]:
    return sample.path, sample.split, str(sample.extra.get("source_id"))


def brief(sample: Sample) -> dict[str, Any]:
    return {k: getattr(sample, k) for k in SHOWN}


@dataclass(frozen=True)
class Hanging:
    """What hangs on images at the source: their rows, what was made from them or by what learned from them, and where it lies."""

    paths: tuple[str, ...]
    sources: tuple[str, ...]
    generators: tuple[int, ...]
    samples: tuple[str, ...]
    unpublished: tuple[str, ...]
    versions: tuple[int, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Rows that no version may hold any more."""
        return frozenset((*self.sources, *self.samples, *self.unpublished))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def hanging_on(catalogue: Catalogue, dataset: str, *, paths: Sequence[str] = (), samples: Sequence[str] = ()) -> Hanging:
    """What hangs on the images with those paths or sample ids. Raises NotFound for one that the dataset never had.

    A generator hangs on an image if it learned from a version that had it for training; whatever it made hangs on it too.
    """
    rows = list(catalogue.real(dataset, paths=paths, ids=samples))
    unknown = sorted((set(paths) - {r.path for r in rows}) | (set(samples) - {r.id for r in rows}))
    if unknown:
        raise NotFound(f"dataset {dataset!r} has no source image {unknown[0]!r}" + (f", nor {len(unknown) - 1} more that were named" if unknown[1:] else ""))
    every = sorted({r.path for r in rows})
    rows = list(catalogue.real(dataset, paths=every))
    versions = list(catalogue.database.every(VERSIONS, dataset=dataset))
    trained_on = {v["number"] for v in versions if holds(catalogue, v, [r for r in rows if r.split == "train"])}
    found = catalogue.database.every(GENERATORS, dataset=dataset)
    generators = sorted(g["version"] for g in found if g["source"] != "foundation" and g["dataset_version"] in trained_on)
    sources = frozenset(r.id for r in rows)

    def hangs(record: Provenance) -> bool:
        return bool(record.sources & sources) or record.model_version in generators

    made = [s for s in catalogue.synthetic(dataset) if s.provenance is not None and hangs(s.provenance)]
    known = {s.id for s in made}
    waiting = [s["id"] for s in unpublished(catalogue, dataset) if s["id"] not in known and hangs(Provenance.from_json(s["provenance"]))]
    touched = sorted(v["number"] for v in versions if holds(catalogue, v, [*rows, *made]))
    return Hanging(tuple(every), tuple(sorted(sources)), tuple(generators), tuple(sorted(known)), tuple(sorted(waiting)), tuple(touched))


def holds(catalogue: Catalogue, version: Row, rows: Iterable[Sample]) -> bool:
    """Whether a version has any of the rows."""
    batches, gone = set(version["batches"]), catalogue.removed(version)
    return any(r.batch in batches and r.id not in gone for r in rows)


def unpublished(catalogue: Catalogue, dataset: str) -> Iterator[Row]:
    """The samples of all batches of a dataset, as they were made."""
    for batch in catalogue.database.every(BATCHES, dataset=dataset):
        yield from catalogue.database.every(SAMPLES, batch=batch["id"])


def lineage(catalogue: Catalogue, dataset: str, number: int) -> list[dict[str, Any]]:
    """A version and its ancestors, newest first: what each brought, by which generators it was made, what it went without.

    The line ends where an ancestor was dropped; the version before that then brings what the dropped one had brought.
    """
    found = []
    at: int | None = number
    while at is not None:
        version = catalogue.database.version(dataset, at, to_see=True)
        parent = catalogue.database.find_version(dataset, version["parent"]) if version["parent"] else None
        brought = [b for b in version["batches"] if parent is None or b not in parent["batches"]]
        gone = catalogue.removed(version) - (catalogue.removed(parent) if parent else frozenset())
        shown = {k: version[k] for k in ("number", "parent", "state", "proof", "accepted_unproven", "withdrawn", "note", "created")}
        found.append({**shown, "batches": [batch_lineage(catalogue, dataset, version, b) for b in brought], "went_without": len(gone)})
        at = parent["number"] if parent else None
    return found


def batch_lineage(catalogue: Catalogue, dataset: str, version: Row, batch: str) -> dict[str, Any]:
    row = catalogue.database.find(BATCHES, batch)
    if row is None:
        return {"batch": batch, "source": True}
    made = Counter(s.provenance.model_version for s in catalogue.samples(dataset, version, batches=[batch]) if s.provenance)
    by = [{"generator": generator, "samples": count} for generator, count in made.items()]
    asked = {k: row["request"].get(k) for k in ("class_name", "count", "mode", "novelty", "seed", "version")}
    return {"batch": batch, "source": False, "job": row["job"], "asked": asked, "made_by": by}
