"""Evaluations: the arms that are compared, and what their comparison proves of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from longtail.errors import InvalidRequest
from longtail.samples import is_source

Arm = Literal["real", "classical", "copy_paste", "longtail", "both"]
Proof = Literal["positive", "inconclusive", "negative", "none"]
REAL, CLASSICAL, COPY_PASTE, LONGTAIL, BOTH = ARMS = ("real", "classical", "copy_paste", "longtail", "both")
"""Real images alone; and varied copies of them; pasted instances; what Longtail made: as many of each; what it made and as many varied copies."""
MIN_RUNS = 6
"""Fewer paired runs than this and an interval above zero is a few lucky draws."""
LEVEL = 0.05


def share_arm(share: float) -> str:
    """The arm that has a share of the addition."""
    return f"{LONGTAIL} {share:g}"


def share_of(arm: str) -> float:
    """How much of the addition an arm has: 0 for those without any."""
    if arm in (LONGTAIL, BOTH):
        return 1.0
    return float(arm.removeprefix(f"{LONGTAIL} ")) if arm.startswith(f"{LONGTAIL} ") else 0.0


def arms_asked(arms: Sequence[str], shares: Sequence[float], *, task: str) -> list[str]:
    """Every arm that is trained: real images alone first. Raises InvalidRequest where whole images would have to be pasted."""
    if COPY_PASTE in arms and task == "classification":
        raise InvalidRequest("arm 'copy_paste': where the class is the whole image there is nothing to paste; leave the arm out")
    asked = [a for a in ARMS if a in {REAL, LONGTAIL, *arms}]
    return asked + [share_arm(s) for s in sorted(set(shares)) if 0 < s < 1]


def check_sources(base: Sequence[str], other: Sequence[str], *, what: str, base_number: int | None = None) -> None:
    """Raises InvalidRequest unless both hold the same looks at the source: an image that has moved between splits since would be learned from and judge."""
    ours, theirs = ({b for b in batches if is_source(b)} for batches in (base, other))
    if ours != theirs:
        raise InvalidRequest(
            f"{what} rests on other images at the source than version {base_number}: the source was looked at again between them, and an image may have "
            "changed splits; measure against a version of the same look"
        )


def proof_of(row: Mapping[str, Any]) -> Proof:
    """What the deciding figure's paired difference says: positive or negative where its 95 % interval excludes zero.

    One figure was named before anything was measured, so that no other row of its table has a say here. Fewer than `MIN_RUNS` prove nothing.
    """
    low, high = row["interval"]
    if row["runs"] < MIN_RUNS or low is None or high is None or row["p"] is None or row["p"] > LEVEL:
        return "inconclusive"
    return "positive" if low > 0 else "negative" if high < 0 else "inconclusive"


def worst_class(table: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The row of the class that an addition did least for."""
    classes = [dict(r) for r in table if "/" in r["figure"] and not r["figure"].endswith("/rare") and r["difference"] is not None]
    return min(classes, key=lambda r: r["difference"], default=None)
