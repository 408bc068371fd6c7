"""Density by itself: in how many real objects' neighbourhoods each sample lies, and how sure their mean is.

Source: Naeem et al. 2020 (arXiv:2002.09797), eq. 3. Shape legend: N real objects, M samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainers.quality.coverage import distances

Floats = NDArray[np.floating]
NEIGHBOURS = 5


def densities(real_ND: Floats, fake_MD: Floats) -> Floats:
    """[M], each at least 0: 1 is usual for a sample like the real ones, 0 for one beyond the reach of all, more where they lie closest.

    Their mean is the density of `density_and_coverage`. nan with fewer than two real ones.
    """
    return counted(distances(real_ND, real_ND), distances(fake_MD, real_ND))


def counted(among_NN: Floats, across_MN: Floats) -> Floats:
    """The same from distances."""
    k = min(NEIGHBOURS, len(among_NN) - 1)
    if k < 1:
        return np.full(len(across_MN), np.nan)
    radius_N = np.partition(among_NN, k, axis=1)[:, k]
    return np.asarray((across_MN <= radius_N).sum(1) / k)


def density_interval(real_ND: Floats, fake_MD: Floats, *, seed: int = 0, rounds: int = 200) -> tuple[float, float]:
    """Central 95 % of the mean by half-samples of both, see `kid_interval`; nan where either has fewer than four."""
    n, m = len(real_ND), len(fake_MD)
    if min(n, m) < 4:
        return float("nan"), float("nan")
    among, across = distances(real_ND, real_ND), distances(fake_MD, real_ND)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        real, fake = rng.choice(n, n // 2, replace=False), rng.choice(m, m // 2, replace=False)
        values.append(counted(among[np.ix_(real, real)], across[np.ix_(fake, real)]).mean())
    low, high = counted(among, across).mean() + np.quantile(np.array(values) - np.mean(values), [0.025, 0.975])
    return max(0.0, float(low)), float(high)
