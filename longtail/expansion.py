"""An expansion turns target counts into the instances still missing."""

from __future__ import annotations

from collections.abc import Mapping


def missing(targets: Mapping[str, int], counts: Mapping[str, int], *, budget: int) -> dict[str, int]:
    """How many instances of each class to add: up to its target, rarest first, never more than `budget` in all.

    Classes at or above their target are left out, so an expansion whose targets are met is empty.
    """
    gaps = {name: target - counts.get(name, 0) for name, target in targets.items()}
    plan: dict[str, int] = {}
    for name in sorted((n for n, gap in gaps.items() if gap > 0), key=lambda n: (counts.get(n, 0), n)):
        count = min(gaps[name], budget - sum(plan.values()))
        if count > 0:
            plan[name] = count
    return plan
