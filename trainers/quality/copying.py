"""Copying: samples nearer to a training image than unseen real images are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainers.quality.coverage import distances

Floats = NDArray[np.floating]
QUANTILE = 0.02


def copy_threshold(train_ND: Floats, val_MD: Floats) -> float:
    """The distance below which a sample counts as a copy: the low quantile of what held-out real images attain.

    Without held-out images, of what training images attain among themselves.
    """
    if len(val_MD) >= 2:
        return float(np.quantile(distances(val_MD, train_ND).min(1), QUANTILE))
    if len(train_ND) < 2:
        return 0.0
    among = distances(train_ND, train_ND)
    np.fill_diagonal(among, np.inf)
    return float(np.quantile(among.min(1), QUANTILE))


def nearest(sample_MD: Floats, train_ND: Floats, *, ignore_M: list[int | None] | None = None) -> tuple[NDArray[np.intp], Floats]:
    """(index of the nearest training image, its distance) for each sample; `ignore_M` leaves one out each, or none."""
    across = distances(sample_MD, train_ND)
    for row, ignored in enumerate(ignore_M or []):
        if ignored is not None:
            across[row, ignored] = np.inf
    index = across.argmin(1)
    return index, across[np.arange(len(index)), index]
