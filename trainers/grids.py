"""Picture grids of what a generator does: the thing to look at before believing a figure.

Shape legend: B batch, R resolution.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.compose import Warp, box_map, degrade, fill_color, mask_map, match_context, warp_exemplar
from trainers.device import random_stream
from trainers.sampling import Scene, complete
from trainers.scenes import draw_indices
from trainers.state import TrainState
from trainers.windows import Windows

NOVELTIES = (0.0, 0.3, 0.6, 1.0)


@torch.no_grad()
def grid(state: TrainState, windows: Windows, *, columns: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    """Rows: real window, the exemplar as pasted, the output at each of `NOVELTIES`; columns: instances of all classes."""
    random = random_stream(seed)
    draw = draw_indices(windows, columns, random)
    image, box = windows.floats(draw.target), windows.boxes[draw.target]
    size = image.shape[-1]
    source, source_box = windows.floats(draw.exemplar), windows.boxes[draw.exemplar]
    laid = warp_exemplar(source, source_box, box, Warp.draw(columns, random), size, size)
    fill = fill_color(image, box, torch.zeros(columns, 1, 1, 1))
    exemplar = match_context(laid, source, source_box, fill, torch.ones(columns))
    mask, soft = mask_map(box, size, size)
    latent = torch.randn(columns, state.recipe.network.latent, generator=random)
    noise = torch.rand(columns, 1, 8, 8, generator=random)
    rows = [image, torch.lerp(image, exemplar, mask)]
    for novelty in NOVELTIES:
        degraded, validity = degrade(exemplar, torch.full((columns,), novelty), noise)
        scene = Scene(image, mask, soft, box_map(box, size, size), degraded, validity, windows.labels[draw.target], fill)
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
