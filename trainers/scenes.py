"""The training mixture: what the generator is shown, drawn from a set of windows; and what it is shown when it serves.

Half of a batch reconstructs: the exemplar is the object itself, faded; the truth is known. A share of that half is
bare ground with no object asked for, so that what is not the object is learned to be ground. The other half transplants: the exemplar
is another instance of the class, laid over the object that is there or, as it is served, on bare ground; only the discriminator
judges. In a share of both the mask is the whole window, which is class-conditional synthesis.

Where outlines are known, holes follow them, exemplars are cut free of their ground by them, and the generator is shown them in the
place of the box. In a share of the windows they are left aside, so that one model serves both.
Shape legend: B batch, R resolution.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtail.recipes import Recipe
from trainers.compose import (
    Warp,
    bend_at,
    box_grid,
    box_map,
    fade,
    fill_color,
    mask_map,
    match_context,
    mix,
    outlined_mask,
    solid,
    warp_exemplar,
    warp_outline,
    whole_mask,
)  # fmt: skip
from trainers.networks import Generator
from trainers.sampling import Scene, complete
from trainers.windows import Windows

MIXED_SHARE = 0.3
OUTLINED_SHARE = 0.75
"""Share of the scenes in which outlines are used, of those that show any."""
WHOLE = 0.98
"""A box of at least this share of its window's sides is the whole image."""


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
    """What share of the windows is taken whole, of the transplants goes to bare ground, and of the rest is asked for bare ground; how
    novelty is drawn (uniform in a range, exactly 1 for a share of the images); whether an exemplar may be mirrored."""

    whole_share: float
    ground_share: float = 0.5
    erased_share: float = 0.1
    novelty_range: tuple[float, float] = (0.0, 1.0)
    full_novelty_share: float = 0.4
    mirrored: bool = True

    @classmethod
    def of(cls, recipe: Recipe) -> Mixture:
        mirrored = recipe.symmetries != "none"
        return cls(recipe.whole_image_share, recipe.ground_share, recipe.erased_share, recipe.novelty_range, recipe.full_novelty_share, mirrored=mirrored)

    def novelty(self, count: int, generator: torch.Generator) -> Tensor:
        """Novelty [count]."""
        u, (low, high) = torch.rand(2, count, generator=generator), self.novelty_range
        return torch.where(u[0] < self.full_novelty_share, torch.ones(count), low + u[1] * (high - low))


@dataclass(frozen=True)
class Seen:
    """A real object as the critic is shown it: its window, where its label is, and the hole that it could have been painted into."""

    image_B3RR: Tensor
    box_B1RR: Tensor
    mask_B1RR: Tensor


@dataclass(frozen=True)
class Laid:
    """An exemplar in its place, [B,3,R,R], its outline there [B,1,R,R] and whether that is known [B,1,1,1]."""

    image: Tensor
    outline: Tensor
    known: Tensor


def reconstruction_scene(windows: Windows, draw: Draw, mixture: Mixture, generator: torch.Generator) -> tuple[Scene, Tensor]:
    """(scene, truth [B,3,R,R]): the exemplar is the object itself, half of the time on another instance's ground.

    It is in its own light: what is left of it stays as it is, so that only in that light is what is missing the truth (docs/decisions/036).
    """
    count, size = len(draw.target), windows.images.shape[-1]
    truth, box = windows.floats(draw.target), windows.boxes[draw.target]
    used = share_of(count, OUTLINED_SHARE, generator)
    own, known = outlines_of(windows, draw.target, used)
    other = lay(windows, draw.exemplar, truth, box, mixture, used, generator)
    keep = torch.where(known > 0, own, inner_map(box, size))
    swap = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
    exemplar = torch.lerp(truth, other.image, swap * (1 - keep))
    label = where_labelled(own, known, box)
    mask, soft = hole(windows, own, known, box)

    ground, ground_box, there = windows.bare(draw.target)
    erased = there * share_of(count, mixture.erased_share, generator)
    nothing, none_soft = hole(windows, other.outline, other.known, box)
    ground_mask, ground_soft = mask_map(ground_box, size, size)
    truth = torch.where(erased > 0, ground, truth)
    box = torch.where(erased[:, 0, 0] > 0, ground_box, box)
    mask = torch.where(erased > 0, torch.where(other.known > 0, nothing, ground_mask), mask)
    soft = torch.where(erased > 0, torch.where(other.known > 0, none_soft, ground_soft), soft)
    whole = share_of(count, mixture.whole_share, generator) * (1 - erased)
    laid = Laid(exemplar, own, known)
    scene = faded_scene(windows, draw, truth, box, label * (1 - erased), (mask, soft), laid, whole, mixture, generator)
    return replace(scene, validity_B1RR=scene.validity_B1RR * (1 - erased)), truth


