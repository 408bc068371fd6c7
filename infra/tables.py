"""Dataset rows in Lance, one table a dataset, on the same S3.

Rows are immutable and only ever added, keyed by id, each naming the batch that brought it. What a version holds is the
list of its batches (kept in the database); rows of a batch that no version lists yet are invisible. So staging may be
repeated, interrupted or raced: nothing shows until a version names it. See docs/decisions/001.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.settings import Settings
from longtail.samples import Annotation, Provenance, Sample

SCHEMA = pa.schema(
    [
        pa.field(
            "id",
            pa.string(),
            nullable=False,
            metadata={"lance-schema:unenforced-primary-key": "true", "lance-schema:unenforced-primary-key:position": "1"},
        ),
        pa.field("path", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("split", pa.string()),
        pa.field("class_ids", pa.list_(pa.int64())),
        pa.field("annotations", pa.string()),
        pa.field("origin", pa.string()),
        pa.field("batch", pa.string()),
        pa.field("provenance", pa.string()),
        pa.field("extra", pa.string()),
        pa.field("tenant", pa.string()),
    ]
)


class Tables:
    """Stages rows and reads those of given batches."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.tables_root
        self.options = settings.lance_options

    def uri(self, tenant: str, dataset: str) -> str:
        return f"{self.root}/{tenant}/{dataset}.lance"

    def merge(self, uri: str, samples: Iterable[Sample], *, tenant: str) -> int:
        """Adds the rows whose ids are not there yet; returns the table's Lance version. Doing it twice changes nothing."""
        import lance  # here, since it costs an API that only lists datasets a second to start

        rows = pa.Table.from_pylist([to_row(s, tenant) for s in samples], schema=SCHEMA)
        try:
            table = lance.dataset(uri, storage_options=self.options)
        except ValueError:
            try:
                return int(lance.write_dataset(rows, uri, mode="create", storage_options=self.options).version)
            except OSError:  # another process created it meanwhile
                table = lance.dataset(uri, storage_options=self.options)
        if rows.num_rows:
            table.merge_insert("id").when_not_matched_insert_all().conflict_retries(50).execute(rows)
        return int(lance.dataset(uri, storage_options=self.options).version)

    def tag(self, uri: str, name: str, version: int) -> None:
        """Pins a Lance version under a name; naming it again is harmless."""
        import lance

        table = lance.dataset(uri, storage_options=self.options)
        if name in table.tags.list():
            table.tags.update(name, version)
        else:
            table.tags.create(name, version)

    def read(
        self, uri: str, *, version: int, batches: Sequence[str], split: str | None = None, ids: Sequence[str] | None = None
    ) -> Iterator[Sample]:
        """The samples of those batches at that Lance version, in order of path and id."""
        import lance

        table = lance.dataset(uri, version=version, storage_options=self.options)
        clauses = [f"batch IN ({', '.join(quote(b) for b in batches)})"]
        if split:
            clauses.append(f"split = {quote(split)}")
        if ids is not None:
            clauses.append(f"id IN ({', '.join(quote(i) for i in ids)})")
        rows = table.to_table(filter=" AND ".join(clauses)).sort_by([("path", "ascending"), ("id", "ascending")])
        for batch in rows.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield from_row(row)


def quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def to_row(sample: Sample, tenant: str) -> dict[str, Any]:
    return {
        "id": sample.id,
        "path": sample.path,
        "uri": sample.uri,
        "etag": sample.etag,
        "size_bytes": sample.size_bytes,
        "width": sample.width,
        "height": sample.height,
        "split": sample.split,
        "class_ids": sorted({a.category_id for a in sample.annotations}),
        "annotations": json.dumps(
            [{"category_id": a.category_id, "bbox": a.bbox_xywh, "extra": dict(a.extra)} for a in sample.annotations]
        ),
        "origin": sample.origin,
        "batch": sample.batch,
        "provenance": json.dumps(sample.provenance.to_json()) if sample.provenance else None,
        "extra": json.dumps(dict(sample.extra)),
        "tenant": tenant,
    }


def from_row(row: dict[str, Any]) -> Sample:
    return Sample(
        **{k: row[k] for k in ("id", "path", "uri", "etag", "size_bytes", "width", "height", "split", "origin", "batch")},
        annotations=tuple(
            Annotation(category_id=a["category_id"], bbox_xywh=tuple(a["bbox"]) if a["bbox"] else None, extra=a["extra"])
            for a in json.loads(row["annotations"])
        ),
        provenance=Provenance.from_json(json.loads(row["provenance"])) if row["provenance"] else None,
        extra=json.loads(row["extra"]),
    )
