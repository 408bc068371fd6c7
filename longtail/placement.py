"""Where a new object may go: sized like its class, clear of what is annotated and of what looks like an object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy

CLEARANCE = 1.15
"""The dilated box that must be free, as a multiple of the box; in a crowded image 1 is tried as well."""
CELLS = 96
"""Candidate positions along the longer side of the image."""
CHOICE_SHARE = 0.1
"""One of this share of the free positions is drawn, the emptiest ones."""


def place(
    size_wh: tuple[float, float], occupied: Sequence[BoxXyxy], image: NDArray[np.uint8], rng: np.random.Generator
) -> BoxXyxy | None:
    """A box of that size inside the image whose surroundings overlap no occupied box, or None if there is none.

    Every position of a grid is looked at. One of the emptiest is drawn: those whose pixels differ least from the image's
    commonest colour, so that an object nobody annotated is not covered either. `image` is HxWx3; all in pixels.
    """
    height, width = image.shape[:2]
    w, h = (round(min(s, limit - 2.0)) for s, limit in zip(size_wh, (width, height), strict=True))
    stride = max(1, max(width, height) // CELLS)
    columns, rows = np.meshgrid(np.arange(1, max(2, width - w - 1), stride), np.arange(1, max(2, height - h - 1), stride))
    x0, y0 = columns.ravel().astype(np.float64), rows.ravel().astype(np.float64)
    for clearance in (CLEARANCE, 1.0):
        grow_x, grow_y = w * (clearance - 1) / 2, h * (clearance - 1) / 2
        free = np.ones(len(x0), dtype=bool)
        for ox0, oy0, ox1, oy1 in occupied:
            free &= ~((x0 - grow_x < ox1) & (x0 + w + grow_x > ox0) & (y0 - grow_y < oy1) & (y0 + h + grow_y > oy0))
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