def transplant_scene(windows: Windows, draw: Draw, mixture: Mixture, generator: torch.Generator) -> tuple[Scene, Seen]:
    """The exemplar is another instance of the class, or parts of two, turned, bent, scaled and in the light of its place.

    On bare ground its hole is its own; where an object lies already the hole takes that in too.
    """
    count = len(draw.target)
    image, box = windows.floats(draw.target), windows.boxes[draw.target]
    mixing = share_of(count, MIXED_SHARE, generator) > 0
    used = share_of(count, OUTLINED_SHARE, generator) * all_outlined(windows, draw, mixing)
    own, own_known = outlines_of(windows, draw.target, used)
    ground, ground_box, there = windows.bare(draw.exemplar)
    bare = there * share_of(count, mixture.ground_share, generator)
    context, place = torch.where(bare > 0, ground, image), torch.where(bare[:, 0, 0] > 0, ground_box, box)

    laid, second = (lay(windows, chosen, context, place, mixture, used, generator) for chosen in (draw.exemplar, draw.second))
    join = torch.rand(count, 1, 3, 3, generator=generator)
    laid = mixed(laid, second, mixing, join, place)

    label = where_labelled(laid.outline, laid.known, place)
    follows = laid.known * torch.maximum(own_known, bare)
    holes = hole(windows, torch.maximum(laid.outline, own * (1 - bare)), follows, place)
    whole = share_of(count, mixture.whole_share, generator)
    scene = faded_scene(windows, draw, context, place, label, holes, replace(laid, known=follows), whole, mixture, generator)
    own_hole = torch.maximum(hole(windows, own, own_known, box)[0], whole)
    return scene, Seen(image, where_labelled(own, own_known, box), torch.where(bare > 0, own_hole, scene.mask_B1RR))


def mixed(first: Laid, second: Laid, where_B111: Tensor, join_B133: Tensor, box: Tensor) -> Laid:
    """Parts of the one and of the other `where` that is said; their outline is known where both are."""
    image, outline = (torch.where(where_B111, mix(a, b, join_B133, box), a) for a, b in ((first.image, second.image), (first.outline, second.outline)))
    return Laid(image, outline, first.known * torch.where(where_B111, second.known, torch.ones(())))


def where_labelled(outline: Tensor, known: Tensor, box: Tensor) -> Tensor:
    """1 on the label, [B, 1, R, R]: its outline where that is known, its box elsewhere."""
    size = outline.shape[-1]
    return torch.where(known > 0, solid(outline), box_map(box, size, size))


def share_of(count: int, share: float, generator: torch.Generator) -> Tensor:
    """1 for that share of the images, 0 for the others, [count, 1, 1, 1]."""
    return (torch.rand(count, 1, 1, 1, generator=generator) < share).float()


def all_outlined(windows: Windows, draw: Draw, mixing_B111: Tensor) -> Tensor:
    """1 where the outlines of all that a scene shows are known, [B, 1, 1, 1]: used of one side alone they tell a critic which is painted."""
    target, exemplar, second = (windows.outlined(index)[1] for index in (draw.target, draw.exemplar, draw.second))
    return target * exemplar * torch.where(mixing_B111, second, torch.ones(()))


def outlines_of(windows: Windows, index: Tensor, used_B111: Tensor) -> tuple[Tensor, Tensor]:
    """(outlines, whether known) of windows, where they are used."""
    outline, known = windows.outlined(index)
    return outline * (known * used_B111), known * used_B111


