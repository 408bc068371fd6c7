"""How a job says where it is, from whatever process does its work."""

from __future__ import annotations

import time
from typing import Any

from infra.database import Database
from longtail.errors import Cancelled


class Progress:
    """Reports a fraction in [0, 1] and a line; raises Cancelled once the owner has asked for it. At most ten a second."""

    def __init__(self, database: Database, job: str, *, low: float = 0.0, high: float = 1.0) -> None:
        self.database, self.job, self.low, self.high = database, job, low, high
        self.last = 0.0

    def __call__(self, fraction: float, message: str, **data: Any) -> None:
        if time.monotonic() - self.last < 0.1 and not data and fraction < 1:
            return
        self.last = time.monotonic()
        at = self.low + (self.high - self.low) * min(1.0, max(0.0, fraction))
        if self.database.report(self.job, progress=at, message=message, data=data):
            raise Cancelled("cancelled by its owner")

    def part(self, low: float, high: float) -> Progress:
        """The same job, with this share of its progress."""
        span = self.high - self.low
        return Progress(self.database, self.job, low=self.low + span * low, high=self.low + span * high)
