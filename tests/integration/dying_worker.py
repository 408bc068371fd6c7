"""The worker, but it kills itself once in each step that it comes to: when the step's work is done and not yet remembered.

`python dying_worker.py FILE`: while FILE exists, the names of the steps in which it has died are added to it.
Half-way through long steps it dies too, at the third word of progress of each job.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from infra import durable
from infra.progress import Progress

DIED = Path(sys.argv[1])
real_step, real_report = durable.step, Progress.__call__


def die(name):
    if DIED.exists() and name not in DIED.read_text().splitlines():
        with DIED.open("a") as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)


def step(name, action, *arguments):
    def act(*given):
        result = action(*given)
        die(name)
        return result

    return real_step(name, act, *arguments)


def report(self, fraction, message, **data):
    real_report(self, fraction, message, **data)
    self.words = getattr(self, "words", 0) + 1
    if self.words == 3:
        die(f"half-way {self.job}")


durable.step = step
Progress.__call__ = report

if __name__ == "__main__":
    from services.worker.__main__ import main

    main()
