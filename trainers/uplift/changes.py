"""On which test images an addition gained and lost: where a person looks first.

Shape legend: I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainers.uplift.matches import Matches
from trainers.uplift.predictions import Floats, Predictions

SHOWN = 6
"""Images each way."""


def most_changed(reference: Sequence[Any], arm: Sequence[Any], labels: Sequence[int]) -> list[dict[str, Any]]:
    """[{"position", "before", "after"}] of the test images that changed most over paired runs, those that lost most first, SHOWN each way.

    `before` and `after` are means of `right_less_wrong` with the reference and with the arm. Of a team's own trainer, which says nothing of
    single images, there are none.
    """
    if not all(isinstance(run, Predictions | list) for run in (*reference, *arm)):
        return []
    before, after = (np.mean([right_less_wrong(run, labels) for run in runs], axis=0) for runs in (reference, arm))
    order = np.argsort(after - before, kind="stable")
    lost = [i for i in order[:SHOWN] if after[i] < before[i]]
    gained = [i for i in order[::-1][:SHOWN] if after[i] > before[i]]
    return [{"position": int(i), "before": float(before[i]), "after": float(after[i])} for i in (*lost, *gained)]


def right_less_wrong(outcome: Predictions | Sequence[Matches], labels: Sequence[int]) -> Floats:
    """[I]: objects (or images) of these classes that were found, less what was taken for one and is none.

    Of a detector at an IoU of 0.5, and of each class as many detections as it has objects at most, the surest first: no more are wrong then than
    objects are missed.
    """
    if isinstance(outcome, Predictions):
        said = np.isin(outcome.said, labels)
        return np.where(said, np.where(outcome.said == outcome.truth, 1.0, -1.0), 0.0)
    found = np.zeros(len(outcome[0].objects))
    for one in (outcome[k] for k in labels):
        counted = int(one.objects.sum())
        found += np.bincount(one.image[:counted], weights=np.where(one.found[0, :counted], 1.0, -1.0), minlength=len(found))
    return found
