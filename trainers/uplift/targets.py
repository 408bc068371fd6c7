"""What a detector's cells should say, how far they are from it, and which of its boxes stay: after FCOS.

Source: Tian et al. 2019 (arXiv:1904.01355): each cell inside a box's middle predicts its class and its distances to the four sides.
Departure: one level for objects of every size; an object's cells share the root of their number, so that large ones do not drown small ones.
Shape legend: N images, C classes, H W cells, K boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

POSITIVE_WEIGHT = 2.0
"""How much more an owned cell weighs in the class loss than an empty one, times its share."""
MIDDLE = 0.3
"""Cells within this share of an object's sides from its centre are its own."""


@dataclass(frozen=True)
class Targets:
    """Label [N,H,W], -1 for ground; log distances in strides [N,4,H,W]; centredness [N,H,W]; weight [N,H,W]. Without N for one image."""

    label: Tensor
    distance: Tensor
    centred: Tensor
    weight: Tensor

    @classmethod
    def stacked(cls, parts: list[Targets]) -> Targets:
        return cls(*(torch.stack([getattr(p, name) for p in parts]) for name in ("label", "distance", "centred", "weight")))

    def mirrored(self) -> Targets:
        """Those of the images flipped left to right."""
        return Targets(self.label.flip(-1), self.distance.flip(-1)[:, [2, 1, 0, 3]], self.centred.flip(-1), self.weight.flip(-1))


@dataclass(frozen=True)
class Said:
    """What a detector says: class logits [N,C,H,W], log distances [N,4,H,W] in strides, logits of centredness [N,1,H,W]."""

    logits: Tensor
    distance: Tensor
    centred: Tensor


def targets(boxes_K4: Tensor, labels_K: Tensor, *, height: int, width: int, stride: int) -> Targets:
    """Of one image, its boxes xyxy in pixels. The smallest box owns a cell."""
    label = torch.full((height, width), -1)
    distance, centred, weight = torch.zeros(4, height, width), torch.zeros(height, width), torch.ones(height, width)
    y = (torch.arange(height) + 0.5)[:, None] * stride
    x = (torch.arange(width) + 0.5)[None, :] * stride
    for k in (boxes_K4[:, 2:] - boxes_K4[:, :2]).prod(1).argsort(descending=True).tolist():
        x0, y0, x1, y1 = boxes_K4[k]
        sides = torch.stack(torch.broadcast_tensors(x - x0, y - y0, x1 - x, y1 - y))
        reach_x, reach_y = max(float(x1 - x0) * MIDDLE, stride), max(float(y1 - y0) * MIDDLE, stride)
        inner = (sides.amin(0) > 0) & ((x - (x0 + x1) / 2).abs() <= reach_x) & ((y - (y0 + y1) / 2).abs() <= reach_y)
        label[inner] = labels_K[k]
        distance[:, inner] = (sides[:, inner].clamp_min(1.0) / stride).log()
        ratios = (torch.minimum(sides[i], sides[i + 2]) / torch.maximum(sides[i], sides[i + 2]).clamp_min(1e-3) for i in (0, 1))
        centred[inner] = torch.stack(list(ratios)).prod(0)[inner].clamp_min(0).sqrt()
        weight[inner] = float(inner.sum().clamp_min(1)) ** -0.5
    return Targets(label, distance, centred, weight)


def loss(said: Said, wanted: Targets) -> Tensor:
    """Focal loss on classes, IoU loss on distances, cross-entropy on centredness; the last two on owned cells alone."""
    owned, classes = wanted.label >= 0, said.logits.shape[1]
    truth = F.one_hot(wanted.label.clamp_min(0), classes).permute(0, 3, 1, 2).float() * owned[:, None]
    count = torch.where(owned, wanted.weight, torch.zeros(())).sum().clamp_min(1)
    p = said.logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(said.logits, truth, reduction="none")
    miss = (1 - (p * truth + (1 - p) * (1 - truth))).square()
    cell_weight = torch.where(owned, wanted.weight * POSITIVE_WEIGHT, torch.ones(()))[:, None]
    total = (cross * miss * cell_weight).sum() / (count * POSITIVE_WEIGHT)
    if not owned.any():
        return total
    a, b = (d.permute(0, 2, 3, 1)[owned].exp() for d in (said.distance, wanted.distance))
    shared = (torch.minimum(a[:, 0], b[:, 0]) + torch.minimum(a[:, 2], b[:, 2])) * (torch.minimum(a[:, 1], b[:, 1]) + torch.minimum(a[:, 3], b[:, 3]))
    union = (a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3]) + (b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3]) - shared
    weight = wanted.weight[owned]
    total = total + ((1 - shared / union.clamp_min(1e-6)) * weight).sum() / count
    return total + F.binary_cross_entropy_with_logits(said.centred[:, 0][owned], wanted.centred[owned], weight, reduction="sum") / count


def suppress(boxes_K4: Tensor, limit: float) -> list[int]:
    """Indices kept by greedy non-maximum suppression of boxes in falling order of score."""
    size = (boxes_K4[:, 2:] - boxes_K4[:, :2]).clamp_min(0).prod(1)
    corner = torch.minimum(boxes_K4[:, None, 2:], boxes_K4[None, :, 2:]) - torch.maximum(boxes_K4[:, None, :2], boxes_K4[None, :, :2])
    shared = corner.clamp_min(0).prod(2)
    overlap = shared / (size[:, None] + size[None, :] - shared).clamp_min(1e-6)
    alive, keep = torch.ones(len(boxes_K4), dtype=torch.bool), []
    for i in range(len(boxes_K4)):
        if alive[i]:
            keep.append(i)
            alive &= overlap[i] <= limit
    return keep
