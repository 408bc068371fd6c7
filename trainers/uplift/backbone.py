"""EfficientNet-lite0 cut in two: early blocks that stay as they were pretrained, seen once an image, and later blocks that learn.

The early blocks cost four fifths of a pass and change least when few images are learned from; a harness that trains some thirty
models a row sees them once an image. A small network that begins at random, learns from the pixels on and borrows nothing stands
beside it, since the gates look with the same pretrained eyes as the judge.
Shape legend: N images, H W pixels, D channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.device import as_tensor
from trainers.quality.features import backbone, normalise

Weights = Literal["pretrained", "random"]
FROZEN = 5
"""Blocks that do not learn; what they give is 40 channels at an eighth of the image's sides."""
STRIDE = 8
EARLY_CHANNELS = 40
BATCH = 16


def both_ways(images: Sequence[NDArray[np.uint8]], weights: Weights) -> list[Tensor]:
    """Of each image [H,W,3] what a network takes of it and of its mirror image: [2,D,H/8,W/8] of the frozen blocks, or [2,3,H,W] uint8.

    Mirrored maps would not do: these blocks pad to one side at each stride, 7 px apart between a map and its mirror image's.
    """
    mirrored = [np.ascontiguousarray(i[:, ::-1]) for i in images]
    seen, turned = (early_maps(part) if weights == "pretrained" else list(pixels_of(part)) for part in (images, mirrored))
    return [torch.stack(pair) for pair in zip(seen, turned, strict=True)]


@torch.no_grad()
def early_maps(images: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
    """What the frozen blocks see in images [H,W,3] of one size: [D,H/8,W/8] in half precision each."""
    net, found = backbone(), []
    for start in range(0, len(images), BATCH):
        x = pixels_of(images[start : start + BATCH]).contiguous(memory_format=torch.channels_last)
        x = net._swish(net._bn0(net._conv_stem(normalise(x))))  # type: ignore[operator]
        for block in net._blocks[:FROZEN]:  # type: ignore[index]
            x = block(x)
        found += list(x.half())
    return found


def pixels_of(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """[N,3,H,W] uint8."""
    return as_tensor(np.stack(images)).permute(0, 3, 1, 2)


def later_blocks(last: int) -> nn.ModuleList:
    """The pretrained blocks that learn, up to but not including `last`. Their batch statistics stay those of ImageNet."""
    blocks = nn.ModuleList(copy.deepcopy(block) for block in backbone()._blocks[FROZEN:last])  # type: ignore[index,union-attr]
    return blocks.requires_grad_(True).eval()


class SmallTrunk(nn.Sequential):
    """From uint8 pixels [N,3,H,W] to `CHANNELS` at an eighth of the sides; random weights, group norm."""

    CHANNELS = 96

    def __init__(self) -> None:
        sizes = [(3, 32, 2), (32, 64, 2), (64, self.CHANNELS, 2), (self.CHANNELS, self.CHANNELS, 1)]
        super().__init__(*(layer(*size) for size in sizes))

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        return super().forward(normalise(pixels_N3HW))  # type: ignore[no-untyped-call]


def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True))
