"""Asking for a job: its row in the database first, then its place in the queue; both once, whoever asks twice."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from infra.database import JOBS, PROMOTIONS, Database, Row
from infra.durable import Queue
from longtail.jobs import TENANT, JobKind
from longtail.seeds import derive_id

ATTEMPTS = 20


@dataclass(frozen=True)
class Asking:
    """What a request handler, a schedule and a poll have in common."""

    database: Database
    queue: Queue

    def ask(self, kind: JobKind, request: dict[str, Any], *, job: str | None = None) -> Row:
        """The job's row. The same id asked for again is the same job.

        Where no worker has made the queue yet, the job stays written down as queued, and the worker takes it up.
        """
        key = job or derive_id("job", TENANT, kind, uuid.uuid4())
        self.database.insert(JOBS, {"id": key, "kind": kind, "state": "queued", "progress": 0.0, "message": "queued", "request": request})
        if self.queue.ready():
            self.queue.enqueue(kind, key, request)
        return self.database.get(JOBS, key)

    def attempt(self, key: str) -> str:
        """The id itself, or, where the job of that id failed or was cancelled, that of the next attempt: ATTEMPTS at most."""
        tried = key
        for number in range(1, ATTEMPTS):
            known = self.database.find(JOBS, tried)
            if known is None or known["state"] not in ("failed", "cancelled"):
                break
            tried = derive_id("job", key, number)
        return tried

    def requeue_orphans(self) -> int:
        """Jobs that were written down but never queued, because the asker was killed between the two, are queued now."""
        orphans = [j for j in self.database.every(JOBS, state="queued") if not self.queue.known(j["id"])]
        for job in orphans:
            self.queue.enqueue(job["kind"], job["id"], job["request"])
        return len(orphans)

    def bury_dead(self) -> int:
        """Jobs whose workflow has ended without a word, as when an upgrade changed its steps, are failed; how many."""
        dead = [j for j in self.database.every(JOBS, state="running") if self.queue.ended(j["id"])]
        for job in dead:
            detail = "its workflow ended unexpectedly, perhaps since an upgrade changed its steps; ask for it again"
            self.database.set_state(job["id"], "failed", message=detail, problem={"code": "internal", "detail": detail})
        return len(dead)

    def promotion_seen(self, dataset: str, version: int, *, serving: int | None, source: str) -> Row | None:
        """Asks for a promotion that somebody made in MLflow, once, however many hear of it; None if it is served already."""
        if version == serving:
            return None
        count = self.database.count(PROMOTIONS, model=dataset)
        key = self.attempt(derive_id("job", TENANT, "promote", dataset, version, count))
        return self.ask("promote", {"dataset": dataset, "version": version, "who": source, "why": "champion moved in MLflow", "set_alias": False}, job=key)