def hole(windows: Windows, outline: Tensor, known: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """(mask, soft mask): about the outline where that is known, about the box elsewhere."""
    mask, soft = mask_map(box, *outline.shape[-2:])
    if not windows.has_outlines:
        return mask, soft
    tight, tight_soft = outlined_mask(outline, mask, soft)
    return torch.where(known > 0, tight, mask), torch.where(known > 0, tight_soft, soft)


def lay(windows: Windows, chosen: Tensor, image: Tensor, box: Tensor, mixture: Mixture, used_B111: Tensor, generator: torch.Generator) -> Laid:
    """Instances laid into boxes of other windows, their ground brought to what is there."""
    source, source_box = windows.floats(chosen), windows.boxes[chosen]
    outline, known = outlines_of(windows, chosen, used_B111)
    warp, size = Warp.draw(len(box), generator, mirrored=mixture.mirrored), image.shape[-1]
    laid = warp_exemplar(source, source_box, box, warp, size, size)
    if windows.has_outlines:
        outline = warp_outline(outline, source_box, box, warp, size, size)
    fill = fill_color(image, box, torch.zeros(len(box), 1, 1, 1))
    return Laid(match_context(laid, source, source_box, fill, torch.ones(len(box))), outline, known)


def faded_scene(
    windows: Windows, draw: Draw, image: Tensor, box: Tensor, label_map: Tensor, holes: tuple[Tensor, Tensor], laid: Laid, whole: Tensor,
    mixture: Mixture, generator: torch.Generator,
) -> Scene:  # fmt: skip
    """Fades what was laid by a random novelty, and cuts it free of its ground where outlined. The mask is everywhere where `whole`."""
    count = len(image)
    validity = fade(mixture.novelty(count, generator), torch.rand(count, 1, 8, 8, generator=generator), *laid.image.shape[-2:])
    if windows.has_outlines:
        validity = torch.where((laid.known > 0) & (whole == 0), validity * outlined_mask(laid.outline, *holes)[1], validity)
    fill = fill_color(image, box, whole)
    return Scene(image, torch.maximum(holes[0], whole), torch.maximum(holes[1], whole), label_map, laid.image, validity, windows.labels[draw.target], fill)


@torch.no_grad()
def served_scene(
    learned: Windows, chosen: Tensor, contexts: Windows, at: Tensor, novelty: float, generator: torch.Generator, *, occupied: bool = True,
    mirrored: bool | None = None, second: Tensor | None = None,
) -> Scene:  # fmt: skip
    """Instances of `learned` as they would be served into the boxes of `contexts`; if those are occupied, holes take in what is there.

    Boxes that fill their windows are whole images, which are not `mirrored` unless that is said. Parts are taken from a `second` instance where that is
    another one than the first.
    """
    image, box = contexts.floats(at), contexts.boxes[at]
    count, size = len(at), image.shape[-1]
    whole = float((box[:, 2:] - box[:, :2]).min()) > WHOLE
    fill = fill_color(image, box, torch.full((count, 1, 1, 1), float(whole)))
    serve = functools.partial(laid_to_serve, learned, box=box, fill=fill, whole=whole, bend=bend_at(novelty), mirrored=mirrored, generator=generator)
    laid = serve(chosen)
    fading = torch.rand(count, 1, 8, 8, generator=generator)
    if second is not None:
        laid = mixed(laid, serve(second), (second != chosen).view(-1, 1, 1, 1), torch.rand(count, 1, 3, 3, generator=generator), box)
    own, own_known = contexts.outlined(at)
    follows = laid.known * (own_known if occupied else 1.0) * (not whole)
    mask, soft = whole_mask(count, size, size) if whole else hole(learned, torch.maximum(laid.outline, own), follows, box)
    validity = fade(torch.full((count,), novelty), fading, size, size)
    validity = torch.where(follows > 0, validity * outlined_mask(laid.outline, mask, soft)[1], validity)
    return Scene(image, mask, soft, where_labelled(laid.outline, follows, box), laid.image, validity, learned.labels[chosen], fill)


def laid_to_serve(
    windows: Windows, chosen: Tensor, *, box: Tensor, fill: Tensor, whole: bool, bend: float, mirrored: bool | None, generator: torch.Generator
) -> Laid:  # fmt: skip
    """Instances laid into boxes, their ground brought to the colours that are about those."""
    source, source_box, size = windows.floats(chosen), windows.boxes[chosen], windows.images.shape[-1]
    warp = Warp.draw(len(chosen), generator, strength=0.5 if whole else 1.0, bend=bend, mirrored=not whole if mirrored is None else mirrored)
    image = warp_exemplar(source, source_box, box, warp, size, size)
    if not whole:
        image = match_context(image, source, source_box, fill, torch.ones(len(chosen)))
    outline, known = windows.outlined(chosen)
    return Laid(image, warp_outline(outline, source_box, box, warp, size, size), known)


def inner_map(box_B4: Tensor, size: int) -> Tensor:
    """A soft ellipse inside each box: what surely belongs to the object."""
    return ((1.1 - box_grid(box_B4, size, size).norm(dim=-1)) / 0.2).clamp(0, 1)[:, None]


def complete_in_parts(generator: Generator, scene: Scene, latent_BZ: Tensor, *, at_once: int = 8) -> Tensor:
    """The finished windows [B,3,R,R], so many at a time: for more than memory is to hold the insides of the network of."""
    parts = (slice(i, i + at_once) for i in range(0, len(latent_BZ), at_once))
    return torch.cat([complete(generator, Scene(**{k: v[part] for k, v in scene.__dict__.items()}), latent_BZ[part]) for part in parts])
