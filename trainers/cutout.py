"""An object's outline estimated from its box and its pixels, where nobody drew one: what stands out from the ground about it.

An estimate says which pixels of an exemplar to lay, and where its hole ends; it is never written into a label.
The ground is what lies around the box and in no other object's; a pixel of the object is further from each of the ground's colours
than the ground strays from them (Mahalanobis distance in Lab). See docs/decisions/013. Shape legend: H W pixels of the box.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from longtail.boxes import UNCUT, BoxXyxy, Sides, dilate, on_border
from trainers.windows import box_pixels

SIDE_PX = 96
"""The longer side of what is looked at: enough for an outline, and quick."""
SURROUNDINGS = 1.8
FAR = 3.0
"""So many of a ground colour's own deviations away is no ground."""
COLOURS, LEAST_OF_COLOUR = 3, 0.2
"""The ground has at most so many colours, each with this share of its pixels at least: less is something that nobody labelled."""
BIN, ROUNDS, LEAST_PIXELS = 8, 12, 20
LEAST_GROUND = 0.03
MOST_ODD = 0.3
"""Of the ground itself so much may be far from its colours, neighbours that nobody labelled: more, and nothing stands out there."""
BOX_ROUNDING = 1.05
"""Objects are looked for in the ellipse that fills the box, this much enlarged: its corners are seldom theirs."""
LEAST_SHARE, MOST_SHARE = 0.1, 0.97
"""Of the box: less is a speck, more is the box itself."""
LEAST_REACH = 0.4
"""Share of the box's sides that the outline must span: the box was drawn about the object."""
LEAST_PX, LEAST_SEEN_PX = 8, 4
SOLIDITY = 0.75
"""Share of its convex hull that it fills: crescents and tendrils are what is left of an object that its neighbours' colour took away."""


def estimated_outline(pixels: NDArray[np.uint8], box_xyxy: BoxXyxy, others: Sequence[BoxXyxy] = ()) -> NDArray[np.bool_] | None:
    """What the object covers of `box_pixels(box_xyxy)`, [H, W]; None where object and ground cannot be told apart. The same each time.

    `others` are the boxes of the image's other objects, which are no ground.
    """
    left, top, right, bottom = box_pixels(box_xyxy)
    if min(right - left, bottom - top) < LEAST_PX:
        return None
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in dilate(box_xyxy, SURROUNDINGS))
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if (right - left) * (bottom - top) > 0.9 * (x1 - x0) * (y1 - y0):
        return None  # no ground to learn from
    shrink = min(1.0, SIDE_PX / max(x1 - x0, y1 - y0))
    size = max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink))
    small = cv2.resize(pixels[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
    box, *taken = ([round((v - o) * shrink) for v, o in zip(b, (x0, y0, x0, y0), strict=True)] for b in ((left, top, right, bottom), *others))
    if min(box[2] - box[0], box[3] - box[1]) < LEAST_SEEN_PX:
        return None
    ground = ~covered([box, *taken], small.shape[:2])
    if ground.sum() < max(LEAST_PIXELS, LEAST_GROUND * ground.size):
        ground = ~covered([box], small.shape[:2])
    if ground.sum() < LEAST_PIXELS:
        return None
    seen = np.asarray(cv2.medianBlur(cv2.cvtColor(np.asarray(small, dtype=np.uint8), cv2.COLOR_RGB2LAB), 3), dtype=np.uint8)
    away = apart(seen, ground) > FAR
    part = largest(tidied(away & rounded(box, small.shape[:2], on_border(box_xyxy, width, height))))
    if away[ground].mean() > MOST_ODD or part is None or not plausible(part, box):
        return None
    whole = cv2.resize(part, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0.5
    found: NDArray[np.bool_] = np.zeros((bottom - top, right - left), dtype=bool)
    cut = whole[top - y0 : bottom - y0, left - x0 : right - x0]
    found[: cut.shape[0], : cut.shape[1]] = cut
    return found


def covered(boxes: Sequence[Sequence[int]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Pixels of an image [H, W] that lie in any of the boxes xyxy."""
    found = np.zeros(tuple(shape), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        found[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return found


def rounded(box: Sequence[int], shape: Sequence[int], cut: Sides = UNCUT) -> NDArray[np.bool_]:
    """Pixels of the box that lie in its ellipse; of a box that borders cut, in that of an object whose middle lies on them."""
    x0, y0, x1, y1 = box
    wide, high = x1 - x0, y1 - y0
    x0, y0, x1, y1 = x0 - wide * cut[0], y0 - high * cut[1], x1 + wide * cut[2], y1 + high * cut[3]
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    across, down = (2 * x - x0 - x1) / ((x1 - x0) * BOX_ROUNDING), (2 * y - y0 - y1) / ((y1 - y0) * BOX_ROUNDING)
    return (across**2 + down**2 < 1) & covered([box], shape)


def apart(seen_HWC: NDArray[np.uint8], ground_HW: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many of its deviations each pixel lies from the nearest of the ground's colours, [H, W]."""
    nearest = np.full(seen_HWC.shape[:2], np.inf)
    known = left = seen_HWC[ground_HW].astype(np.float64)
    for _ in range(COLOURS):
        if len(left) < max(LEAST_PIXELS, LEAST_OF_COLOUR * len(known)):
            break
        middle, inverse = commonest(left)
        nearest = np.minimum(nearest, deviations(seen_HWC - middle, inverse))
        left = left[deviations(left - middle, inverse) > FAR]
    return nearest


def commonest(pixels_NC: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mean, inverse covariance) of the commonest colour: from the fullest bin outwards, to all that is not far from it."""
    _, each = np.unique(pixels_NC // BIN, axis=0, return_inverse=True)
    core = pixels_NC[each.reshape(-1) == np.bincount(each.reshape(-1)).argmax()]
    middle, inverse = np.asarray(core.mean(0)), np.eye(pixels_NC.shape[1])
    for _ in range(ROUNDS):
        if len(core) > LEAST_PIXELS:
            middle, inverse = np.asarray(core.mean(0)), np.asarray(np.linalg.inv(np.cov(core.T) + np.eye(len(middle))))  # 8 bits say no less than 1
        core = pixels_NC[deviations(pixels_NC - middle, inverse) <= FAR]
    return middle, inverse


def deviations(difference: NDArray[np.float64], inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("...i,ij,...j->...", difference, inverse, difference)))


def tidied(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Without gaps and hairs."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_CLOSE, brush)
    return np.asarray(cv2.morphologyEx(closed, cv2.MORPH_OPEN, brush), dtype=np.uint8)


def largest(inside: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """The largest connected part, its holes filled, as 0 or 1."""
    parts, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not parts:
        return None
    filled = np.zeros_like(inside)
    cv2.drawContours(filled, [max(parts, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(np.float32)


def plausible(part: NDArray[np.float32], box: Sequence[int]) -> bool:
    """Whether it is more than a speck, less than the box, of one piece, and reaches as far as the box says."""
    wide, high = box[2] - box[0], box[3] - box[1]
    share = float(part.sum()) / max(1, wide * high)
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    if not LEAST_SHARE <= share <= MOST_SHARE or not len(rows):
        return False
    (edge,), _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if cv2.contourArea(edge) < SOLIDITY * cv2.contourArea(cv2.convexHull(edge)):
        return False
    return bool(columns[-1] + 1 - columns[0] >= LEAST_REACH * wide and rows[-1] + 1 - rows[0] >= LEAST_REACH * high)
