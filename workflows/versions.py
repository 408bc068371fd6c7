"""Publishing as steps: stage rows, name them in a version, count what it holds, and perhaps make it the latest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from infra.database import DATASETS, Row
from infra.durable import step
from workflows.stack import Stack


def publish_version(
    stack: Stack, dataset: str, *, job: str, batches: Sequence[str], lance_version: int, note: str, make_latest: bool, first: bool = False,
    onto: int | None = None, instead_of: int | None = None, accepted_unproven: bool = False,
    removed: Callable[[Row | None], frozenset[str]] = lambda _: frozenset(),
) -> dict[str, Any]:  # fmt: skip
    """The new version's {"version", "parent", "latest"}: a child of `onto`, or of the latest; running it again gives the same version.

    With `instead_of` it becomes the latest in the place of that version alone.
    """

    def flip() -> dict[str, Any]:
        catalogue = stack.catalogue
        row = catalogue.publish(
            dataset, job=job, parent=catalogue.database.version(dataset, onto) if onto else None, follow=not first and onto is None, batches=batches,
            lance_version=lance_version, note=note, removed=removed, make_latest=make_latest, instead_of=instead_of, accepted_unproven=accepted_unproven,
            who=f"job {job}",
        )  # fmt: skip
        moved = make_latest and (instead_of is None or catalogue.database.get(DATASETS, dataset)["latest"] == row["number"])
        return {"version": row["number"], "parent": row["parent"], "latest": moved}

    return step("publish version", flip)
