"""What every workflow stands on, and how a job's life is told: running, then succeeded, failed or cancelled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.asking import Asking
from infra.catalogue import Catalogue
from infra.cluster import Cluster
from infra.durable import step, workflow
from infra.progress import Progress
from infra.registry import Registry
from longtail.errors import BrokenDataset, Cancelled, LongtailError
from longtail.jobs import JobKind, workflow_name

log = logging.getLogger("longtail.jobs")
Body = Callable[["Stack", str, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Stack:
    """The outside systems, opened once by the worker."""

    catalogue: Catalogue
    cluster: Cluster
    registry: Registry
    asking: Asking

    def progress(self, job: str, *, low: float = 0.0, high: float = 1.0) -> Progress:
        return Progress(self.catalogue.database, job, low=low, high=high)


def register_job(stack: Stack, kind: JobKind, body: Body) -> None:
    """Makes `body` a durable workflow. It runs as a chain of steps; what it returns is the job's result."""
    database = stack.catalogue.database

    def run(job: str, request: dict[str, Any]) -> None:
        step("start", lambda: database.set_state(job, "running", message="running"))
        try:
            result = body(stack, job, request)
        except Cancelled:
            step("cancelled", lambda: database.set_state(job, "cancelled", message="cancelled"))
        except Exception as error:
            problem = describe(error)
            if problem["code"] == "internal":
                log.exception("job %s (%s) failed", job, kind)
            step("failed", lambda: database.set_state(job, "failed", message=problem["detail"], problem=problem))
        else:
            step("succeeded", lambda: database.set_state(job, "succeeded", progress=1.0, message="done", result=result))

    workflow(workflow_name(kind), run)


def describe(error: Exception) -> dict[str, Any]:
    """A failed job's problem: its code, its message, and each problem of a broken dataset."""
    if isinstance(error, LongtailError):
        problem: dict[str, Any] = {"code": error.code, "detail": str(error)}
        if isinstance(error, BrokenDataset):
            problem["problems"] = error.problems
        return problem
    return {"code": "internal", "detail": f"{type(error).__name__}: {error}"}
