"""An object's outline estimated from its box and its pixels, where nobody drew one: GrabCut, checked against the box.

An estimate says which pixels of an exemplar to lay, and where its hole ends; it is never written into a label.
Source: Rother et al. 2004 ("GrabCut"), as OpenCV has it. Shape legend: H W pixels of the box.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy, dilate
from trainers.windows import box_pixels

ROUNDS = 4
SIDE_PX = 96
"""The longer side of what is looked at: enough for an outline, and quick."""
SURROUNDINGS = 1.8
LEAST_SHARE, MOST_SHARE = 0.08, 0.97
"""Of the box: less is a speck, more is the box itself."""
LEAST_REACH = 0.3
"""Share of the box's sides that the outline must span: the box was drawn about the object."""
LEAST_PX = 8


def estimated_outline(pixels: NDArray[np.uint8], box_xyxy: BoxXyxy) -> NDArray[np.bool_] | None:
    """What the object covers of `box_pixels(box_xyxy)`, [H, W]; None where object and ground cannot be told apart. The same each time."""
    left, top, right, bottom = box_pixels(box_xyxy)
    if min(right - left, bottom - top) < LEAST_PX:
        return None
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in dilate(box_xyxy, SURROUNDINGS))
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if (right - left) * (bottom - top) > 0.9 * (x1 - x0) * (y1 - y0):
        return None  # no ground to learn from
    shrink = min(1.0, SIDE_PX / max(x1 - x0, y1 - y0))
    small = cv2.resize(pixels[y0:y1, x0:x1], None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    rect = [round(v * shrink) for v in (left - x0, top - y0, right - left, bottom - top)]
    mask = np.zeros(small.shape[:2], dtype=np.uint8)
    models = np.zeros((2, 1, 65), dtype=np.float64)
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(small, mask, rect, models[0], models[1], ROUNDS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:
        return None  # one colour alone
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    part = largest(np.asarray(cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8)), dtype=np.uint8))
    if part is None or not plausible(part, rect):
        return None
    whole = cv2.resize(part, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0.5
    seen: NDArray[np.bool_] = np.zeros((bottom - top, right - left), dtype=bool)
    cut = whole[top - y0 : bottom - y0, left - x0 : right - x0]
    seen[: cut.shape[0], : cut.shape[1]] = cut
    return seen


def largest(inside: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """The largest connected part, its holes filled, as 0 or 1."""
    parts, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not parts:
        return None
    filled = np.zeros_like(inside)
    cv2.drawContours(filled, [max(parts, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(np.float32)


def plausible(part: NDArray[np.float32], rect: list[int]) -> bool:
    """Whether it is more than a speck, less than the box, and reaches as far as the box says."""
    share = float(part.sum()) / max(1, rect[2] * rect[3])
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    if not LEAST_SHARE <= share <= MOST_SHARE or not len(rows):
        return False
    return bool(columns[-1] + 1 - columns[0] >= LEAST_REACH * rect[2] and rows[-1] + 1 - rows[0] >= LEAST_REACH * rect[3])
