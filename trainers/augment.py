"""Differentiable augmentation of what the discriminator sees, the same family on real and on fake.

Source: Zhao et al. 2020 (DiffAugment, arXiv:2006.10738) for the family; the strength is driven by validation
(see `watchdogs`), not by ADA's sign heuristic, which means nothing for a relativistic discriminator.
Shape legend: B batch, N channels, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail.recipes import Symmetries


@dataclass(frozen=True)
class Plan:
    """Which augmentation each image of a batch gets: uniform draws [11, B], so that real and fake can get the same."""

    draws: Tensor
    strength: Tensor | float
    symmetries: Symmetries = "all"

    @classmethod
    def draw(cls, count: int, strength: Tensor | float, generator: torch.Generator, *, symmetries: Symmetries = "all") -> Plan:
        """A plan for `count` images; strength in [0, 1]."""
        return cls(torch.rand(11, count, generator=generator), strength, symmetries)


def augment(image_B3HW: Tensor, maps_BNHW: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """(image, maps) after random flips, turns by 90 degrees, shifts, colour and erasing.

    Geometry moves the maps with the image. The data's symmetries and small shifts are always on: they leave any real image real.
    """
    both = torch.cat([image_B3HW, maps_BNHW], 1)
    channels, u, strength = image_B3HW.shape[1], plan.draws, plan.strength
    if plan.symmetries != "none":
        both = torch.where((u[0] < 0.5)[:, None, None, None], both.flip(3), both)
    if plan.symmetries == "all":
        both = torch.where((u[1] < 0.5)[:, None, None, None], both.transpose(2, 3), both)
    reach = 0.06 + 0.12 * strength
    both = shift(both, (u[2] * 2 - 1) * reach, (u[3] * 2 - 1) * reach)
    image, maps = both[:, :channels], both[:, channels:]
    on = (u[4] < strength)[:, None, None, None].float()
    image = image + on * (u[5, :, None, None, None] - 0.5) * 0.5
    mean = image.mean((1, 2, 3), keepdim=True)
    image = torch.lerp(image, mean + (image - mean) * (0.7 + 0.6 * u[6, :, None, None, None]), on)
    gray = image.mean(1, keepdim=True)
    image = torch.lerp(image, gray + (image - gray) * (2 * u[7, :, None, None, None]), on)
    return erase(image, u[8] < strength * 0.5, u[9:]), maps


def shift(x_BNHW: Tensor, fraction_x_B: Tensor, fraction_y_B: Tensor) -> Tensor:
    """Moved by whole pixels, the border reflected."""
    count, _, height, width = x_BNHW.shape
    grid_y = torch.arange(height)[None, :] + (fraction_y_B * height).round().long()[:, None]
    grid_x = torch.arange(width)[None, :] + (fraction_x_B * width).round().long()[:, None]
    rows, columns = reflect(grid_y, height), reflect(grid_x, width)
    index = torch.arange(count)[:, None, None]
    return x_BNHW.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def reflect(index: Tensor, size: int) -> Tensor:
    folded = index.abs()
    return torch.where(folded > size - 1, 2 * (size - 1) - folded, folded)


def erase(image_B3HW: Tensor, on_B: Tensor, corner_2B: Tensor) -> Tensor:
    """A square of a third of the side set to zero, where `on_B`; `corner_2B` in [0, 1] says where."""
    height, width = image_B3HW.shape[-2:]
    corner = corner_2B * 2 / 3
    y, x = torch.arange(height) / height, torch.arange(width) / width
    inside_y = (y[None] >= corner[0, :, None]) & (y[None] < corner[0, :, None] + 1 / 3)
    inside_x = (x[None] >= corner[1, :, None]) & (x[None] < corner[1, :, None] + 1 / 3)
    hole = (inside_y[:, :, None] & inside_x[:, None, :] & on_B[:, None, None])[:, None]
    return image_B3HW.masked_fill(hole, 0.0)
