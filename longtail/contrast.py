"""Whether an object would still be seen in the light of another place.

What is laid elsewhere is brought to the light of its place (von Kries' rule, docs/decisions/017): what is darker than its ground keeps its share of
the ground's brightness, what is brighter its share of what is left up to white. So a dark cell on a black ground is black, and a
pale one on white is white.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy

ACROSS = 48
"""Pixels across a box, about, that are looked at."""
OWN_RING, PLACE_RING = (1.0, 1.3), (1.2, 1.5)
"""Where the ground about a box is looked for, as shares of the box: an object lies in its box, what is painted reaches a little beyond."""
LEAST_KEPT = 0.4
"""Of a blood cell's contrast 0.97 and more is left in the median in any image of the pack; of that of nuclei, dark in bright field, bright in fluorescence,
1 where grounds are alike and 0.1 to 0.35 where they are not (docs/decisions/034)."""
MOST_GAIN = 4.0
"""Contrast is raised by no more than this where light differs, as painting does."""
WHITE = 255.0
Pixels = NDArray[np.uint8]
Color = NDArray[np.float64]


def kept_contrast(image: Pixels, box_xyxy: BoxXyxy, place: Pixels, place_xyxy: BoxXyxy) -> float:
    """What is left of an object's contrast against its ground where it is laid into another place, of 1.

    1 where it has none to lose, and where either box has no ground about it: nothing is brought to any light there.
    """
    own, there = ground_about(image, box_xyxy, OWN_RING), ground_about(place, place_xyxy, PLACE_RING)
    if own is None or there is None:
        return 1.0
    away = image[np.ix_(*grid(image, box_xyxy))].reshape(-1, 3) - own
    darker, brighter = (there + 1) / (own + 1), (WHITE - there + 1) / (WHITE - own + 1)
    relit = (there + away * np.where(away < 0, darker, brighter).clip(max=MOST_GAIN)).clip(0, WHITE)
    before, left = np.abs(away).sum(), np.abs(relit - there).sum()
    return float(left / before) if before >= max(1, away.size) else 1.0  # less than one level of 255 in the mean is none


def ground_about(image: Pixels, box_xyxy: BoxXyxy, ring: tuple[float, float]) -> Color | None:
    """Median colour [3] between two dilations of a box; None where the image shows nothing there."""
    x0, y0, x1, y1 = box_xyxy
    across, down = max((x1 - x0) / 2, 0.5), max((y1 - y0) / 2, 0.5)
    x, y, (inner, outer) = (x0 + x1) / 2, (y0 + y1) / 2, ring
    rows, columns = grid(image, (x - outer * across, y - outer * down, x + outer * across, y + outer * down))
    reach = np.maximum(np.abs(rows[:, None] + 0.5 - y) / down, np.abs(columns[None] + 0.5 - x) / across)
    pixels = image[np.ix_(rows, columns)][(reach > inner) & (reach < outer)]
    return np.median(pixels, 0) if len(pixels) else None


def grid(image: Pixels, box_xyxy: BoxXyxy) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, columns) of an image that lie in a box, some fifty each way."""
    (x0, y0, x1, y1), (height, width) = box_xyxy, image.shape[:2]
    return looked_at(y0, y1, height), looked_at(x0, x1, width)


def looked_at(start: float, end: float, size: int) -> NDArray[np.int64]:
    return np.arange(max(0, int(start)), min(size, int(np.ceil(end))), max(1, round((end - start) / ACROSS)))
