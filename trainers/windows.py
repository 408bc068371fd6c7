"""Square windows around a dataset's objects, cut once and kept in memory as uint8.

Shape legend: N windows, R resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from longtail.boxes import BoxXyxy
from longtail.placement import place
from trainers.device import as_tensor

GROUND_TRIES = 3
GRAY = 0.08
"""Channels that differ by no more than this, ten steps of 255, are one gray: what a codec leaves of it."""
SEEN = 0.1
"""An outline that covers less than this of every pixel of its window is none."""


@dataclass(frozen=True)
class Groups:
    """Windows in order of class, then of instance, so that a batch can be drawn without leaving the device.

    `order` [N] are their indices; a class begins at `starts` [C] and has `counts` [C]; the instance of the window in place p
    begins at `own_starts` [N] and has `own_counts` [N].
    """

    order: Tensor
    starts: Tensor
    counts: Tensor
    own_starts: Tensor
    own_counts: Tensor


@dataclass(frozen=True)
class Windows:
    """Windows [N,3,R,R] uint8, their boxes [N,4] as xyxy fractions, labels [N], and which instance each was cut from [N].

    `outlines` [N,1,R,R] uint8 are the objects' own, 255 inside, all 0 where none is known. `grounds` [N,3,R,R] and their `ground_boxes`
    [N,4] show places where nothing is, of the object's size; a box of zeros says that there was none.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    instances: Tensor
    outlines: Tensor
    grounds: Tensor
    ground_boxes: Tensor

    @classmethod
    def plain(cls, images: Tensor, boxes: Tensor, labels: Tensor, instances: Tensor) -> Windows:
        """Windows of which boxes are all that is known."""
        none = torch.zeros((), dtype=torch.uint8, device=images.device)
        return cls(images, boxes, labels, instances, none.expand_as(images[:, :1]), none.expand_as(images), torch.zeros_like(boxes))

    def __len__(self) -> int:
        return len(self.labels)

    def floats(self, index: Tensor) -> Tensor:
        """The chosen windows as float32 in [-1, 1]."""
        return self.images[index].float().div_(127.5).sub_(1)

    def outlined(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """(outlines [B,1,R,R] as float32 in [0, 1], 1 where there is one [B,1,1,1])."""
        outline = self.outlines[index].float().div_(255)
        return outline, (outline.amax((1, 2, 3), keepdim=True) > SEEN).float()

    @functools.cached_property
    def has_outlines(self) -> bool:
        """Whether any outline is known; where none is, nothing needs to be done for them."""
        return bool(self.outlines.any())

    def bare(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(ground windows as float32 in [-1, 1], their boxes, 1 where there is one [B,1,1,1])."""
        boxes = self.ground_boxes[index]
        return self.grounds[index].float().div_(127.5).sub_(1), boxes, (boxes.amax(1) > 0).float()[:, None, None, None]

    def emptied(self) -> Windows:
        """The grounds as windows of their own, for those objects that have one."""
        there = torch.nonzero(self.ground_boxes.amax(1) > 0)[:, 0]
        return Windows.plain(self.grounds[there], self.ground_boxes[there], self.labels[there], self.instances[there])

    def subset(self, index: Tensor) -> Windows:
        return Windows(**{name: value[index] for name, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def reduced(self, size: int) -> Windows:
        """The same windows at a smaller size, each pixel the mean of those it replaces."""
        if size == self.images.shape[-1]:
            return self
        small = {name: reduce(getattr(self, name), size) for name in ("images", "outlines", "grounds")}
        return replace(self, **small)

    @functools.cached_property
    def groups(self) -> Groups:
        key = self.labels * (int(self.instances.max()) + 1) + self.instances
        order = torch.argsort(key, stable=True)
        _, counts = torch.unique_consecutive(self.labels[order], return_counts=True)
        _, own, own_counts = torch.unique_consecutive(key[order], return_inverse=True, return_counts=True)
        return Groups(order, counts.cumsum(0) - counts, counts, (own_counts.cumsum(0) - own_counts)[own], own_counts[own])

    def by_class(self) -> dict[int, Tensor]:
        """Indices of each class's windows."""
        return {int(c): torch.nonzero(self.labels == c)[:, 0] for c in self.labels.unique()}


def chroma(image_B3HW: Tensor) -> Tensor:
    """How far the channels of an image in [-1, 1] differ anywhere, [B]."""
    return (image_B3HW.amax(1) - image_B3HW.amin(1)).amax((1, 2))


def gray_labels(windows: Windows) -> tuple[int, ...]:
    """The classes of which no window has a colour."""
    return tuple(label for label, index in windows.by_class().items() if all(bool((chroma(windows.floats(i)) <= GRAY).all()) for i in index.split(256)))


def reduce(images: Tensor, size: int) -> Tensor:
    return torch.cat([F.interpolate(part.float(), size=(size, size), mode="area").round().byte() for part in images.split(1024)])


@dataclass(frozen=True)
class Instance:
    """One labelled object: the image it lies in (HxWx3 uint8), its box in pixels, its label.

    `outline`, where it is known, is that part of its mask that `box_pixels` of its box covers; `estimated` says that nobody drew it, so that
    the object lies in its box as it does in its image and no label gets a mask from it. `ground` is a place of its size where nothing is:
    an image and a box.
    """

    image: NDArray[np.uint8]
    box_xyxy: BoxXyxy
    label: int
    outline: NDArray[np.bool_] | None = None
    ground: tuple[NDArray[np.uint8], BoxXyxy] | None = None
    estimated: bool = False


def window_around(
    box_xyxy: tuple[float, float, float, float], width: int, height: int, *, margin: float, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[int, int, int]:
    """(left, top, side) in pixels of a square window `margin` times the box's longer side, moved to lie inside the image.

    A window never leaves the image: near a border the box lies off-centre instead, so that nothing has to be invented.
    Where the image is smaller than the window, the window is the image's shorter side, unless the box is longer.
    """
    x0, y0, x1, y1 = box_xyxy
    longest = max(x1 - x0, y1 - y0)
    side = round(min(max(longest * margin, 8), max(min(width, height), longest)))
    left = (x0 + x1) / 2 - side / 2 + shift[0] * side
    top = (y0 + y1) / 2 - side / 2 + shift[1] * side
    left = min(max(left, x1 - side, 0), max(min(x0, width - side), 0))
    top = min(max(top, y1 - side, 0), max(min(y0, height - side), 0))
    return round(left), round(top), side


def cut(image: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """The window's pixels [side, side, 3]; beyond the image its edge is repeated."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns[None, :]]


def box_pixels(box_xyxy: BoxXyxy) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches: left, top, right, bottom."""
    x0, y0, x1, y1 = box_xyxy
    return max(0, math.floor(x0)), max(0, math.floor(y0)), math.ceil(x1), math.ceil(y1)


def cut_outline(outline: NDArray[np.bool_], box_xyxy: BoxXyxy, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """The part of a window [side, side] that an object's outline covers: 255 there, 0 elsewhere."""
    window = np.zeros((side, side), dtype=np.uint8)
    x, y, _, _ = box_pixels(box_xyxy)
    height, width = outline.shape
    rows, columns = slice(max(0, y - top), max(0, y - top + height)), slice(max(0, x - left), max(0, x - left + width))
    seen = outline[max(0, top - y) :, max(0, left - x) :]
    place = window[rows, columns]
    place[:] = seen[: place.shape[0], : place.shape[1]] * np.uint8(255)
    return window


def cut_windows(instances: Sequence[Instance], *, resolution: int, per_instance: int, seed: int, fixed: bool = False) -> Windows:
    """`per_instance` windows of each instance at random margins (1.4 to 2.4) and shifts; `fixed` takes margin 1.6, centred."""
    rng = np.random.default_rng(seed)
    count, size = len(instances) * per_instance, resolution
    images, grounds = np.zeros((2, count, size, size, 3), dtype=np.uint8)
    outlines = np.zeros((count, size, size), dtype=np.uint8)
    boxes, ground_boxes = np.zeros((2, count, 4), dtype=np.float32)
    for k in range(count):
        instance = instances[k // per_instance]
        margin = 1.6 if fixed else float(rng.uniform(1.4, 2.4))
        shift = (0.0, 0.0) if fixed else (float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.1, 0.1)))
        images[k], boxes[k], where = cut_one(instance.image, instance.box_xyxy, size, margin, shift)
        if instance.outline is not None:
            outlines[k] = resize(cut_outline(instance.outline, instance.box_xyxy, *where), size)
        if instance.ground is not None:
            grounds[k], ground_boxes[k], _ = cut_one(*instance.ground, size, margin, shift)
    seen, bare = (as_tensor(found).permute(0, 3, 1, 2).contiguous() for found in (images, grounds))
    labels = torch.tensor([i.label for i in instances], dtype=torch.long).repeat_interleave(per_instance)
    owners = torch.arange(len(instances)).repeat_interleave(per_instance)
    return Windows(seen, as_tensor(boxes), labels, owners, as_tensor(outlines)[:, None], bare, as_tensor(ground_boxes))


def cut_one(
    image: NDArray[np.uint8], box_xyxy: BoxXyxy, resolution: int, margin: float, shift: tuple[float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], tuple[int, int, int]]:
    """(window, its box as fractions, where it was cut: left, top, side)."""
    height, width = image.shape[:2]
    left, top, side = window_around(box_xyxy, width, height, margin=margin, shift=shift)
    box = (np.array(box_xyxy, dtype=np.float32) - np.array([left, top, left, top], dtype=np.float32)) / side
    return resize(cut(image, left, top, side), resolution), box.clip(0, 1), (left, top, side)


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image at size x size, Lanczos down, bicubic up."""
    method = Image.Resampling.LANCZOS if image.shape[0] > size else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).resize((size, size), method))


def join(first: Windows, second: Windows) -> Windows:
    """Both sets in one; the second's instances are numbered after the first's."""
    offset = int(first.instances.max()) + 1 if len(first) else 0
    ours, theirs = first._tensors(), second._tensors() | {"instances": second.instances + offset}
    return Windows(**{name: torch.cat([ours[name], theirs[name]]) for name in ours})


def on_grounds(
    instances: Sequence[Instance], images: Sequence[NDArray[np.uint8]], occupied: Sequence[Sequence[BoxXyxy]], rng: np.random.Generator
) -> list[Instance]:
    """The instances, each with a place of its size in one of the images that none of its `occupied` boxes touches.

    Where a few tries find none, an instance has no ground.
    """
    found = []
    for instance in instances:
        x0, y0, x1, y1 = instance.box_xyxy
        for i in rng.permutation(len(images))[:GROUND_TRIES]:
            height, width = images[i].shape[:2]
            box = place((x1 - x0, y1 - y0), occupied[i], images[i], rng) if x1 - x0 < width and y1 - y0 < height else None
            if box is not None:
                instance = replace(instance, ground=(images[i], box))
                break
        found.append(instance)
    return found
