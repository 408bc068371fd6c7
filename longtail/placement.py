"""Where a new object may go: sized like its class, clear of what is annotated and of what looks like an object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy, clip, dilate, intersection

CANDIDATES = 200
CLEARANCE = 1.15
"""The dilated box that must be free, as a multiple of the box."""


def place(
    size_wh: tuple[float, float], occupied: Sequence[BoxXyxy], image: NDArray[np.uint8], rng: np.random.Generator
) -> BoxXyxy | None:
    """A box of about that size inside the image whose surroundings overlap no occupied box, or None if none was found.

    Among the free candidates the emptiest wins: the one whose pixels differ least from the image's commonest colour, so
    that an object nobody annotated is not covered either. `image` is HxWx3; all in pixels.
    """
    height, width = image.shape[:2]
    w, h = (min(s, limit - 2.0) for s, limit in zip(size_wh, (width, height), strict=True))
    stride = max(1, min(width, height) // 160)
    busy = busyness(image[::stride, ::stride])
    best: tuple[float, BoxXyxy] | None = None
    for _ in range(CANDIDATES):
        x, y = rng.uniform(1, width - w - 1), rng.uniform(1, height - h - 1)
        box = (float(round(x)), float(round(y)), float(round(x + w)), float(round(y + h)))
        around = clip(dilate(box, CLEARANCE), width, height)
        if any(intersection(around, other) > 0 for other in occupied):
            continue
        score = mean_inside(busy, tuple(v / stride for v in around)) + 0.02 * float(rng.random())
        if best is None or score < best[0]:
            best = (score, box)
    return best[1] if best else None


def busyness(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each pixel is from the image's commonest colour, in [0, 1], as an integral image [H+1, W+1]."""
    coarse = (image // 16).reshape(-1, 3).astype(np.int64)
    keys = coarse[:, 0] * 256 + coarse[:, 1] * 16 + coarse[:, 2]
    mode = np.bincount(keys).argmax()
    background = np.array([mode // 256, mode // 16 % 16, mode % 16]) * 16 + 8
    distance = np.abs(image.astype(np.float64) - background).mean(2) / 255
    return np.pad(distance.cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def mean_inside(integral: NDArray[np.float64], box_xyxy: Sequence[float]) -> float:
    x0, y0, x1, y1 = (round(v) for v in box_xyxy)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    x1, y1 = min(x1, integral.shape[1] - 1), min(y1, integral.shape[0] - 1)
    total = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
    return float(total / max(1, (x1 - x0) * (y1 - y0)))
