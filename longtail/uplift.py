"""Evaluations: the arms that are compared, and what their comparison proves of a version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from longtail.errors import Conflict, InvalidRequest
from longtail.gates import MIN_TO_JUDGE
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

    One figure was named before anything was measured, so that no other row of its table has a say here. Fewer than `MIN_RUNS` prove nothing,
    and too few `judged_by` no help, however many runs agree on them; nor is a version proven by what it adds to an `unproven_base`.
    """
    low, high = row["interval"]
    if row["runs"] < MIN_RUNS or low is None or high is None or row["p"] is None or row["p"] > LEVEL:
        return "inconclusive"
    if low > 0 and (too_few(row.get("judged_by")) or row.get("unproven_base")):
        return "inconclusive"
    return "positive" if low > 0 else "negative" if high < 0 else "inconclusive"


def too_few(judged_by: int | None) -> str:
    """Why so many real test objects of a class that grew cannot show that it helps; empty where they can, and where they were not counted."""
    if judged_by is None or judged_by >= MIN_TO_JUDGE:
        return ""
    return f"the test split has {judged_by} objects of a class that grew; {MIN_TO_JUDGE} of each are needed to prove that it helps"


def unproven_base(asked: Mapping[str, Any], base: Mapping[str, Any] | None, number: int) -> str:
    """Why a version that helps beside this base is not proven by that, by the proof that the base has now; empty where it is.

    Measured on its own real images (`asked` with the candidate as base) a version is judged whole, and so is a part of it. A base that was dropped
    held nothing that was made.
    """
    made = base["health"]["synthetic_images"] if base else 0
    if asked["base"] in (number, asked["candidate"]) or not base or not made or base["proof"] == "positive":
        return ""
    return (
        f"version {number} holds {made} synthetic images of version {base['number']}, whose proof is {base['proof']!r}: what helps beside them does not prove "
        f"them; measure version {number} with base {number}, on its real images alone"
    )


def reservations(result: Mapping[str, Any]) -> list[str]:
    """What keeps an evaluation's help from being proof, in sentences."""
    return [why for why in (result.get("too_few"), result.get("unproven_base")) if why]


def holm(p_values: Sequence[float], *, level: float = LEVEL) -> list[bool]:
    """Which hypotheses fall when all of them are asked at once. Source: Holm 1979; nan never falls."""
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    falls = [False] * len(p_values)
    for rank, i in enumerate(order):
        if not p_values[i] <= level / (len(p_values) - rank):
            break
        falls[i] = True
    return falls


def kind_of(request: Mapping[str, Any]) -> str:
    """What an evaluation asked, its seeds aside: two of one kind measure the same thing again."""
    return json.dumps({k: request.get(k) for k in ("base", "model", "trainer", "weights", "steps", "side_px", "figure")}, sort_keys=True)


def proof_after(measured: Sequence[tuple[str, Mapping[str, Any]]]) -> Proof:
    """What all evaluations of a version prove together, each (its kind, its deciding row), oldest first: trying again until one helps proves nothing.

    Of one kind the one with the most runs counts, the first of several with as many. Harm in any of these is harm; for help Holm is asked over
    all of them, and over those that counted before one with more runs took their place: whoever looks again with more runs until it helps looks often.
    """
    counted: dict[str, Mapping[str, Any]] = {}
    replaced: list[Mapping[str, Any]] = []
    for kind, row in measured:
        before = counted.get(kind)
        if before is not None and row["runs"] <= before["runs"]:
            continue
        replaced += [before] if before is not None else []
        counted[kind] = row
    rows = list(counted.values())
    said = [proof_of(row) for row in rows]
    if "negative" in said:
        return "negative"
    falls = holm([math.nan if row["p"] is None else row["p"] for row in (*rows, *replaced)])
    return "positive" if any(one == "positive" and fallen for one, fallen in zip(said, falls[: len(said)], strict=True)) else "inconclusive"


def check_latest(version: Mapping[str, Any], *, was_latest: bool, accepted: bool) -> None:
    """Raises Conflict unless a version may become the latest: it holds nothing that was made, is proven, was the latest or accepted before, or is now."""
    unmade = not version["health"]["synthetic_images"]
    before = version["proof"] != "negative" and (was_latest or version["accepted_unproven"])
    if not (unmade or version["proof"] == "positive" or before or accepted):
        raise Conflict(f"version {version['number']} has proof {version['proof']!r}; evaluate it, or say accept_unproven: true")


def worst_class(table: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The row of the class that an addition did least for."""
    classes = [dict(r) for r in table if "/" in r["figure"] and not r["figure"].endswith("/rare") and r["difference"] is not None]
    return min(classes, key=lambda r: r["difference"], default=None)
