"""Dataset rows in Lance, one table a dataset, on the same S3.

Rows are immutable and only ever added, keyed by id, each naming the batch that brought it. What a version holds is the
list of its batches (kept in the database); rows of a batch that no version lists yet are invisible. So staging may be
repeated, interrupted or raced: nothing shows until a version names it. See docs/decisions/001.
"""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

import pyarrow as pa

from infra.settings import Settings
from longtail.samples import Annotation, Provenance, Sample

T = TypeVar("T")
PART_ROWS = 20_000
"""Rows that are in memory at a time while a large dataset is staged."""
PATIENCE = timedelta(minutes=5)
"""How long others may write to a table first before a writer gives up. Lance gives a commit half a minute, which is short where eight share two cores."""
LONGEST_PAUSE_S = 1.0
INDEX_FROM_ROWS = 10_000
INDICES = {"id": "BTREE", "batch": "BITMAP", "class_ids": "LABEL_LIST"}
KEPT_OPEN = 16
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
        self.opened: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self.lock = Lock()

    def uri(self, tenant: str, dataset: str) -> str:
        return f"{self.root}/{tenant}/{dataset}.lance"

    def merge(self, uri: str, samples: Iterable[Sample], *, tenant: str) -> int:
        """Adds the rows whose ids are not there yet, a part at a time; returns the table's Lance version.

        Doing it twice changes nothing.
        """
        import lance  # here, since it costs an API that only lists datasets a second to start

        version = None
        for part in batched(samples, PART_ROWS):
            rows = pa.Table.from_pylist([to_row(s, tenant) for s in part], schema=SCHEMA)
            version = self._merge(lance, uri, rows)
        return version if version is not None else int(lance.dataset(uri, storage_options=self.options).version)

    def _merge(self, lance: Any, uri: str, rows: pa.Table) -> int:
        try:
            lance.dataset(uri, storage_options=self.options)
        except ValueError:
            try:
                return int(lance.write_dataset(rows, uri, mode="create", storage_options=self.options).version)
            except OSError:  # another process created it meanwhile
                pass

        def merged() -> None:
            table = lance.dataset(uri, storage_options=self.options)
            table.merge_insert("id").when_not_matched_insert_all().conflict_retries(1000).retry_timeout(PATIENCE).execute(rows)

        patiently(merged)
        return int(lance.dataset(uri, storage_options=self.options).version)

    def index(self, uri: str) -> int:
        """Indices of ids, batches and class ids, made or brought up to date where a table is large enough to need them.

        Returns the Lance version that has them; rows added later are found too, by a scan of those rows alone.
        """
        import lance

        def indexed() -> None:
            table = lance.dataset(uri, storage_options=self.options)
            if table.count_rows() >= INDEX_FROM_ROWS:
                there = {i.name for i in table.describe_indices()}
                for column, kind in INDICES.items():
                    if f"{column}_idx" not in there:
                        table.create_scalar_index(column, kind)
                if there:
                    table.optimize.optimize_indices()

        patiently(indexed)
        return int(lance.dataset(uri, storage_options=self.options).version)

    def tag(self, uri: str, name: str, version: int) -> None:
        """Pins a Lance version under a name; naming it again is harmless."""
        import lance

        tags = lance.dataset(uri, storage_options=self.options).tags
        try:  # no look at the list first: it reads every tag, those too that others are just writing
            tags.create(name, version)
        except ValueError:
            tags.update(name, version)

    def tags(self, uri: str) -> list[str]:
        """Names under which Lance versions are pinned."""
        import lance

        return list(lance.dataset(uri, storage_options=self.options).tags.list())

    def untag(self, uri: str, name: str) -> None:
        """Gives up a pinned Lance version; none there is no error."""
        import lance

        try:
            lance.dataset(uri, storage_options=self.options).tags.delete(name)
        except ValueError:
            return

    def drop(self, uri: str, *, batches: Set[str], ids: Set[str], dry_run: bool) -> int:
        """Deletes the rows of batches other than these, and the rows of these ids; how many those are. Pinned versions keep theirs."""
        import lance

        table = lance.dataset(uri, storage_options=self.options)
        there: set[str] = set()
        for batch in table.scanner(columns=["batch"]).to_batches():
            there |= set(batch.column("batch").unique().to_pylist())
        conditions = [f"batch IN ({', '.join(quote(b) for b in part)})" for part in batched(sorted(there - batches), 500)]
        conditions += [f"id IN ({', '.join(quote(i) for i in part)})" for part in batched(sorted(ids), 500)]
        dropped = 0
        for condition in conditions:
            dropped += table.count_rows(filter=condition)
            if not dry_run:
                patiently(partial(self._delete, uri, condition))
        return dropped

    def _delete(self, uri: str, condition: str) -> None:
        import lance

        lance.dataset(uri, storage_options=self.options).delete(condition)

    def clean(self, uri: str, *, before: datetime) -> dict[str, int]:
        """Rewrites what deletions left sparse, and frees what only Lance versions older than `before` need that are not pinned.

        No table there is no error.
        """
        import lance

        try:
            table = lance.dataset(uri, storage_options=self.options)
        except ValueError:
            return {"bytes": 0, "lance_versions": 0}
        table.optimize.compact_files()
        freed = lance.dataset(uri, storage_options=self.options).cleanup_old_versions(
            older_than=datetime.now(UTC) - before, error_if_tagged_old_versions=False
        )
        return {"bytes": int(freed.bytes_removed), "lance_versions": int(freed.old_versions)}

    def at(self, uri: str, version: int) -> Any:
        """The table at a Lance version; what never changes is opened once."""
        import lance

        key = (uri, version)
        with self.lock:
            if key in self.opened:
                self.opened.move_to_end(key)
                return self.opened[key]
        table = lance.dataset(uri, version=version, storage_options=self.options)
        with self.lock:
            self.opened[key] = table
            while len(self.opened) > KEPT_OPEN:
                self.opened.popitem(last=False)
        return table

    def read(
        self, uri: str, *, version: int, batches: Sequence[str], split: str | None = None, origin: str | None = None, ids: Sequence[str] | None = None
    ) -> Iterator[Sample]:
        """The samples of those batches at that Lance version, in the order in which they were added; never all in memory."""
        table = self.at(uri, version)
        for part in [None] if ids is None else batched(ids, 1000):
            scanner = table.scanner(filter=where(batches, split=split, origin=origin, ids=part), batch_size=1024)
            for batch in scanner.to_batches():
                for row in batch.to_pylist():
                    yield from_row(row)

    def find(self, uri: str, *, column: str | None, values: Sequence[str], origin: str) -> Iterator[Sample]:
        """Rows of that origin, all of them or those whose column has one of the values, by the table as it is now."""
        import lance

        table = lance.dataset(uri, storage_options=self.options)
        for part in [None] if column is None else batched(values, 1000):
            chosen = "" if part is None else f" AND {column} IN ({', '.join(quote(v) for v in part)})"
            for batch in table.scanner(filter=f"origin = {quote(origin)}{chosen}", batch_size=1024).to_batches():
                for row in batch.to_pylist():
                    yield from_row(row)

    def page(
        self, uri: str, *, version: int, batches: Sequence[str], after: int, limit: int, split: str | None = None, class_id: int | None = None,
        origin: str | None = None,
    ) -> list[Sample]:
        """At most `limit` samples that fit, after so many that fit, in the order in which they were added."""
        condition = where(batches, split=split, class_id=class_id, origin=origin)
        rows = self.at(uri, version).scanner(filter=condition, limit=limit, offset=after).to_table()
        return [from_row(row) for row in rows.to_pylist()]


