"""One sample from its record: background, box, exemplar, latent. The same record gives the same pixels.

Samples are made one at a time, so that neither the batch a sample came in nor its neighbours can change a bit of it.
The generator works at its own resolution; its residual is applied at the image's, to the full-size exemplar, where that is not whole (decision 020):
up to novelty 0.25 that is its rim alone.
Shape legend: S window side, R network resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from longtail.boxes import BoxXyxy, beyond_borders, mirrored, on_border
from longtail.errors import InvalidRequest
from longtail.samples import Mode
from trainers.compose import (
    Warp,
    base_image,
    bend_at,
    box_map,
    composite,
    fade,
    fill_color,
    fitted,
    kept_place,
    mask_map,
    match_context,
    mix,
    outlined_mask,
    solid,
    warp_exemplar,
    warp_outline,
    whole_mask,
)
from trainers.device import as_tensor, random_stream
from trainers.grids import to_uint8
from trainers.networks import Generator
from trainers.quality.seams import seam
from trainers.sampling import Scene, draw_latent, interpolate, residual
from trainers.upscale import WORTH, Upscaler, enlarge
from trainers.windows import Instance, cut, cut_outline, resize, window_around

Pixels = NDArray[np.uint8]
SERVED_MARGIN = 1.8
SYNTHESIS_MARGIN = 1.6


@dataclass(frozen=True)
class Painter:
    """A generator, and the upsampler for windows larger than it paints, where there is one.

    `mirrored` says whether exemplars may be, as they were in training; None leaves it to objects, which may, and whole images, which may not.
    """

    generator: Generator
    upscaler: Upscaler | None = None
    mirrored: bool | None = None


@dataclass(frozen=True)
class Order:
    """What to make. Boxes are xyxy pixels; `background` is None for synthesis, `exemplar` and `mixed` where there is none.

    At novelty 1 nothing of an exemplar but its outline is used.
    """

    mode: Mode
    label: int
    seed: int
    novelty: float
    box_xyxy: BoxXyxy
    background: Pixels | None
    exemplar: Instance | None
    mixed: Instance | None = None
    truncation: float | None = None
    factor: int | None = None
    towards: tuple[int, float] | None = None
    """A second seed, and how far the latent lies on the way to its own."""


@dataclass(frozen=True)
class Rendered:
    """The image, the label's box in it and, where an instance with a drawn outline was laid, its outline [H, W]; how visible the change is.

    `change` is the mean absolute difference from the background inside the box, of 255; `overlap` the IoU of the changed
    region's own box with the label's, or with that of an estimated outline, since a box may be drawn wide about its object. Both are 1e3
    and 1 where there was no background. `seam` is how much larger the step across the edge of what was changed has become, of 255.
    """

    pixels: Pixels
    box_xyxy: BoxXyxy
    change: float
    overlap: float
    outline: NDArray[np.bool_] | None = None
    seam: float = 0.0
    hides: NDArray[np.bool_] | None = None
    """Where what was there before is seen no more, or by less than a half [H, W]; None where nothing was."""


@dataclass(frozen=True)
class Laid:
    """An exemplar in its place: image [1,3,S,S], validity [1,1,S,S], and its outline [1,1,S,S] where that is known."""

    image: Tensor
    validity: Tensor
    outline: Tensor | None


@torch.no_grad()
def render(painter: Painter | None, order: Order) -> Rendered:
    """Makes one sample; `painter` may be None for copy-paste alone."""
    if order.mode == "enlarge":
        return enlarged(painter, order)
    random = random_stream(order.seed % (2**63))
    if order.mode == "synthesis":
        return synthesise(painter, order, random)
    assert order.background is not None
    height, width = order.background.shape[:2]
    left, top, side = window_around(order.box_xyxy, width, height, margin=SERVED_MARGIN)
    window = to_float(cut(order.background, left, top, side))
    box = fractions(order.box_xyxy, left, top, side)
    hole = fractions(beyond_borders(order.box_xyxy, width, height), left, top, side)
    finished, soft, outline = paint(painter, order, window, box, hole, random)
    pixels = order.background.copy()
    opacity = soft[0, 0].cpu().numpy()
    paste(pixels, to_uint8(finished[0]), opacity > 0, left, top)
    edge = seam(cut(order.background, left, top, side), cut(pixels, left, top, side), opacity > 0, order.box_xyxy)
    covered, hides = (on_image(found, height, width, left, top) for found in (outline, soft))
    if not any(i is not None and i.estimated for i in (order.exemplar, order.mixed)):
        return Rendered(pixels, order.box_xyxy, *visibility(order.background, pixels, order.box_xyxy), covered, edge, hides)
    expected = order.box_xyxy if covered is None or not covered.any() else around(covered)
    return Rendered(pixels, order.box_xyxy, *visibility(order.background, pixels, expected), seam=edge, hides=hides)


def around(mask: NDArray[np.bool_]) -> BoxXyxy:
    """The box about what is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def on_image(outline: Tensor | None, height: int, width: int, left: int, top: int) -> NDArray[np.bool_] | None:
    """A window's outline, or what is more than half opaque in it, as a mask of the whole image."""
    if outline is None:
        return None
    whole = np.zeros((height, width), dtype=bool)
    covered = outline[0, 0].cpu().numpy() > 0.5
    paste(whole, covered, covered, left, top)
    return whole


