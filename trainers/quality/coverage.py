"""Density and coverage: whether samples lie among the real images, and whether they lie among all of them.

Source: Naeem et al. 2020 (arXiv:2002.09797), eq. 3 and 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def density_and_coverage(real_ND: Floats, fake_MD: Floats, *, neighbours: int = 5) -> tuple[float, float]:
    """(density, coverage): density is about 1 for samples like the real ones, coverage is in [0, 1].

    `neighbours` shrinks to what a small real sample has.
    """
    k = min(neighbours, len(real_ND) - 1)
    if k < 1 or not len(fake_MD):
        return float("nan"), float("nan")
    among_real = distances(real_ND, real_ND)
    radius_N = np.partition(among_real, k, axis=1)[:, k]
    across_MN = distances(fake_MD, real_ND)
    inside = across_MN <= radius_N[None, :]
    return float(inside.sum() / (k * len(fake_MD))), float(inside.any(axis=0).mean())


def distances(a_ND: Floats, b_MD: Floats) -> Floats:
    """Euclidean distances [N, M]."""
    squared = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1)[None, :] - 2 * a_ND @ b_MD.T
    return np.sqrt(np.maximum(squared, 0))
