"""Where a new object may go: sized like its class, clear of what is annotated and of what looks like an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import UNCUT, BoxXyxy, Sides, area, intersection

CLEARANCE = 1.15
"""The dilated box that must be free, as a multiple of the box; in a crowded image 1 is tried as well."""
MOST_HIDDEN, OFTEN = 0.5, 0.75
"""Share of an annotated object's box that a new one may hide: its label stays, so it must be seen. Three in four real ones hide no more than may be."""
REACH = 1.15
"""What is painted about a body's outline reaches so far, as a multiple of the body."""
GONE = 0.9
"""An object of which so much is covered can no longer be seen."""
BODY = np.array([(x / 4, y / 4) for x in range(-4, 5) for y in range(-4, 5) if x * x + y * y <= 16])
"""Points [P,2] all over the unit disc."""
PART_OF = 0.8
"""A box that lies so far in another is a part of what that shows, or the other way round."""
MOST_STRETCHED = 1.25
CELLS = 96
"""Candidate positions along the longer side of the image."""
CHOICE_SHARE = 0.1
"""One of this share of the free positions is drawn, the emptiest ones."""


@dataclass(frozen=True)
class Body:
    """The ellipse in the middle of an object's box that it covers, as shares of the box's sides; `alone` says that nothing of the box beside it is
    painted."""

    across: float
    down: float
    alone: bool


