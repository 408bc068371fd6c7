"""Copying: samples nearer to a training image than unseen real images are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainers.quality.coverage import distances

Floats = NDArray[np.floating]
Crops = list[NDArray[np.uint8]]
CROP = 0.8
"""The middle of a training object, as a share of its sides, that counts as the object when copies are looked for."""
QUANTILE = 0.02
NEARER = 0.9
"""How much nearer than that quantile a copy is: the lowest of a few distances is a poor bound, and unseen images fall below it by chance."""


def copy_threshold(train_ND: Floats, val_MD: Floats, *, views: Sequence[Floats] = ()) -> float:
    """The distance below which a sample counts as a copy: `NEARER` times the low quantile of what held-out real images attain.

    Without held-out images, of what training images attain among themselves. `views` [N,D] are other looks at the training images.
    """
    if len(val_MD) >= 2:
        return NEARER * float(np.quantile(np.min([distances(val_MD, view).min(1) for view in (train_ND, *views)], 0), QUANTILE))
    if len(train_ND) < 2:
        return 0.0
    every = []
    for view in (train_ND, *views):
        among = distances(train_ND, view)
        np.fill_diagonal(among, np.inf)
        every.append(among.min(1))
    return NEARER * float(np.quantile(np.min(every, 0), QUANTILE))


def nearest(sample_MD: Floats, train_ND: Floats, *, ignore_M: list[int | None] | None = None) -> tuple[NDArray[np.intp], Floats]:
    """(index of the nearest training image, its distance) for each sample; `ignore_M` leaves one out each, or none."""
    across = distances(sample_MD, train_ND)
    for row, ignored in enumerate(ignore_M or []):
        if ignored is not None:
            across[row, ignored] = np.inf
    index = across.argmin(1)
    return index, across[np.arange(len(index)), index]


def looks(crops: Crops) -> tuple[Crops, ...]:
    """The crops mirrored, upside down, their middles, and these mirrored."""
    middles = []
    for crop in crops:
        cut_y, cut_x = (round(side * (1 - CROP) / 2) for side in crop.shape[:2])
        middles.append(crop[cut_y : crop.shape[0] - cut_y, cut_x : crop.shape[1] - cut_x])
    return mirrored(crops), [np.ascontiguousarray(crop[::-1]) for crop in crops], middles, mirrored(middles)


def mirrored(crops: Crops) -> Crops:
    return [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
