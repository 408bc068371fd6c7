"""How a window becomes the generator's input, and how its residual becomes an image again.

The same functions serve training at the network's resolution and generation at the image's own, so that what is learned
is what is served. Images are float32 in [-1, 1], boxes are xyxy fractions of the window, maps are in [0, 1].

Shape legend: B batch, H W pixels, R network resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.samples import INVENTS_FROM

MASK_DILATION = 1.2
"""The mask is this much larger than the box, about its centre; the undilated box is the label."""
FEATHER = 1 / 20
"""Width of the soft edge inside the mask, as a fraction of the box's mean side."""
OUTLINE_REACH = 0.025
"""How far the hole of an outlined object reaches beyond its outline, twice, as a fraction of the window's side."""
SOLID = 0.3
"""Share of a pixel that an outline must cover to count as labelled; of the most that it covers of any, if that is less than all."""
FITTINGS = 3
MOST_BEND = 0.16
"""Largest elastic displacement, in halves of the box's sides: 8 % of a side, little enough that the box stays true."""
BENT_FROM = 0.3
MIX_SHARPNESS = 16.0
FADE = 0.6
MOST_GAIN = 4.0
"""Contrast against the ground is raised by no more than this where light differs: beyond it there is noise alone."""


@dataclass(frozen=True)
class Warp:
    """How an exemplar is laid into a box; every field is a tensor [B]. Angles in radians, scale 1 fills the box.

    `bend` [B, 2, 4, 4] displaces points elastically: a grid over twice the box, in halves of the box's sides.
    """

    flip: Tensor
    angle: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    bend: Tensor

    @classmethod
    def identity(cls, count: int) -> Warp:
        zero = torch.zeros(count)
        return cls(flip=zero, angle=zero, scale=zero + 1, shift_x=zero, shift_y=zero, bend=torch.zeros(count, 2, 4, 4))

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, *, strength: float = 1.0, bend: float = 1.0, mirrored: bool = True) -> Warp:
        """Turns of up to 0.35 rad, 10 % in scale and 4 % in place, times `strength`; bends of up to 8 % times `bend`; random flips,
        unless what is shown has a left and a right.

        Elastic displacement as in Simard et al. 2003 ("Best practices for convolutional neural networks"), on a coarse grid.
        """
        u = torch.rand(5, count, generator=generator)
        return cls(
            flip=(u[0] < 0.5).float() * mirrored,
            angle=(u[1] * 2 - 1) * 0.35 * strength,
            scale=1 + (u[2] * 2 - 1) * 0.10 * strength,
            shift_x=(u[3] * 2 - 1) * 0.04 * strength,
            shift_y=(u[4] * 2 - 1) * 0.04 * strength,
            bend=(torch.rand(count, 2, 4, 4, generator=generator) * 2 - 1) * MOST_BEND * bend,
        )


def bend_at(novelty: float) -> float:
    """How much of an exemplar's bend is served: at novelty 0 it keeps its shape, from `BENT_FROM` on it bends as in training."""
    return min(1.0, novelty / BENT_FROM)


def box_grid(box_B4: Tensor, height: int, width: int) -> Tensor:
    """Coordinates of each pixel centre in the box's own frame, [B, H, W, 2]: the box spans [-1, 1] in x and in y."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    center = (box_B4[:, :2] + box_B4[:, 2:]) / 2
    half = ((box_B4[:, 2:] - box_B4[:, :2]) / 2).clamp_min(1e-4)
    grid_x = (x[None, None, :] - center[:, 0, None, None]) / half[:, 0, None, None]
    grid_y = (y[None, :, None] - center[:, 1, None, None]) / half[:, 1, None, None]
    return torch.stack(torch.broadcast_tensors(grid_x, grid_y), -1)


def box_map(box_B4: Tensor, height: int, width: int) -> Tensor:
    """1 where a pixel's centre lies in the box, [B, 1, H, W]."""
    return (box_grid(box_B4, height, width).abs().amax(-1) <= 1).float()[:, None]


