"""Boxes of a size unlike their class's: a wrong label, often, and what is grown from few images learns it.

A longer side is odd beyond the quartiles of its class by more than FAR_OUT times their distance, in logarithms (Tukey's "far out", 1977).
See docs/decisions/028 for the measurement.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from longtail.samples import Annotation, Sample

FAR_OUT = 3.0
LEAST_SPREAD = 0.1
"""The quartiles of a class whose boxes are alike count as so far apart: sides within a third of each other are never odd."""
ENOUGH_BOXES = 8
"""Of fewer boxes nothing is said to be odd."""
SHOWN = 100
Usual = tuple[int, int]


def odd_boxes(samples: Callable[[], Iterable[Sample]], names: Mapping[int, str]) -> dict[str, Any]:
    """{"boxes", "classes", "first"} of samples that are read twice: how many are odd, of which classes, and the SHOWN furthest from their class.

    "classes" has {"odd", "usual_px"} by name of those that have any; "first" has "id", "path", "split", "class_name", "bbox_xywh" and
    "usual_px", the longer sides in whole pixels, both ends included, between which a box of the class is no odd one.
    """
    sides: dict[int, Counter[int]] = {c: Counter() for c in names}
    for sample in samples():
        for a, side in boxes_of(sample):
            sides[a.category_id][side] += 1
    usual = {c: usual_sides(counts) for c, counts in sides.items()}
    odd = {c: sum(n for side, n in sides[c].items() if distance(side, span) > 0) for c, span in usual.items()}
    far = ((distance(side, usual[a.category_id]), s, a) for s in (samples() if any(odd.values()) else ()) for a, side in boxes_of(s))
    furthest = heapq.nlargest(SHOWN, (f for f in far if f[0] > 0), key=lambda f: f[0])
    told = [
        {"id": s.id, "path": s.path, "split": s.split, "class_name": names[a.category_id], "bbox_xywh": a.bbox_xywh, "usual_px": usual[a.category_id]}
        for _, s, a in furthest
    ]
    return {"boxes": sum(odd.values()), "classes": {names[c]: {"odd": n, "usual_px": usual[c]} for c, n in odd.items() if n}, "first": told}


def boxes_of(sample: Sample) -> Iterator[tuple[Annotation, int]]:
    """Annotations of single objects with their longer sides in whole pixels, one at the least."""
    for a in sample.annotations:
        if a.bbox_xywh is not None and not a.extra.get("iscrowd"):
            yield a, max(1, round(max(a.bbox_xywh[2:])))


def usual_sides(sides: Mapping[int, int]) -> Usual | None:
    """Of {longer side: boxes} the least and greatest that are not odd; None of fewer than ENOUGH_BOXES."""
    if sum(sides.values()) < ENOUGH_BOXES:
        return None
    counts = np.array(list(sides.values()))
    low, high = np.quantile(np.log(list(sides)), (0.25, 0.75), weights=counts, method="inverted_cdf")
    beyond = FAR_OUT * max(LEAST_SPREAD, float(high - low))
    return math.ceil(math.exp(low - beyond)), math.floor(math.exp(high + beyond))


def distance(side: int, usual: Usual | None) -> float:
    """How far a side lies out of the usual ones, in logarithms; 0 within."""
    return 0.0 if usual is None else max(0.0, math.log(usual[0] / side), math.log(side / usual[1]))
