"""Square windows around a dataset's objects, cut once and kept in memory as uint8.

Shape legend: N windows, R resolution.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from trainers.device import as_tensor


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
    """Windows [N,3,R,R] uint8, their boxes [N,4] as xyxy fractions, labels [N], and which instance each was cut from [N]."""

    images: Tensor
    boxes: Tensor
    labels: Tensor
    instances: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def floats(self, index: Tensor) -> Tensor:
        """The chosen windows as float32 in [-1, 1]."""
        return self.images[index].float().div_(127.5).sub_(1)

    def subset(self, index: Tensor) -> Windows:
        return Windows(self.images[index], self.boxes[index], self.labels[index], self.instances[index])

    def reduced(self, size: int) -> Windows:
        """The same windows at a smaller size, each pixel the mean of those it replaces."""
        if size == self.images.shape[-1]:
            return self
        small = torch.cat([F.interpolate(part.float(), size=(size, size), mode="area").round().byte() for part in self.images.split(1024)])
        return Windows(small, self.boxes, self.labels, self.instances)

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


@dataclass(frozen=True)
class Instance:
    """One labelled object: the image it lies in (HxWx3 uint8), its box in pixels, its label."""

    image: NDArray[np.uint8]
    box_xyxy: tuple[float, float, float, float]
    label: int


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


def cut_windows(instances: Sequence[Instance], *, resolution: int, per_instance: int, seed: int, fixed: bool = False) -> Windows:
    """`per_instance` windows of each instance at random margins (1.4 to 2.4) and shifts; `fixed` takes margin 1.6, centred."""
    rng = np.random.default_rng(seed)
    images, boxes, labels, owners = [], [], [], []
    for owner, instance in enumerate(instances):
        height, width = instance.image.shape[:2]
        for _ in range(per_instance):
            margin = 1.6 if fixed else float(rng.uniform(1.4, 2.4))
            shift = (0.0, 0.0) if fixed else (float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.1, 0.1)))
            left, top, side = window_around(instance.box_xyxy, width, height, margin=margin, shift=shift)
            images.append(resize(cut(instance.image, left, top, side), resolution))
            x0, y0, x1, y1 = instance.box_xyxy
            boxes.append([(x0 - left) / side, (y0 - top) / side, (x1 - left) / side, (y1 - top) / side])
            labels.append(instance.label)
            owners.append(owner)
    stacked = as_tensor(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Windows(stacked, torch.tensor(boxes, dtype=torch.float32).clamp(0, 1), torch.tensor(labels), torch.tensor(owners))


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image at size x size, Lanczos down, bicubic up."""
    method = Image.Resampling.LANCZOS if image.shape[0] > size else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((size, size), method))


def join(first: Windows, second: Windows) -> Windows:
    """Both sets in one; the second's instances are numbered after the first's."""
    offset = int(first.instances.max()) + 1 if len(first) else 0
    return Windows(
        torch.cat([first.images, second.images]),
        torch.cat([first.boxes, second.boxes]),
        torch.cat([first.labels, second.labels]),
        torch.cat([first.instances, second.instances + offset]),
    )
