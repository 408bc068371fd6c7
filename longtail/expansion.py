"""An expansion turns target counts into the instances still missing."""

from __future__ import annotations

from collections.abc import Mapping

OBJECTS = 3
"""New objects in an image, where it has room: what is measured to help a detector more than one does. See docs/decisions/016."""


def missing(targets: Mapping[str, int], counts: Mapping[str, int], *, budget: int, objects: int = 1) -> dict[str, int]:
    """How many instances of each class to add, `objects` an image: up to its target, rarest first, never more than `budget` images in all.

    Classes at or above their target are left out, so an expansion whose targets are met is empty.
    """
    gaps = {name: target - counts.get(name, 0) for name, target in targets.items()}
    plan: dict[str, int] = {}
    for name in sorted((n for n, gap in gaps.items() if gap > 0), key=lambda n: (counts.get(n, 0), n)):
        count = min(gaps[name], objects * (budget - sum(images_for(n, objects) for n in plan.values())))
        if count > 0:
            plan[name] = count
    return plan


def images_for(instances: int, objects: int) -> int:
    """How many images show so many instances, `objects` in each but the last."""
    return -(-instances // objects)