def enlarged(painter: Painter | None, order: Order) -> Rendered:
    """The whole image that the exemplar lies in, so many times as large. Raises InvalidRequest for a generator without an upsampler."""
    if painter is None or painter.upscaler is None or order.exemplar is None or order.factor is None:
        raise InvalidRequest(
            "mode 'enlarge' wants a generator with an upsampler, and this one has none: it is trained where windows are larger than the "
            "network paints, and kept where it beats bicubic (`upscaler` in the training's result)"
        )
    pixels = to_uint8(painter.upscaler(to_float(order.exemplar.image), order.factor)[0])
    return Rendered(pixels, order.box_xyxy, 1e3, 1.0)


def masked(background: Pixels, box_xyxy: BoxXyxy) -> Pixels:
    """The background with all that the mask of this box lets the generator change painted black."""
    height, width = background.shape[:2]
    left, top, side = window_around(box_xyxy, width, height, margin=SERVED_MARGIN)
    soft = mask_map(fractions(beyond_borders(box_xyxy, width, height), left, top, side), side, side)[1]
    pixels = background.copy()
    paste(pixels, np.zeros((side, side, 3), dtype=np.uint8), soft[0, 0].cpu().numpy() > 0, left, top)
    return pixels


def synthesise(painter: Painter | None, order: Order, random: torch.Generator) -> Rendered:
    """A whole image with no background: the window alone, its size taken from the box that was asked for."""
    x0, y0, x1, y1 = order.box_xyxy
    side = round(max(x1, y1)) if (x0, y0) == (0, 0) else round(max(x1 - x0, y1 - y0) * SYNTHESIS_MARGIN)
    box = fractions(order.box_xyxy, 0, 0, side)
    finished, _, outline = paint(painter, order, torch.zeros(1, 3, side, side), box, None, random)
    pixels = to_uint8(finished[0])
    if (x0, y0) == (0, 0) and (round(x1), round(y1)) != (side, side):
        pixels = np.asarray(Image.fromarray(pixels).resize((round(x1), round(y1)), Image.Resampling.BICUBIC))
        outline = None
    return Rendered(pixels, order.box_xyxy, 1e3, 1.0, on_image(outline, side, side, 0, 0))


