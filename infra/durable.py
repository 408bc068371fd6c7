"""Durable workflows (DBOS): asked for by name from anywhere, run to their end by a worker whatever is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.exc import DBAPIError

from longtail.jobs import QUEUE_CONCURRENCY, QUEUES, JobKind, workflow_name

T = TypeVar("T")
APPLICATION_VERSION = "longtail-1"
"""Pinned, so that an upgrade finishes what an older worker began."""


class Queue:
    """The asking side: enqueues jobs and keeps schedules. Imports no workflow."""

    def __init__(self, url: str) -> None:
        self.client = DBOSClient(system_database_url=url, serializer=DBOSPortableJSONSerializer())

    def enqueue(self, kind: JobKind, job: str, request: dict[str, Any]) -> None:
        """Starts the job once, however often it is asked for under this id."""
        self.client.enqueue(
            {"workflow_name": workflow_name(kind), "queue_name": QUEUES[kind], "workflow_id": job, "app_version": APPLICATION_VERSION},
            job,
            request,
        )

    def ready(self) -> bool:
        """False until a worker has made the queue's tables."""
        try:
            self.known("none")
        except DBAPIError:
            return False
        return True

    def known(self, job: str) -> bool:
        return bool(self.client.list_workflows(workflow_ids=[job]))

    def ended(self, job: str) -> bool:
        """Whether the job's workflow will do nothing more."""
        found = self.client.list_workflows(workflow_ids=[job])
        return bool(found) and found[0].status in ("SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED")

    def cancel(self, job: str) -> None:
        self.client.cancel_workflow(job)

    def schedule(self, name: str, *, workflow: str, cron: str, context: dict[str, Any]) -> None:
        """Keeps a cron line that survives restarts; a tick missed while the worker was down is run once it is back."""
        self.client.create_schedule(
            schedule_name=name, workflow_name=workflow, schedule=cron, context=context, automatic_backfill=True, queue_name="expansions"
        )

    def unschedule(self, name: str) -> None:
        self.client.delete_schedule(name)

    def close(self) -> None:
        self.client.destroy()


def launch(*, url: str, executor_id: str, register: Callable[[], None]) -> None:
    """Starts this process as a worker: registers workflows, then takes up whatever was left unfinished."""
    config: DBOSConfig = {
        "name": "longtail",
        "system_database_url": url,
        "executor_id": executor_id,
        "application_version": APPLICATION_VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
        "scheduler_polling_interval_sec": 2.0,
    }
    DBOS(config=config)
    register()
    DBOS.launch()
    for name, concurrency in QUEUE_CONCURRENCY.items():
        DBOS.register_queue(name, concurrency=concurrency, polling_interval_sec=0.25)


def workflow(name: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """Registers `body` under `name`; its arguments and result are plain JSON."""
    body.__qualname__ = body.__name__ = name
    return DBOS.workflow(name=name)(body)


def step(name: str, action: Callable[..., T], *arguments: Any) -> T:
    """Runs the action and remembers its JSON result: after a crash it is not run again if it had finished."""
    return DBOS.run_step({"name": name}, action, *arguments)


def shut_down() -> None:
    DBOS.destroy()