def place(
    size_wh: tuple[float, float], occupied: Sequence[BoxXyxy], image: NDArray[np.uint8], rng: np.random.Generator, *, hidden: Sequence[float] = (),
    gone: Sequence[bool] = (), body: Body | None = None, against: Sides = UNCUT,
) -> BoxXyxy | None:  # fmt: skip
    """A box of that size inside the image that hides no more of each occupied box than its share `hidden` says, or None if there is none.

    A new object with a `body` may also cover one that may be `gone` as a whole, or hide its share of that one's body where the boxes share more.

    Every position of a grid is looked at. One of the emptiest is drawn: those whose pixels differ least from the image's
    commonest colour, so that an object nobody annotated is not covered either. Of what may not be hidden its surroundings are clear
    too, if there is room. The box lies on the borders of `against` and on no other; where these are opposite ones it is stretched
    from one to the other, by `MOST_STRETCHED` at the most. `image` is HxWx3; all in pixels.
    """
    height, width = image.shape[:2]
    stride = max(1, max(width, height) // CELLS)
    across, down = (positions(size_wh[k], limit, against[k], against[k + 2], stride) for k, limit in enumerate((width, height)))
    if across is None or down is None:
        return None
    (w, columns), (h, rows) = across, down
    x0, y0 = (each.ravel().astype(np.float64) for each in np.meshgrid(columns, rows))
    for clearance in (CLEARANCE, 1.0):
        free = np.ones(len(x0), dtype=bool)
        for other, share, vanishes in zip(occupied, hidden or [0.0] * len(occupied), gone or [False] * len(occupied), strict=True):
            grow = (clearance - 1) / 2 if share == 0 else 0.0
            boxes = np.stack([x0 - w * grow, y0 - h * grow, x0 + w * (1 + grow), y0 + h * (1 + grow)], 1)
            may = shared(boxes, other) <= share * area(other)
            if vanishes and body is not None:
                asked = np.flatnonzero(free & ~may)
                x, y = x0[asked] + w / 2, y0[asked] + h / 2
                least = share_covered(x, y, (w * body.across, h * body.down), other)
                most = share_covered(x, y, (w * body.across * REACH, h * body.down * REACH), other) if body.alone else 1.0
                may[asked] = (least >= GONE) | ((most <= share) & (share > 0))
            free &= may
        if free.any():
            break
    else:
        return None
    index = np.flatnonzero(free)
    busy = busyness(image[::stride, ::stride])
    scores = means_inside(busy, np.stack([x0[index], y0[index], x0[index] + w, y0[index] + h], 1) / stride)
    emptiest = index[np.argsort(scores, kind="stable")[: max(1, round(len(index) * CHOICE_SHARE))]]
    chosen = int(rng.choice(emptiest))
    return float(x0[chosen]), float(y0[chosen]), float(x0[chosen] + w), float(y0[chosen] + h)


def positions(size: float, limit: int, first: bool, last: bool, stride: int) -> tuple[int, NDArray[np.int64]] | None:
    """(size in pixels, where it may begin) along one side of an image; None if it cannot lie on the borders that it has to."""
    if first and last:
        stretched = limit / size
        return (limit, np.array([0])) if 1 / MOST_STRETCHED <= stretched <= MOST_STRETCHED else None
    whole = round(min(size, limit - 2.0))
    if first or last:
        return whole, np.array([0 if first else limit - whole])
    return whole, np.arange(1, max(2, limit - whole - 1), stride)


def shared(boxes_N4: NDArray[np.float64], other: BoxXyxy) -> NDArray[np.float64]:
    """Area [N] that each box shares with the other."""
    across = np.minimum(boxes_N4[:, 2], other[2]) - np.maximum(boxes_N4[:, 0], other[0])
    down = np.minimum(boxes_N4[:, 3], other[3]) - np.maximum(boxes_N4[:, 1], other[1])
    return np.asarray(np.maximum(across, 0) * np.maximum(down, 0))


def share_covered(x_N: NDArray[np.float64], y_N: NDArray[np.float64], size_wh: tuple[float, float], other: BoxXyxy) -> NDArray[np.float64]:
    """What ellipses of that size about these centres cover of the ellipse in the other box [N], as `BODY`'s points tell."""
    points = np.array([(other[0] + other[2]) / 2, (other[1] + other[3]) / 2]) + BODY * np.array([(other[2] - other[0]) / 2, (other[3] - other[1]) / 2])
    across, down = (points[:, 0] - x_N[:, None]) / (size_wh[0] / 2), (points[:, 1] - y_N[:, None]) / (size_wh[1] / 2)
    return np.asarray((across**2 + down**2 <= 1).mean(1))


def usually_hidden(found: Sequence[tuple[BoxXyxy, Sequence[tuple[BoxXyxy, int]]]]) -> dict[int, float]:
    """How much of a neighbour's box an object of a class may hide, by the neighbour's class: what its real instances do.

    Of each (box, the other boxes of its image with their classes) the most that it hides of any of a class; of these what three
    instances in four stay under, `MOST_HIDDEN` at most. A box that lies in the other is part of it, or holds it, and hides nothing.
    """
    shares: dict[int, list[float]] = {}
    for k, (box, others) in enumerate(found):
        for other, label in others:
            if label not in shares:
                shares[label] = [0.0] * len(found)
            common = intersection(box, other)
            if 0 < common < PART_OF * min(area(box), area(other)):
                shares[label][k] = max(shares[label][k], common / area(other))
    return {label: min(MOST_HIDDEN, float(np.quantile(each, OFTEN))) for label, each in shares.items()}


def busyness(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each pixel is from the image's commonest colour, in [0, 1], as an integral image [H+1, W+1]."""
    coarse = (image // 16).reshape(-1, 3).astype(np.int64)
    keys = coarse[:, 0] * 256 + coarse[:, 1] * 16 + coarse[:, 2]
    mode = np.bincount(keys).argmax()
    background = np.array([mode // 256, mode // 16 % 16, mode % 16]) * 16 + 8
    distance = np.abs(image.astype(np.float64) - background).mean(2) / 255
    return np.pad(distance.cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def means_inside(integral: NDArray[np.float64], boxes_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each box [N], from an integral image; xyxy in its pixels."""
    x0, y0, x1, y1 = np.round(boxes_N4).astype(np.int64).T
    x1, y1 = np.minimum(np.maximum(x1, x0 + 1), integral.shape[1] - 1), np.minimum(np.maximum(y1, y0 + 1), integral.shape[0] - 1)
    total = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
    return np.asarray(total / np.maximum(1, (x1 - x0) * (y1 - y0)))
