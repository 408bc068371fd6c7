"""Samples that repeat a training object, or a part of one, pixel by pixel.

Features tell what a sample is like, and hardly know a part of an object for that object's. Here a sample is laid over every place of every training
object at several sizes, as it is, mirrored, upside down and both, and compared by normalised cross-correlation (J. P. Lewis, Fast normalized
cross-correlation, 1995), over the three colours at once: brightness does not change it, nor does the contrast of all of them.
Shape legend: F samples, N objects, S pixels a side of an object, H of a sample laid over it, P places along a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainers.device import as_tensor

Floats = NDArray[np.floating]
Crops = Sequence[NDArray[np.uint8]]
SIDE_PX = 24
"""Objects are squeezed into so large a square: more pixels find no more (decision 032)."""
SIDES_PX = range(SIDE_PX // 2, SIDE_PX + 1)
"""How much of that a sample may be: the same share of its height and width, from half to all."""
FLIPS = ((), (3,), (2,), (2, 3))
BATCH = 64
FLAT = 1 / 255
"""A deviation of less than a level, in the mean over pixels, is noise that nothing is told by."""
QUANTILE = 0.02
NEARER = 0.4
"""How much nearer than that quantile of held-out objects a sample is that repeats: parts lie at a fourth of it, soft likenesses above half (decision 032)."""


@dataclass(frozen=True)
class Repeats:
    """Of each sample what keeps it from repeating what is most like it, 1 - the correlation, in [0, 2], [F]; and which object that is part of, [F]."""

    apart: Floats
    index: NDArray[np.intp]

    @classmethod
    def of(cls, likeness_FN: Floats, *, ignore: Sequence[int | None] = ()) -> Repeats:
        """`ignore` leaves one object out of each sample's, or none; where no object is left a sample is as far from repeating as can be."""
        apart = np.concatenate([1 - likeness_FN, np.full((len(likeness_FN), 1), 2.0)], 1)
        for row, left_out in enumerate(ignore):
            if left_out is not None:
                apart[row, left_out] = 2.0
        return cls(apart.min(1), np.minimum(apart.argmin(1), max(0, likeness_FN.shape[1] - 1)))


@dataclass(frozen=True)
class Repeated:
    """What samples, held-out objects and, where a class is invented, invented samples repeat of training objects."""

    fake: Repeats
    held: Repeats
    invented: Repeats | None = None

    @property
    def near(self) -> float:
        """Below this a sample repeats; 0 where there are no two held-out objects to tell by."""
        return NEARER * float(np.quantile(self.held.apart, QUANTILE)) if len(self.held.apart) >= 2 else 0.0


@torch.no_grad()
def likeness(samples: Crops, objects: Crops) -> Floats:
    """[F,N] in [-1, 1]: how nearly each HxWx3 uint8 sample repeats each object, or the part of it that it is most like."""
    found = np.full((len(samples), len(objects)), -1.0)
    if not len(objects):
        return found
    whole_N3SS = squares(objects, SIDE_PX)
    for side in SIDES_PX:
        contrast_N1PP = contrast(whole_N3SS, side)
        for i in range(0, len(samples), BATCH):
            found[i : i + BATCH] = np.maximum(found[i : i + BATCH], laid_over(samples[i : i + BATCH], whole_N3SS, contrast_N1PP, side).cpu().numpy())
    return found.clip(-1, 1)


def laid_over(samples: Crops, whole_N3SS: Tensor, contrast_N1PP: Tensor, side: int) -> Tensor:
    """[F,N]: the highest correlation of each sample, squeezed to so many pixels a side, with any place of each object."""
    sample_F3HH = squares(samples, side)
    sample_F3HH = sample_F3HH - sample_F3HH.mean((2, 3), keepdim=True)
    sample_F3HH = sample_F3HH / sample_F3HH.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(least_contrast(side))
    flipped = torch.cat([sample_F3HH.flip(axes) for axes in FLIPS])
    found = (F.conv2d(whole_N3SS, flipped) / contrast_N1PP).amax((2, 3))
    return found.view(len(whole_N3SS), len(FLIPS), len(samples)).amax(1).T


def contrast(whole_N3SS: Tensor, side: int) -> Tensor:
    """[N,1,P,P]: the norm of what each place of each object has beside its mean colour."""
    mean, power = F.avg_pool2d(whole_N3SS, side, stride=1), F.avg_pool2d(whole_N3SS.square(), side, stride=1)
    norm_squared = (power - mean.square()).sum(1, keepdim=True) * side**2
    return norm_squared.clamp_min(least_contrast(side) ** 2).sqrt()


def least_contrast(side: int) -> float:
    """The norm of so many pixels a side that deviate by `FLAT`."""
    return FLAT * math.sqrt(3) * side


def squares(crops: Crops, side: int) -> Tensor:
    """[N,3,side,side] in [-0.5, 0.5]: the crops squeezed to one size."""
    return as_tensor(np.stack([squeezed(c, side) for c in crops])).permute(0, 3, 1, 2).float() / 255 - 0.5


def squeezed(crop: NDArray[np.uint8], side: int = SIDE_PX) -> NDArray[np.uint8]:
    """[side,side,3]: unchanged where it is of that size."""
    way = Image.Resampling.BOX if min(crop.shape[:2]) >= side else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(crop).resize((side, side), way))