def paint(
    painter: Painter | None, order: Order, window: Tensor, box: Tensor, hole: Tensor | None, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(finished window [1,3,S,S], soft mask of what was changed, outline): exemplar laid, faded, completed by the generator's residual.

    The mask lies about the box `hole`, which goes on beyond the image's borders where the label's does not; it is everywhere where that is None.

    Where the exemplar is valid it is taken at the window's own size and nothing is added to it; what is invented comes from the generator's
    own finished window, enlarged.
    """
    side, whole = window.shape[-1], hole is None
    holes = whole_mask(1, side, side) if hole is None else mask_map(hole, side, side)
    fill = fill_color(window, box, torch.full((1, 1, 1, 1), float(whole)))
    mirrored = not whole if painter is None or painter.mirrored is None else painter.mirrored
    laid = lay_exemplar(order, box, fill, whole, side, random, mirrored=mirrored)
    follows = laid.outline is not None and not whole
    soft = outlined_mask(laid.outline, *holes)[1] if laid.outline is not None and not whole else holes[1]
    validity = laid.validity * soft if follows else laid.validity
    if painter is None or order.mode == "copy_paste":
        return composite(window, laid.image, torch.zeros_like(laid.image), soft), soft, laid.outline
    generator, upscaler = painter.generator, painter.upscaler
    latent = latent_of(order, generator.config.latent, random)
    size = generator.config.resolution_px
    small_holes = whole_mask(1, size, size) if hole is None else mask_map(hole, size, size)
    label_map = box_map(box, size, size)
    if laid.outline is not None:
        drawn = scale(laid.outline, size).clamp_min(0)
        small_holes = small_holes if whole else outlined_mask(drawn, *small_holes)
        label_map = solid(drawn)
    scene = Scene(
        image_B3RR=scale(window, size),
        mask_B1RR=small_holes[0],
        soft_B1RR=small_holes[1],
        box_B1RR=label_map,
        exemplar_B3RR=scale(laid.image, size),
        validity_B1RR=scale(validity, size).clamp_min(0),
        label_B=torch.tensor([order.label]),
        fill_B311=fill,
    )
    small = residual(generator, scene, latent)
    correction = resampled(small, side)
    base = base_image(laid.image, validity, scale(scene.beneath(), side))
    if upscaler is not None and side > WORTH * size:
        invented = enlarge(upscaler, (scene.base() + small).clamp(-1, 1), side) - base
        correction = torch.lerp(invented, correction, validity)
    return composite(window, base, correction, soft), soft, laid.outline


def latent_of(order: Order, size: int, random: torch.Generator) -> Tensor:
    """The order's latent [1, Z]."""
    latent = draw_latent(1, size, random, truncation=order.truncation)
    if order.towards is None:
        return latent
    seed, share = order.towards
    other = draw_latent(1, size, random_stream(seed % (2**63)), truncation=order.truncation)
    return interpolate(latent[0], other[0], torch.tensor([share]))


def lay_exemplar(order: Order, box: Tensor, fill: Tensor, whole: bool, side: int, random: torch.Generator, *, mirrored: bool) -> Laid:
    """The order's exemplar, or parts of two, in its box; not valid anywhere where the sample is wholly invented."""
    bend = 0.0 if order.mode == "copy_paste" else bend_at(order.novelty)
    warps = [Warp.draw(1, random, strength=0.5 if whole else 1.0, bend=bend, mirrored=mirrored) for _ in range(2)]
    held = held_by_borders(order, warps[0].flip, turned_too=mirrored)
    if held is not None:
        warps = [held, held]
    noise, join = torch.rand(1, 1, 8, 8, generator=random), torch.rand(1, 1, 3, 3, generator=random)
    if order.exemplar is None:
        return Laid(torch.zeros(1, 3, side, side), torch.zeros(1, 1, side, side), None)
    laid, outline = lay(order.exemplar, box, warps[0], fill, whole, side)
    if order.mixed is not None:
        second, other = lay(order.mixed, box, warps[1], fill, whole, side)
        laid = mix(laid, second, join, box)
        outline = None if outline is None or other is None else mix(outline, other, join, box)
    if order.mode == "copy_paste":
        return Laid(laid, torch.ones(1, 1, side, side), outline)
    return Laid(laid, fade(torch.tensor([order.novelty]), noise, side, side), outline)


def held_by_borders(order: Order, flip: Tensor, *, turned_too: bool = True) -> Warp | None:
    """How an exemplar is laid that a border cuts off, against the same border of another image: straight, or in a mirror; None for others.

    Where both fit, `flip` says which.
    """
    if order.background is None or order.exemplar is None:
        return None
    own, there = (on_border(b, i.shape[1], i.shape[0]) for b, i in ((order.exemplar.box_xyxy, order.exemplar.image), (order.box_xyxy, order.background)))
    straight, turned = (all(t for s, t in zip(sides, there, strict=True) if s) for sides in (own, mirrored(own)))
    turned = turned and turned_too
    if not any(own) or not (straight or turned):
        return None
    return replace(Warp.identity(1), flip=flip if straight and turned else torch.full((1,), float(turned)))


def lay(instance: Instance, box: Tensor, warp: Warp, fill: Tensor, whole: bool, side: int) -> tuple[Tensor, Tensor | None]:
    """(one real instance in the target's box [1,3,S,S], its ground's colour brought to the target's; its outline there, if known)."""
    height, width = instance.image.shape[:2]
    left, top, span = window_around(instance.box_xyxy, width, height, margin=SERVED_MARGIN)
    source = cut(instance.image, left, top, span)
    outline = None if instance.outline is None else cut_outline(instance.outline, instance.box_xyxy, left, top, span)
    source_box = fractions(instance.box_xyxy, left, top, span)
    wanted = float((box[0, 2:] - box[0, :2]).max()) * side / max(1e-6, float((source_box[0, 2:] - source_box[0, :2]).max()))
    if wanted < 0.75 * span:  # reduce first: sampling a much larger picture would alias
        source = resize(source, max(8, round(wanted)))
        outline = None if outline is None else resize(outline, max(8, round(wanted)))
    place, drawn = box, None
    if outline is not None:
        flat = as_tensor(outline)[None, None].float().div_(255)
        goal = kept_place(flat, source_box, box, warp) if instance.estimated else box
        place = box if whole else fitted(flat, source_box, box, warp, side, goal_B4=goal)
        drawn = warp_outline(flat, source_box, place, warp, side, side)
    laid = warp_exemplar(to_float(source), source_box, place, warp, side, side)
    return (laid if whole else match_context(laid, to_float(source), source_box, fill, torch.ones(1))), drawn


def scale(x: Tensor, size: int) -> Tensor:
    """An image in [-1, 1], resampled to size x size."""
    return resampled(x, size).clamp(-1, 1)


def resampled(x: Tensor, size: int) -> Tensor:
    """Bicubic over as many pixels as one becomes, as training windows are cut: nothing aliases. A little beyond the range of what was there."""
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False, antialias=True)