def mask_map(box_B4: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(mask, soft mask), each [B, 1, H, W]: a superellipse of exponent 4 about the box dilated by `MASK_DILATION`.

    The soft mask rises from 0 at the mask's edge to 1 at `FEATHER` inside it, so that no pixel outside is touched.
    """
    radius = (box_grid(box_B4, height, width) / MASK_DILATION).pow(4).sum(-1).pow(0.25)[:, None]
    return (radius < 1).float(), ((1 - radius) / (2 * FEATHER)).clamp(0, 1)


def outlined_mask(outline_B1HW: Tensor, mask_B1HW: Tensor, soft_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """(mask, soft mask) of an object whose outline is known, no larger than those given: the hole follows the object.

    The soft mask is 1 on the object and falls to 0 at twice `OUTLINE_REACH` from it.
    """
    reach = max(1, round(OUTLINE_REACH * outline_B1HW.shape[-1]))
    size = 2 * reach + 1
    grown = F.max_pool2d(F.max_pool2d(outline_B1HW, (size, 1), 1, (reach, 0)), (1, size), 1, (0, reach))
    soft = F.avg_pool2d(F.avg_pool2d(grown, (size, 1), 1, (reach, 0), count_include_pad=False), (1, size), 1, (0, reach), count_include_pad=False)
    soft = torch.minimum(soft, soft_B1HW)
    return torch.minimum(mask_B1HW, (soft > 0).float()), soft


def solid(outline_B1HW: Tensor) -> Tensor:
    """Where an outline is, as 0 or 1: a line that is thinner than a pixel is still a line."""
    return (outline_B1HW > SOLID * outline_B1HW.amax((1, 2, 3), keepdim=True)).float()


def whole_mask(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The mask of class-conditional synthesis: everywhere, with no soft edge."""
    ones = torch.ones(count, 1, height, width)
    return ones, ones


def warp_exemplar(
    exemplar_B3HW: Tensor, exemplar_box_B4: Tensor, target_box_B4: Tensor, warp: Warp, height: int, width: int
) -> Tensor:
    """The exemplar's window resampled so that its box lies on the target's box, [B, 3, height, width].

    The exemplar is stretched to the target's box. Beyond its window it is reflected.
    """
    grid = warp_grid(exemplar_box_B4, target_box_B4, warp, height, width)
    return F.grid_sample(exemplar_B3HW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def warp_outline(outline_B1HW: Tensor, exemplar_box_B4: Tensor, target_box_B4: Tensor, warp: Warp, height: int, width: int) -> Tensor:
    """An exemplar's outline, moved as `warp_exemplar` moves the exemplar: soft, [B, 1, height, width]. Beyond its window there is none."""
    grid = warp_grid(exemplar_box_B4, target_box_B4, warp, height, width)
    return F.grid_sample(outline_B1HW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def warp_grid(exemplar_box_B4: Tensor, target_box_B4: Tensor, warp: Warp, height: int, width: int) -> Tensor:
    """Where in the exemplar's window each pixel of the target's comes from, [B, height, width, 2] in [-1, 1]."""
    local = box_grid(target_box_B4, height, width)
    x = (local[..., 0] - warp.shift_x[:, None, None]) / warp.scale[:, None, None]
    y = (local[..., 1] - warp.shift_y[:, None, None]) / warp.scale[:, None, None]
    wide, high = (target_box_B4[:, 2:] - target_box_B4[:, :2]).unbind(1)
    ratio = (high * height / (wide * width).clamp_min(1e-4))[:, None, None]
    cos, sin = torch.cos(warp.angle)[:, None, None], torch.sin(warp.angle)[:, None, None]
    x, y = cos * x + sin * y * ratio, cos * y - sin * x / ratio
    bend = F.grid_sample(warp.bend, local / 2, mode="bicubic", padding_mode="border", align_corners=True)
    x, y = x + bend[:, 0], y + bend[:, 1]
    x = x * (1 - 2 * warp.flip)[:, None, None]
    center = exemplar_box_B4[:, :2] + exemplar_box_B4[:, 2:] - 1
    half = exemplar_box_B4[:, 2:] - exemplar_box_B4[:, :2]
    return torch.stack([x * half[:, 0, None, None] + center[:, 0, None, None], y * half[:, 1, None, None] + center[:, 1, None, None]], -1)


def mix(first_B3HW: Tensor, second_B3HW: Tensor, noise_B133: Tensor, box_B4: Tensor) -> Tensor:
    """Parts of the one and of the other, softly joined along a line that wanders through the box. Noise is uniform in [0, 1]."""
    field = F.grid_sample(noise_B133, box_grid(box_B4, *first_B3HW.shape[-2:]), mode="bicubic", padding_mode="border", align_corners=True)
    return torch.lerp(first_B3HW, second_B3HW, torch.sigmoid((field - noise_B133.mean((2, 3), keepdim=True)) * MIX_SHARPNESS))


def fade(novelty_B: Tensor, noise_B188: Tensor, height: int, width: int) -> Tensor:
    """Validity of an exemplar [B, 1, height, width] for a novelty in [0, 1]: all of it up to `INVENTS_FROM`, nothing at 1.

    It fades where `noise_B188`, uniform in [0, 1], lies below the share to be cut; so softly that no edge of the fading is left to be
    seen. What is valid keeps all its detail (docs/decisions/020).
    """
    share_B = ((novelty_B - INVENTS_FROM) / (1 - INVENTS_FROM)).clamp(0, 1)
    field = F.interpolate(noise_B188, size=(height, width), mode="bilinear", align_corners=False)
    edge = share_B * (1 + FADE) - FADE  # so that 0 keeps and 1 cuts every pixel
    validity = ((field - edge[:, None, None, None]) / FADE).clamp(0, 1)
    return validity * (novelty_B < 1)[:, None, None, None]


def ground_color(image_B3HW: Tensor, box_B4: Tensor, *, inner: float, outer: float) -> Tensor:
    """Median colour of a ring about the box, between its dilations by `inner` and `outer`, [B, 3, 1, 1].

    The median, so that a neighbour that crosses the ring does not tint it. Zero where the window shows no ring.
    """
    reach = box_grid(box_B4, *image_B3HW.shape[-2:]).abs().amax(-1)
    ring = ((reach > inner) & (reach < outer))[:, None]
    pixels = torch.where(ring, image_B3HW, torch.nan).flatten(2)
    return pixels.nanmedian(2).values.nan_to_num(0.0)[:, :, None, None]


def fill_color(image_B3HW: Tensor, box_B4: Tensor, whole_B111: Tensor) -> Tensor:
    """Colour of the ground just outside the mask, [B, 3, 1, 1]; zero where the mask is the whole window."""
    return ground_color(image_B3HW, box_B4, inner=MASK_DILATION, outer=MASK_DILATION + 0.3) * (1 - whole_B111)


def match_context(
    exemplar_B3HW: Tensor, window_B3RR: Tensor, window_box_B4: Tensor, target_fill_B311: Tensor, strength_B: Tensor
) -> Tensor:
    """The exemplar in the target's light, in [-1, 1]: its own ground's colour becomes the target's, black stays black and white stays white.

    Between these each channel is scaled: what is half as bright as its ground stays so (von Kries' rule), where a difference would make
    what is dark on a bright ground black on a dark one; what is brighter keeps its texture. `window_B3RR` is where the exemplar comes from;
    its ground is a ring just outside its box. Left alone where strength is 0, and where either ground is not seen.
    """
    own_B311 = ground_color(window_B3RR, window_box_B4, inner=1.0, outer=1.3)
    known = ((own_B311 != 0) & (target_fill_B311 != 0)).float()  # an object that fills its window shows no ground
    darker = ((target_fill_B311 + 1) / (own_B311 + 1).clamp_min(1e-3)).clamp(max=MOST_GAIN)
    brighter = ((1 - target_fill_B311) / (1 - own_B311).clamp_min(1e-3)).clamp(max=MOST_GAIN)
    away = exemplar_B3HW - own_B311
    relit = target_fill_B311 + away * torch.where(away < 0, darker, brighter)
    return torch.lerp(exemplar_B3HW, relit, strength_B[:, None, None, None] * known).clamp(-1, 1)


def base_image(exemplar_B3HW: Tensor, validity_B1HW: Tensor, beneath_B3HW: Tensor) -> Tensor:
    """What the residual is added to: the exemplar as far as it is valid, and for the rest what is `beneath`."""
    return torch.lerp(beneath_B3HW, exemplar_B3HW, validity_B1HW)


def beneath(exemplar_B3RR: Tensor, validity_B1RR: Tensor, label_B1RR: Tensor, fill_B311: Tensor) -> Tensor:
    """Colours for where an exemplar is cut away, [B, 3, R, R]: those about the cut (docs/decisions/026), beyond the label the ground's.

    About a cut lie the exemplar and the ground beyond the label; the ground's colour alone where nothing of the exemplar is valid. A `fill` of
    zero says that no ground is known.
    """
    ground = (1 - label_B1RR) * (fill_B311 != 0).any(1, keepdim=True)
    seen = ground * (1 - validity_B1RR)
    known = validity_B1RR + seen
    colors = (exemplar_B3RR * validity_B1RR + fill_B311 * seen) / known.clamp_min(1e-4)
    return torch.lerp(from_afar(colors, known, fill_B311), fill_B311, ground)


def from_afar(colors_B3RR: Tensor, known_B1RR: Tensor, fill_B311: Tensor) -> Tensor:
    """Each pixel's colour as its neighbours tell it, [B, 3, R, R], smoother the farther off the nearest is that is known; `fill` where none is.

    R is a power of two. Source: push and pull, Gortler et al. 1996 (The Lumigraph), section 3.4: means of what is known at each half of
    the size, laid under what is known at the size above.
    """
    size = colors_B3RR.shape[-1]
    if size == 1:
        return fill_B311
    share = F.avg_pool2d(known_B1RR, 2)
    means = F.avg_pool2d(colors_B3RR * known_B1RR, 2) / share.clamp_min(1e-4)
    enough = (4 * share).clamp(max=1)  # one pixel of four is enough to speak for them
    halved = torch.lerp(from_afar(means, enough, fill_B311), means, enough)
    return F.interpolate(halved, size=(size, size), mode="bilinear", align_corners=False)


def fitted(outline_B1HW: Tensor, outline_box_B4: Tensor, box_B4: Tensor, warp: Warp, side: int, *, goal_B4: Tensor | None = None) -> Tensor:
    """The target box [1, 4] into which to lay an exemplar so that its warped outline, not the box it came with, just fills `goal_B4`.

    That is `box_B4` unless said otherwise, and the answer where nothing of the outline is seen.
    """
    target, goal = box_B4, box_B4 if goal_B4 is None else goal_B4
    for _ in range(FITTINGS):
        laid = warp_outline(outline_B1HW, outline_box_B4, target, warp, side, side)[0, 0] > 0.5
        if not laid.any():
            return box_B4
        tight = extents(laid)
        ratio = (goal[:, 2:] - goal[:, :2]) / (tight[:, 2:] - tight[:, :2])
        target = (target - tight[:, :2].repeat(1, 2)) * ratio.repeat(1, 2) + goal[:, :2].repeat(1, 2)
    return target


def extents(map_HW: Tensor) -> Tensor:
    """The box [1, 4] about what is set, as fractions."""
    rows, columns = torch.nonzero(map_HW.any(1))[:, 0], torch.nonzero(map_HW.any(0))[:, 0]
    height, width = map_HW.shape
    return torch.stack([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])[None]


def kept_place(outline_B1HW: Tensor, outline_box_B4: Tensor, box_B4: Tensor, warp: Warp) -> Tensor:
    """Where in `box_B4` an outline should lie [1, 4] if it is to lie there as it does in the box it came with, mirrored where it is.

    An annotator's box is drawn with a margin of its own about its object; a warped object keeps that margin, and its label stays true.
    """
    drawn = outline_B1HW[0, 0] > 0.5
    if not drawn.any():
        return box_B4
    size = (outline_box_B4[:, 2:] - outline_box_B4[:, :2]).repeat(1, 2)
    share = (extents(drawn) - outline_box_B4[:, :2].repeat(1, 2)) / size
    if bool(warp.flip[0]):
        share = torch.stack([1 - share[:, 2], share[:, 1], 1 - share[:, 0], share[:, 3]], 1)
    return box_B4[:, :2].repeat(1, 2) + share * (box_B4[:, 2:] - box_B4[:, :2]).repeat(1, 2)


def generator_input(image_B3RR: Tensor, mask_B1RR: Tensor, box_B1RR: Tensor, base_B3RR: Tensor, validity_B1RR: Tensor) -> Tensor:
    """[B, 9, R, R]: the context with its hole filled by the base, mask, where the label is (its outline, or its box), base, validity."""
    base = base_B3RR * mask_B1RR
    holed = image_B3RR * (1 - mask_B1RR) + base
    return torch.cat([holed, mask_B1RR, box_B1RR, base, validity_B1RR * mask_B1RR], 1)


def composite(image_B3HW: Tensor, base_B3HW: Tensor, residual_B3HW: Tensor, soft_B1HW: Tensor) -> Tensor:
    """The finished image; equal to the context, bit for bit, wherever the soft mask is 0."""
    inside = base_B3HW + residual_B3HW
    return torch.where(soft_B1HW > 0, image_B3HW + (inside - image_B3HW) * soft_B1HW, image_B3HW)