def patiently(write: Callable[[], object]) -> None:
    """Does a write that may be repeated; while others commit first it tries again, after pauses that grow at random, for five minutes."""
    until, pause_s = time.monotonic() + PATIENCE.total_seconds(), 0.05
    while True:
        try:
            write()
            return
        except OSError as error:
            if not any(word in str(error).lower() for word in ("concurrent", "conflict")) or time.monotonic() > until:
                raise
        time.sleep(random.uniform(0, pause_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def where(
    batches: Sequence[str], *, split: str | None = None, ids: Sequence[str] | None = None, class_id: int | None = None, origin: str | None = None
) -> str:
    clauses = [f"batch IN ({', '.join(quote(b) for b in batches)})" if batches else "false"]
    if split:
        clauses.append(f"split = {quote(split)}")
    if origin:
        clauses.append(f"origin = {quote(origin)}")
    if class_id is not None:
        clauses.append(f"array_has(class_ids, {int(class_id)})")
    if ids is not None:
        clauses.append(f"id IN ({', '.join(quote(i) for i in ids)})")
    return " AND ".join(clauses)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order; none of nothing."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def pack(samples: Iterable[Sample], *, tenant: str) -> bytes:
    """Rows as a file of their own, for keeping them between two steps."""
    rows = pa.Table.from_pylist([to_row(s, tenant) for s in samples], schema=SCHEMA)
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows)
    return bytes(out.getvalue())


def unpack(data: bytes) -> list[Sample]:
    return [from_row(row) for row in pa.ipc.open_file(data).read_all().to_pylist()]


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
        "annotations": json.dumps([a.to_json() for a in sample.annotations]),
        "origin": sample.origin,
        "batch": sample.batch,
        "provenance": json.dumps(sample.provenance.to_json()) if sample.provenance else None,
        "extra": json.dumps(dict(sample.extra)),
        "tenant": tenant,
    }


def from_row(row: dict[str, Any]) -> Sample:
    return Sample(
        **{k: row[k] for k in ("id", "path", "uri", "etag", "size_bytes", "width", "height", "split", "origin", "batch")},
        annotations=tuple(Annotation.from_json(a) for a in json.loads(row["annotations"])),
        provenance=Provenance.from_json(json.loads(row["provenance"])) if row["provenance"] else None,
        extra=json.loads(row["extra"]),
    )
