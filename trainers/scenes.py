"""The training mixture: what the generator is shown, drawn from a set of windows.

Half of a batch reconstructs (the exemplar is the object itself, recoloured and degraded; the truth is known), half
transplants (the exemplar is another instance of the class; only the discriminator judges). In a share of both the
mask is the whole window, which is class-conditional synthesis.
Shape legend: B batch, R resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail.recipes import Recipe
from trainers.augment import recolor
from trainers.compose import Warp, box_grid, box_map, degrade, fill_color, mask_map, match_context, mix, warp_exemplar
from trainers.sampling import Scene
from trainers.windows import Windows

MIXED_SHARE = 0.3


@dataclass(frozen=True)
class Draw:
    """A class-balanced batch: windows to complete, for each another instance of its class as exemplar, and one to mix with it."""

    target: Tensor
    exemplar: Tensor
    second: Tensor


def draw_indices(windows: Windows, count: int, generator: torch.Generator) -> Draw:
    """`count` windows, each class equally likely, with an exemplar from another instance where the class has one."""
    g = windows.groups
    u = torch.rand(4, count, generator=generator)
    group = pick(u[0], torch.full_like(g.order[:1], len(g.counts)))
    first, size = g.starts[group], g.counts[group]
    place = first + pick(u[1], size)
    others = size - g.own_counts[place]
    exemplars = []
    for uniform in u[2:]:
        other = pick(uniform, torch.where(others > 0, others, size))
        behind = (others > 0) & (first + other >= g.own_starts[place])  # step over the target's own windows
        exemplars.append(g.order[first + other + torch.where(behind, g.own_counts[place], 0)])
    return Draw(g.order[place], *exemplars)


def pick(uniform: Tensor, count: Tensor) -> Tensor:
    """An index below `count` from a uniform number in [0, 1]."""
    return torch.minimum((uniform * count).long(), count - 1)


@dataclass(frozen=True)
class Mixture:
    """What share of the windows is taken whole, how novelty is drawn (uniform in a range, exactly 1 for a share of the images), and whether
    an exemplar may be mirrored."""

    whole_share: float
    novelty_range: tuple[float, float] = (0.0, 1.0)
    full_novelty_share: float = 0.4
    mirrored: bool = True

    @classmethod
    def of(cls, recipe: Recipe) -> Mixture:
        return cls(recipe.whole_image_share, recipe.novelty_range, recipe.full_novelty_share, mirrored=recipe.symmetries != "none")

    def novelty(self, count: int, generator: torch.Generator) -> Tensor:
        """Novelty [count]."""
        u, (low, high) = torch.rand(2, count, generator=generator), self.novelty_range
        return torch.where(u[0] < self.full_novelty_share, torch.ones(count), low + u[1] * (high - low))


def reconstruction_scene(windows: Windows, draw: Draw, mixture: Mixture, generator: torch.Generator) -> tuple[Scene, Tensor]:
    """(scene, truth [B,3,R,R]): the exemplar is the object itself in another light, on another instance's ground."""
    truth = windows.floats(draw.target)
    box = windows.boxes[draw.target]
    itself = recolor(truth, generator)
    itself = matched(itself, itself, box, truth, box, generator)
    other = other_instance(windows, draw, generator, chosen=draw.exemplar, mirrored=mixture.mirrored)
    keep = inner_map(box, truth.shape[-1])
    swap = (torch.rand(len(box), 1, 1, 1, generator=generator) < 0.5).float()
    exemplar = torch.lerp(itself, other, swap * (1 - keep))
    return build_scene(truth, box, exemplar, windows.labels[draw.target], mixture, generator), truth


def transplant_scene(windows: Windows, draw: Draw, mixture: Mixture, generator: torch.Generator) -> Scene:
    """The exemplar is another instance of the class, or parts of two, turned, bent, scaled and recoloured a little."""
    image, box = windows.floats(draw.target), windows.boxes[draw.target]
    exemplar, second = (other_instance(windows, draw, generator, chosen=chosen, mirrored=mixture.mirrored) for chosen in (draw.exemplar, draw.second))
    mixed = mix(exemplar, second, torch.rand(len(box), 1, 3, 3, generator=generator), box)
    exemplar = torch.where(torch.rand(len(box), 1, 1, 1, generator=generator) < MIXED_SHARE, mixed, exemplar)
    return build_scene(image, box, exemplar, windows.labels[draw.target], mixture, generator)


def other_instance(windows: Windows, draw: Draw, generator: torch.Generator, *, chosen: Tensor, mirrored: bool) -> Tensor:
    """Another instance laid into the target's box, its ground brought near the target's, [B, 3, R, R]."""
    image, box = windows.floats(draw.target), windows.boxes[draw.target]
    source, source_box = recolor(windows.floats(chosen), generator, strength=0.4), windows.boxes[chosen]
    laid = warp_exemplar(source, source_box, box, Warp.draw(len(box), generator, mirrored=mirrored), *image.shape[-2:])
    return matched(laid, source, source_box, image, box, generator)


def matched(exemplar: Tensor, source: Tensor, source_box: Tensor, image: Tensor, box: Tensor, generator: torch.Generator) -> Tensor:
    fill = fill_color(image, box, torch.zeros(len(box), 1, 1, 1))
    strength = 0.5 + 0.5 * torch.rand(len(box), generator=generator)
    return match_context(exemplar, source, source_box, fill, strength)


def build_scene(image: Tensor, box: Tensor, exemplar: Tensor, label: Tensor, mixture: Mixture, generator: torch.Generator) -> Scene:
    """Degrades the exemplar by a random novelty and takes a random share of the windows whole."""
    count, size = len(image), image.shape[-1]
    mask, soft = mask_map(box, size, size)
    whole = (torch.rand(count, 1, 1, 1, generator=generator) < mixture.whole_share).float()
    noise = torch.rand(count, 1, 8, 8, generator=generator)
    degraded, validity = degrade(exemplar, mixture.novelty(count, generator), noise)
    fill = fill_color(image, box, whole)
    return Scene(image, torch.maximum(mask, whole), torch.maximum(soft, whole), box_map(box, size, size), degraded, validity, label, fill)


def inner_map(box_B4: Tensor, size: int) -> Tensor:
    """A soft ellipse inside each box: what surely belongs to the object."""
    return ((1.1 - box_grid(box_B4, size, size).norm(dim=-1)) / 0.2).clamp(0, 1)[:, None]
