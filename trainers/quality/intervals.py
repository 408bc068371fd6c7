"""95 % intervals of shares and means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.959964


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """Of a share of `count`, in [0, 1]; the whole range where nothing was counted. Source: Wilson 1927."""
    if count == 0:
        return 0.0, 1.0
    share, spread = hits / count, Z**2 / count
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, (share + spread / 2 - half) / (1 + spread)), min(1.0, (share + spread / 2 + half) / (1 + spread))


def mean_interval(values: NDArray[np.floating]) -> tuple[float, float]:
    """Of a mean, by the normal approximation; infinite for fewer than two values."""
    if len(values) < 2:
        return -math.inf, math.inf
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half
