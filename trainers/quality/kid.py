"""Kernel Inception Distance: an unbiased two-sample figure that stays honest at small counts.

Source: Binkowski et al. 2018 (arXiv:1801.01401), eq. 4, with their cubic polynomial kernel, on EfficientNet-lite0
features scaled to unit variance rather than Inception's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def kid(real_ND: Floats, fake_ND: Floats) -> float:
    """Unbiased squared MMD; about 0 for two samples of one distribution, and slightly below it as often as above."""
    n, m = len(real_ND), len(fake_ND)
    if n < 2 or m < 2:
        return float("nan")
    within_real, within_fake, across = kernel(real_ND, real_ND), kernel(fake_ND, fake_ND), kernel(real_ND, fake_ND)
    first = (within_real.sum() - np.trace(within_real)) / (n * (n - 1))
    second = (within_fake.sum() - np.trace(within_fake)) / (m * (m - 1))
    return float(first + second - 2 * across.mean())


def kernel(a_ND: Floats, b_MD: Floats) -> Floats:
    """(a . b + 1) ** 3 on unit-length features."""
    return (a_ND @ b_MD.T + 1.0) ** 3


def kid_interval(real_ND: Floats, fake_ND: Floats, *, seed: int = 0, rounds: int = 200) -> tuple[float, float]:
    """Central 95 % of KID by half-samples drawn without replacement: duplicates would bias it, and a mean over half of a sample so drawn
    spreads about the whole one's as the whole one's does about the truth (the delete-half jackknife; Shao & Wu 1989)."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        some_real = rng.choice(len(real_ND), max(2, len(real_ND) // 2), replace=False)
        some_fake = rng.choice(len(fake_ND), max(2, len(fake_ND) // 2), replace=False)
        values.append(kid(real_ND[some_real], fake_ND[some_fake]))
    center, spread = kid(real_ND, fake_ND), np.array(values) - np.mean(values)
    low, high = np.quantile(spread, [0.025, 0.975])
    return float(center + low), float(center + high)
