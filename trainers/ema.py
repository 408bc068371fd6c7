"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """A copy of `module` whose weights trail it, with a half-life counted in images rather than steps."""

    def __init__(self, module: M, *, half_life_images: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life_images = half_life_images

    @torch.no_grad()
    def update(self, module: M, *, batch: int) -> None:
        weight = 1 - 0.5 ** (batch / self.half_life_images)
        torch._foreach_lerp_(list(self.module.parameters()), [p.detach() for p in module.parameters()], weight)
        for buffer, current in zip(self.module.buffers(), module.buffers(), strict=True):
            buffer.copy_(current)
