"""Picture grids of what a generator does: the thing to look at before believing a figure.

Shape legend: B batch, R resolution.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.device import random_stream
from trainers.sampling import complete
from trainers.scenes import draw_indices, served_scene
from trainers.state import TrainState
from trainers.windows import Windows

NOVELTIES = (0.0, 0.3, 0.6, 1.0)


@torch.no_grad()
def grid(state: TrainState, windows: Windows, *, columns: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    """Rows: real window, the exemplar as pasted, the output at each of `NOVELTIES`; columns: instances of all classes."""
    draw = draw_indices(windows, columns, random_stream(seed))
    latent = torch.randn(columns, state.recipe.network.latent, generator=random_stream(seed))
    rows = [windows.floats(draw.target)]
    for novelty in NOVELTIES:
        scene = served_scene(windows, draw.exemplar, windows, draw.target, novelty, random_stream(seed))
        rows += [torch.lerp(scene.image_B3RR, scene.base(), scene.soft_B1RR)] if novelty == 0 else []
        rows.append(complete(state.ema.module, scene, latent))
    return tile(rows)


def tile(rows: list[Tensor]) -> NDArray[np.uint8]:
    """Rows of [B,3,R,R] in [-1, 1] as one uint8 picture."""
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    return to_uint8(picture)


def to_uint8(image_3HW: Tensor) -> NDArray[np.uint8]:
    """[3,H,W] in [-1, 1] to HxWx3 uint8."""
    pixels: NDArray[np.uint8] = ((image_3HW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels
