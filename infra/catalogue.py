"""A dataset's versions and their samples: the database says which, the tables hold them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from infra.database import CHECKING, DATASETS, READY, VERSIONS, WITHDRAWALS, Database, Row
from infra.looks import Looks, looks_uri
from infra.objects import Objects
from infra.settings import Settings
from infra.tables import Tables
from longtail.datasets import ClassMap, Tally, health
from longtail.errors import Conflict
from longtail.jobs import TENANT
from longtail.samples import Sample, Task, is_source
from longtail.seeds import derive_id

PATIENCE_S = 300.0
"""How long a publication may be overtaken by others before it is given up."""
LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True)
class Catalogue:
    """Where datasets live, for any process: connect with `of`."""

    settings: Settings
    database: Database
    tables: Tables
    objects: Objects
    removals: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        return cls(settings, Database(settings.database_url), Tables(settings), Objects(settings))

    def classes(self, dataset: str) -> ClassMap:
        return ClassMap({int(k): v for k, v in self.database.get(DATASETS, dataset)["classes"].items()})

    def task(self, dataset: str) -> Task:
        found: Task = self.database.get(DATASETS, dataset)["task"]
        return found

    def samples(
        self, dataset: str, version: Row, *, split: str | None = None, origin: str | None = None, ids: Sequence[str] | None = None,
        batches: Sequence[str] | None = None,
    ) -> Iterator[Sample]:  # fmt: skip
        """The samples of a version, or of some of its batches, as a stream, in the order in which they were added."""
        gone, chosen = self.removed(version), version["batches"] if batches is None else batches
        found = self.tables.read(self._table(dataset), version=version["lance_version"], batches=chosen, split=split, origin=origin, ids=ids)
        return (s for s in found if s.id not in gone) if gone else found

    def sources(self, dataset: str, version: Row) -> Iterator[Sample]:
        """The samples of a version that lie at the dataset's source."""
        return self.samples(dataset, version, batches=[b for b in version["batches"] if is_source(b)])

    def real(self, dataset: str, *, paths: Sequence[str] = (), ids: Sequence[str] = ()) -> Iterator[Sample]:
        """Rows of images at the source with those paths or ids, of whatever version, by the table as it is now."""
        for column, values in (("path", paths), ("id", ids)):
            if values:
                yield from self.tables.find(self._table(dataset), column=column, values=values, origin="real")

    def synthetic(self, dataset: str) -> Iterator[Sample]:
        """Rows of what was made, of whatever version, by the table as it is now."""
        return self.tables.find(self._table(dataset), column=None, values=(), origin="synthetic")

    def looks(self, dataset: str) -> Looks:
        """How the dataset's images look."""
        return Looks(looks_uri(self._table(dataset)), self.settings.lance_options)

    def withdrawn(self, dataset: str) -> frozenset[str]:
        """Ids of rows that no version may hold any more."""
        return frozenset(i for row in self.database.every(WITHDRAWALS, dataset=dataset) for i in row["samples"])

    def withdrawn_paths(self, dataset: str) -> frozenset[str]:
        """Paths at the source that were withdrawn: they come back into no version."""
        found = self.database.every(WITHDRAWALS, dataset=dataset)
        return frozenset(path for row in found if row["lifted"] is None for path in row["paths"])

    def page(
        self, dataset: str, version: Row, *, after: int, limit: int, class_name: str | None = None, **fits: str | None
    ) -> tuple[list[Sample], int | None]:
        """(at most `limit` of a version's samples that fit a class, split or origin, where to go on), from `after` on."""
        class_id = self.classes(dataset).id_of(class_name) if class_name is not None else None
        gone, table = self.removed(version), self._table(dataset)
        found: list[tuple[int, Sample]] = []
        while True:
            wanted = limit + 1 - len(found)
            rows = self.tables.page(
                table, version=version["lance_version"], batches=version["batches"], after=after, limit=wanted, class_id=class_id, **fits
            )
            found += [(after + i, row) for i, row in enumerate(rows) if row.id not in gone]
            after += len(rows)
            if len(rows) < wanted or len(found) > limit:
                return [row for _, row in found[:limit]], found[limit][0] if len(found) > limit else None

    def count(self, version: Row) -> int:
        """How many samples a version has."""
        return sum(version["tally"]["samples"].values())

    def removed(self, version: Row) -> frozenset[str]:
        """Ids of rows that its batches brought and that this version goes without."""
        return self._ids(version["removed"]) if version["removed"] else frozenset()

    def _ids(self, uri: str) -> frozenset[str]:
        if uri not in self.removals:
            self.removals[uri] = frozenset(json.loads(self.objects.read(uri)))
        return self.removals[uri]

    def _table(self, dataset: str) -> str:
        return str(self.database.get(DATASETS, dataset)["table_uri"])

    def without(self, dataset: str, ids: frozenset[str]) -> str | None:
        """Where a list of removed ids is kept, under its hash; None for none."""
        if not ids:
            return None
        prefix = self.settings.place(dataset, "removed")
        return self.objects.write_addressed(prefix, json.dumps(sorted(ids)).encode(), suffix=".json", content_type="application/json")[0]

    def begin(self, dataset: str, *, job: str, tally: Tally) -> None:
        """Version 1 as its annotations claim it: to be seen, not to be used, until this job publishes it."""
        row: Row = {
            "id": derive_id("version", TENANT, dataset, job), "dataset": dataset, "number": 1, "parent": None, "lance_version": 0, "batches": [],
            "tally": tally.to_json(), "health": asdict(health(tally, self.classes(dataset))), "state": CHECKING, "proof": "none", "note": "",
        }  # fmt: skip
        self.database.insert(VERSIONS, row)

    def publish(
        self, dataset: str, *, job: str, parent: Row | None, batches: Sequence[str], lance_version: int, note: str,
        removed: Callable[[Row | None], frozenset[str]] = lambda _: frozenset(), follow: bool = False, make_latest: bool = False,
        instead_of: int | None = None, accepted_unproven: bool = False, who: str = "publication",
    ) -> Row:  # fmt: skip
        """The version that holds the parent's batches and these, without what is `removed` from it, counted: made now, or found if made already.

        Readers see it whole or not at all: one row in the database names all of its batches, and `latest` moves with that row or not.
        With `follow` the parent is whatever is the latest when the row is entered, so that of two publications at once none is lost:
        the one that is overtaken tries again. What it brings is counted once, so that a try takes no longer the larger the table is,
        and pauses grow at random, so that a slow one among many comes through. With `instead_of` the version becomes the latest only in
        the place of that one. Each move of `latest` is logged with `who` and the note.

        Raises `Conflict` when others have come first for five minutes on end.
        """
        key, table = derive_id("version", TENANT, dataset, job), self._table(dataset)
        batches, until, pause_s = list(dict.fromkeys(batches)), time.monotonic() + PATIENCE_S, 0.02
        brought: dict[tuple[tuple[str, ...], frozenset[str]], Tally] = {}
        pinned = None
        while True:
            made = self.database.find(VERSIONS, key)
            if made is not None and made["state"] != CHECKING:
                return made
            parent = self.database.version(dataset, to_see=True) if follow else parent
            fresh = [b for b in batches if parent is None or b not in parent["batches"]]
            gone = removed(parent) | self.withdrawn(dataset)
            at = max(lance_version, parent["lance_version"] if parent else 0)  # the table has but one history: the later holds both
            if (tuple(fresh), gone) not in brought:
                brought[tuple(fresh), gone] = Tally.of(s for s in self.tables.read(table, version=at, batches=fresh) if s.id not in gone)
            tally = brought[tuple(fresh), gone]
            if parent is not None:
                going = gone - self.removed(parent)
                left = self.samples(dataset, parent, ids=sorted(going)) if going else ()
                tally = Tally.from_json(parent["tally"]) + tally - Tally.of(left)
            moves = make_latest and instead_of in (None, self.database.get(DATASETS, dataset)["latest"])
            counted: Row = {
                "lance_version": at, "batches": [*(parent["batches"] if parent else []), *fresh], "tally": tally.to_json(),
                "removed": self.without(dataset, (self.removed(parent) if parent else frozenset()) | gone),
                "health": asdict(health(tally, self.classes(dataset))), "state": READY, "note": note, "accepted_unproven": accepted_unproven and moves,
            }  # fmt: skip
            if at != pinned:  # before any reader can see the version, so that no collection takes what it needs
                self.tables.tag(table, key, at)
                pinned = at
            before = parent["number"] if parent else None
            if made is not None:
                self.database.finish_version(made, counted, make_latest=make_latest, who=who)
                continue
            number = self.database.last_number(dataset) + 1
            row: Row = {"id": key, "dataset": dataset, "number": number, "parent": before, "proof": "none", **counted}
            if not self.database.add_version(row, make_latest=moves, instead_of=before if follow else instead_of if moves else None, who=who):
                if time.monotonic() > until:
                    raise Conflict(f"dataset {dataset!r}: others have published without a break for {PATIENCE_S:.0f} s; try again")
                time.sleep(random.uniform(0, pause_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
