"""How much to add is found, not guessed: the arm that did best on the validation split, none included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

MARGIN = 1.0
"""Standard errors of the paired difference by which an addition must lead on validation: without, half of all harmless choices would be noise."""


def choose(scores: Mapping[str, Sequence[float]], *, first: str) -> str:
    """The name of the arm to keep; `scores` has each arm's figure on validation for the same seeds in the same order, `first` adds nothing.

    An arm replaces `first` where its mean lead is above `MARGIN` standard errors of the paired leads (with one seed, above zero); of
    those the one with the greatest mean is kept.
    """
    best, lead = first, 0.0
    for name, values in scores.items():
        if name == first:
            continue
        leads = np.asarray(values, dtype=np.float64) - np.asarray(scores[first], dtype=np.float64)
        error = float(leads.std(ddof=1)) / len(leads) ** 0.5 if len(leads) > 1 else 0.0
        mean = float(leads.mean())
        if np.isfinite(mean) and mean > max(lead, MARGIN * error):
            best, lead = name, mean
    return best
