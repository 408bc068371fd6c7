"""A dataset's versions and their samples: the database says which, the tables hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.database import DATASETS, VERSIONS, Database, Row
from infra.objects import Objects
from infra.settings import Settings
from infra.tables import Tables
from longtail.datasets import ClassMap
from longtail.errors import Conflict
from longtail.jobs import TENANT
from longtail.samples import Sample
from longtail.seeds import derive_id


@dataclass(frozen=True)
class Catalogue:
    """Where datasets live, for any process: connect with `of`."""

    settings: Settings
    database: Database
    tables: Tables
    objects: Objects

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        return cls(settings, Database(settings.database_url), Tables(settings), Objects(settings))

    def classes(self, dataset: str) -> ClassMap:
        return ClassMap({int(k): v for k, v in self.database.get(DATASETS, dataset)["classes"].items()})

    def samples(self, dataset: str, version: Row, *, split: str | None = None, ids: Sequence[str] | None = None) -> Iterator[Sample]:
        """The samples of a version, in order of path."""
        uri = self.database.get(DATASETS, dataset)["table_uri"]
        return self.tables.read(uri, version=version["lance_version"], batches=version["batches"], split=split, ids=ids)

    def publish(self, dataset: str, *, job: str, parent: Row | None, batches: Sequence[str], lance_version: int, note: str) -> Row:
        """The version that holds the parent's batches and these: made now, or found if this job made it already.

        Readers see it whole or not at all: one row in the database names all of its batches.
        """
        key = derive_id("version", TENANT, dataset, job)
        for _ in range(50):
            made = self.database.find(VERSIONS, key)
            if made is not None:
                return made
            numbers = [v["number"] for v in self.database.select(VERSIONS, dataset=dataset)]
            row: Row = {
                "id": key,
                "dataset": dataset,
                "number": max(numbers, default=0) + 1,
                "parent": parent["number"] if parent else None,
                "lance_version": lance_version,
                "batches": [*(parent["batches"] if parent else []), *batches],
                "health": None,
                "proof": "none",
                "note": note,
            }
            if self.database.insert(VERSIONS, row):  # another publisher may have taken the number: then look again
                uri = self.database.get(DATASETS, dataset)["table_uri"]
                self.tables.tag(uri, f"v{row['number']}", lance_version)
                return self.database.get(VERSIONS, key)
        raise Conflict(f"dataset {dataset!r}: fifty other publications came first; try again")
