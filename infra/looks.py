"""How a dataset's images look, kept in a Lance table beside its rows: fingerprints and feature vectors, once an image.

Rows are keyed by sample id; a sample never changes, so neither does its look. Duplicates are found among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.tables import batched, quote
from longtail.duplicates import COLOUR_BYTES, HASH_BYTES, Fingerprint

FEATURES = 1280
SCHEMA = pa.schema(
    [
        pa.field(
            "id", pa.string(), nullable=False,
            metadata={"lance-schema:unenforced-primary-key": "true", "lance-schema:unenforced-primary-key:position": "1"},
        ),
        pa.field("sha256", pa.string()),
        pa.field("gradients", pa.binary(HASH_BYTES)),
        pa.field("colours", pa.binary(COLOUR_BYTES)),
        pa.field("vector", pa.list_(pa.float16(), FEATURES)),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One image: its fingerprint, and its features [1280], unit length."""

    id: str
    fingerprint: Fingerprint
    vector: NDArray[np.float32]


class Looks:
    """The looks of one dataset's images."""

    def __init__(self, uri: str, options: dict[str, str]) -> None:
        self.uri, self.options = uri, options

    def add(self, looks: Sequence[Look]) -> None:
        """Keeps those that are not there yet."""
        import lance

        rows = pa.Table.from_pylist([to_row(look) for look in looks], schema=SCHEMA)
        try:
            table = lance.dataset(self.uri, storage_options=self.options)
        except ValueError:
            try:
                lance.write_dataset(rows, self.uri, mode="create", storage_options=self.options)
                return
            except OSError:  # another process created it meanwhile
                table = lance.dataset(self.uri, storage_options=self.options)
        table.merge_insert("id").when_not_matched_insert_all().conflict_retries(50).execute(rows)

    def known(self) -> frozenset[str]:
        """Ids that have been looked at."""
        return frozenset(row["id"] for row in self._scan(["id"]))

    def prints(self, ids: Iterable[str]) -> dict[str, Fingerprint]:
        """Fingerprints of those ids that have been looked at."""
        found = {}
        for part in batched(ids, 1000):
            for row in self._scan(["id", "sha256", "gradients", "colours"], f"id IN ({', '.join(quote(i) for i in part)})"):
                found[row["id"]] = Fingerprint(row["sha256"], row["gradients"], row["colours"])
        return found

    def vectors(self, ids: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Feature vectors of those ids that have been looked at."""
        found = {}
        for part in batched(ids, 1000):
            for row in self._scan(["id", "vector"], f"id IN ({', '.join(quote(i) for i in part)})"):
                found[row["id"]] = np.asarray(row["vector"], dtype=np.float32)
        return found

    def forget(self, ids: Iterable[str]) -> None:
        """Drops the looks of those ids; none there is no error."""
        import lance

        try:
            table = lance.dataset(self.uri, storage_options=self.options)
        except ValueError:
            return
        for part in batched(ids, 500):
            table.delete(f"id IN ({', '.join(quote(i) for i in part)})")

    def _scan(self, columns: list[str], condition: str | None = None) -> Iterator[dict[str, Any]]:
        import lance

        try:
            table = lance.dataset(self.uri, storage_options=self.options)
        except ValueError:
            return
        for batch in table.scanner(columns=columns, filter=condition, batch_size=1024).to_batches():
            yield from batch.to_pylist()


def to_row(look: Look) -> dict[str, Any]:
    return {
        "id": look.id, "sha256": look.fingerprint.sha256, "gradients": look.fingerprint.gradients, "colours": look.fingerprint.colours,
        "vector": look.vector.astype(np.float16),
    }  # fmt: skip


def looks_uri(table_uri: str) -> str:
    """Where the looks of a table's images lie."""
    return f"{table_uri.removesuffix('.lance')}.looks.lance"
