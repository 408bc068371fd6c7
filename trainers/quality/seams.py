"""Seams: the step where a changed region meets what was left alone, beside the steps about real objects.

Shape legend: H W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy

Pixels = NDArray[np.uint8]
DILATION = 1.2
"""The ring that is looked at about a real object: where a hole about its box would end."""
REACH = 0.05
"""How far apart the two sides of an edge are looked at, as a share of the box's mean side: edges are feathered over less."""


def reach_px(box_xyxy: BoxXyxy) -> int:
    """How many pixels apart the two sides of an edge about this box are looked at."""
    return max(2, round(REACH * (box_xyxy[2] - box_xyxy[0] + box_xyxy[3] - box_xyxy[1]) / 2))


def edge_step(pixels: Pixels, inside: NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """[3]: by how much a region is lighter than its surroundings, a channel each, of 255, over pairs of pixels `reach` apart across its edge.

    Signed, so that texture cancels out along the edge and a veil over the region does not; 0 where no pair lies across.
    """
    values, total, count = pixels.astype(np.float64), np.zeros(3), 0
    for a, b in ((np.s_[:, reach:], np.s_[:, :-reach]), (np.s_[reach:], np.s_[:-reach])):
        sign = inside[a].astype(np.int8) - inside[b].astype(np.int8)
        total += (sign[..., None] * (values[a] - values[b])).sum((0, 1))
        count += int(np.abs(sign).sum())
    return total / max(1, count)


def seam(before: Pixels, after: Pixels, inside: NDArray[np.bool_], box_xyxy: BoxXyxy) -> float:
    """How far the step across the region's edge has moved in any channel, of 255. A region that crosses an edge of the ground has one anyway."""
    reach = reach_px(box_xyxy)
    return float(np.abs(edge_step(after, inside, reach) - edge_step(before, inside, reach)).max())


def real_step(pixels: Pixels, box_xyxy: BoxXyxy) -> float:
    """The step across a ring about a real object in any channel, of 255: a superellipse of exponent 4 about its box, dilated by `DILATION`."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box_xyxy
    reach = reach_px(box_xyxy)
    half_x, half_y = max(1.0, (x1 - x0) / 2 * DILATION), max(1.0, (y1 - y0) / 2 * DILATION)
    left, top = max(0, int((x0 + x1) / 2 - half_x) - reach), max(0, int((y0 + y1) / 2 - half_y) - reach)
    right, bottom = min(width, int((x0 + x1) / 2 + half_x) + reach + 1), min(height, int((y0 + y1) / 2 + half_y) + reach + 1)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    ring = (np.abs(x - (x0 + x1) / 2) / half_x) ** 4 + (np.abs(y - (y0 + y1) / 2) / half_y) ** 4 < 1
    return float(np.abs(edge_step(pixels[top:bottom, left:right], ring, reach)).max())
