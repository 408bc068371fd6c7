"""Publishing as steps: stage rows, name them in a version, count what it holds, and perhaps make it the latest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.database import DATASETS, VERSIONS, Row
from infra.durable import step
from workflows.stack import Stack


def publish_version(
    stack: Stack, dataset: str, *, job: str, parent: Row | None, batches: Sequence[str], lance_version: int, note: str, make_latest: bool,
    accepted_unproven: bool = False, removed: Sequence[str] = (),
) -> dict[str, Any]:
    """The new version's {"version", "latest"}; running it again gives the same version."""

    def flip() -> dict[str, Any]:
        catalogue = stack.catalogue
        row = catalogue.publish(dataset, job=job, parent=parent, batches=batches, lance_version=lance_version, note=note, removed=frozenset(removed))
        catalogue.database.update(VERSIONS, row["id"], accepted_unproven=accepted_unproven)
        if make_latest:
            catalogue.database.update(DATASETS, dataset, latest=row["number"])
        return {"version": row["number"], "latest": make_latest}

    return step("publish version", flip)
