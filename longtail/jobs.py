"""The jobs that the API asks for and the worker does, by name, with their states."""

from __future__ import annotations

from typing import Literal

JobKind = Literal[
    "register", "inspect", "rescan", "withdraw", "collect", "finetune", "promote", "batch", "publish", "export", "expand", "evaluate", "renew"
]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
BatchState = Literal["queued", "generating", "filtering", "ready", "publishing", "published", "discarded", "failed", "cancelled"]
FINAL_STATES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
UNFINISHED_STATES = ("queued", "running")
BUSY_BATCHES = frozenset({"queued", "generating", "filtering", "ready", "publishing"})
"""States of a batch that may yet be published."""
QUEUES: dict[JobKind, str] = {
    "register": "work",
    "inspect": "inspection",
    "rescan": "work",
    "withdraw": "work",
    "collect": "work",
    "finetune": "training",
    "promote": "registry",
    "batch": "work",
    "publish": "work",
    "export": "work",
    "expand": "expansions",
    "evaluate": "training",
    "renew": "work",
}
QUEUE_CONCURRENCY: dict[str, int] = {"work": 2, "inspection": 1, "training": 1, "registry": 1, "expansions": 1}
WORKFLOW_PREFIX = "longtail."
TENANT = "default"
"""There is one tenant; every row, prefix and job carries it from the start."""
MAX_BATCH = 10_000
MAX_PREVIEW = 16


def workflow_name(kind: JobKind) -> str:
    """The durable workflow's registered name."""
    return WORKFLOW_PREFIX + kind