def to_float(pixels: Pixels) -> Tensor:
    """HxWx3 uint8 to [1,3,H,W] in [-1, 1]."""
    return as_tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)


def fractions(box_xyxy: BoxXyxy, left: int, top: int, side: int) -> Tensor:
    x0, y0, x1, y1 = box_xyxy
    return torch.tensor([[(x0 - left) / side, (y0 - top) / side, (x1 - left) / side, (y1 - top) / side]], dtype=torch.float32)


def paste(pixels: NDArray[Any], window: NDArray[Any], where: NDArray[np.bool_], left: int, top: int) -> None:
    """Writes the window's pixels into the image in place, where the mask says so and the image reaches."""
    height, width = pixels.shape[:2]
    y0, y1, x0, x1 = max(0, top), min(height, top + window.shape[0]), max(0, left), min(width, left + window.shape[1])
    view, inner = pixels[y0:y1, x0:x1], (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    view[where[inner]] = window[inner][where[inner]]


def visibility(before: Pixels, after: Pixels, box_xyxy: BoxXyxy) -> tuple[float, float]:
    """(mean absolute change inside the box of 255, IoU of the box around 90 % of the change with the label's)."""
    changed = (before != after).any(2)
    if not changed.any():
        return 0.0, 0.0
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    top, left = int(rows[0]), int(columns[0])
    place = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]  # all that there is to look at
    difference = np.abs(before[place].astype(np.float64) - after[place]).mean(2)
    x0, y0, x1, y1 = (round(v) for v in box_xyxy)
    area = max(0, min(y1, before.shape[0]) - max(0, y0)) * max(0, min(x1, before.shape[1]) - max(0, x0))
    if area == 0:
        return 0.0, 0.0
    inside = difference[max(0, y0 - top) : max(0, y1 - top), max(0, x0 - left) : max(0, x1 - left)].sum() / area
    spans = []
    for axis, origin in ((0, left), (1, top)):
        share = difference.sum(axis).cumsum() / difference.sum()
        spans.append((origin + int(np.searchsorted(share, 0.05)), origin + int(np.searchsorted(share, 0.95)) + 1))
    (cx0, cx1), (cy0, cy1) = spans
    shared = max(0, min(cx1, x1) - max(cx0, x0)) * max(0, min(cy1, y1) - max(cy0, y0))
    union = (cx1 - cx0) * (cy1 - cy0) + (x1 - x0) * (y1 - y0) - shared
    return float(inside), shared / union
