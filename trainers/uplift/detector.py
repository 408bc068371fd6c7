"""The quick reference detector: a head trained on cached features of a frozen EfficientNet-lite0.

Anchor-free, one level at stride 8, after FCOS (Tian et al. 2019, arXiv:1904.01355): each cell inside a box's middle
predicts its class and its distances to the four sides. It is quick, not strong: only the head learns, which is said
wherever its figures are shown.

Shape legend: N images, D feature channels, H W cells, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.quality.features import backbone, normalise

STRIDE = 8
TAPS = (4, 10, 15)
CHANNELS = 64
LONG_SIDE_PX = 384
MAX_DETECTIONS = 100
POSITIVE_WEIGHT = 2.0
"""How much more an owned cell weighs in the class loss than an empty one, times its share."""


@dataclass(frozen=True)
class Scene:
    """One image's cached features [D,H,W] half precision, its boxes [K,4] xyxy in network pixels, its labels [K].

    `scale` [4] is network pixels for each source pixel, in x, y, x, y: sides are rounded to the network's stride.
    """

    maps: Tensor
    boxes: Tensor
    labels: Tensor
    scale: Tensor


@torch.no_grad()
def cache_scene(pixels: NDArray[np.uint8], boxes_xyxy: list[tuple[float, ...]], labels: list[int]) -> Scene:
    """Features at strides 8, 16 and 32, brought to stride 8, of the image at `LONG_SIDE_PX`."""
    height, width = pixels.shape[:2]
    shrink = LONG_SIDE_PX / max(height, width)
    size = (max(32, round(width * shrink / 32) * 32), max(32, round(height * shrink / 32) * 32))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    net = backbone()
    x = normalise(torch.from_numpy(small.copy()).permute(2, 0, 1)[None]).contiguous(memory_format=torch.channels_last)
    x = net._swish(net._bn0(net._conv_stem(x)))  # type: ignore[operator]
    taps = []
    for index, block in enumerate(net._blocks):  # type: ignore[arg-type]
        x = block(x)
        if index in TAPS:
            taps.append(x)
    cells = taps[0].shape[-2:]
    joined = torch.cat([F.interpolate(t, size=cells, mode="bilinear", align_corners=False) for t in taps], 1)
    scale = torch.tensor([size[0] / width, size[1] / height] * 2)
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4) * scale
    return Scene(joined[0].half(), boxes, torch.tensor(labels, dtype=torch.long), scale)


class Head(nn.Module):
    """Class logits [N,C,H,W], log distances [N,4,H,W] in strides and centredness [N,1,H,W]."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.neck = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 1), nn.GroupNorm(8, CHANNELS), nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.GroupNorm(8, CHANNELS), nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.GroupNorm(8, CHANNELS), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Conv2d(CHANNELS, num_classes + 5, 3, padding=1)
        nn.init.normal_(self.out.weight, std=0.01)
        prior = [-4.6] * num_classes  # a prior of 1 %, so that empty cells do not swamp the start
        self.out.bias = nn.Parameter(torch.tensor(prior + [0.0] * 5))
        self.num_classes = num_classes

    def forward(self, maps_NDHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.out(self.neck(maps_NDHW))
        c = self.num_classes
        return out[:, :c], out[:, c : c + 4].clamp(-4, 6), out[:, c + 4 :]


def targets(scene: Scene, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(label [H,W], -1 for background; log distances [4,H,W]; centredness [H,W]; weight [H,W]).

    The smallest box owns a cell. An object of n cells weighs the root of n, so that large ones do not drown small ones.
    """
    label = torch.full((height, width), -1)
    distance, centred, weight = torch.zeros(4, height, width), torch.zeros(height, width), torch.ones(height, width)
    y = (torch.arange(height) + 0.5)[:, None] * STRIDE
    x = (torch.arange(width) + 0.5)[None, :] * STRIDE
    sizes = (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1)
    for k in sizes.argsort(descending=True).tolist():
        x0, y0, x1, y1 = scene.boxes[k]
        sides = torch.stack(torch.broadcast_tensors(x - x0, y - y0, x1 - x, y1 - y))
        reach_x, reach_y = max(float(x1 - x0) * 0.3, STRIDE), max(float(y1 - y0) * 0.3, STRIDE)
        inner = (sides.amin(0) > 0) & ((x - (x0 + x1) / 2).abs() <= reach_x) & ((y - (y0 + y1) / 2).abs() <= reach_y)
        label[inner] = scene.labels[k]
        distance[:, inner] = (sides[:, inner].clamp_min(1.0) / STRIDE).log()
        ratio = (torch.minimum(sides[0], sides[2]) / torch.maximum(sides[0], sides[2]).clamp_min(1e-3)) * (
            torch.minimum(sides[1], sides[3]) / torch.maximum(sides[1], sides[3]).clamp_min(1e-3)
        )
        centred[inner] = ratio[inner].clamp_min(0).sqrt()
        weight[inner] = float(inner.sum().clamp_min(1)) ** -0.5
    return label, distance, centred, weight


def train_head(scenes: list[Scene], *, num_classes: int, steps: int, seed: int, batch: int = 8, rate: float = 4e-3) -> Head:
    """A head after that many steps; the same for the same scenes and seed. Flips left to right at random."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    head = Head(scenes[0].maps.shape[0], num_classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    cells = [targets(s, *s.maps.shape[-2:]) for s in scenes]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, s in enumerate(scenes):
        by_shape.setdefault(tuple(s.maps.shape[-2:]), []).append(i)
    groups = list(by_shape.values())
    weights = torch.tensor([float(len(g)) for g in groups])
    for _ in range(steps):
        group = groups[int(torch.multinomial(weights, 1, generator=random))]
        picks = [group[i] for i in torch.randint(len(group), (batch,), generator=random).tolist()]
        maps = torch.stack([scenes[i].maps for i in picks]).float()
        label, distance, centred, weight = (torch.stack([cells[i][k] for i in picks]) for k in range(4))
        if torch.rand((), generator=random) < 0.5:
            maps, label, centred, weight = maps.flip(-1), label.flip(-1), centred.flip(-1), weight.flip(-1)
            distance = distance.flip(-1)[:, [2, 1, 0, 3]]
        optimizer.zero_grad()
        head_loss(head, maps, label, distance, centred, weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return head.eval()


def head_loss(head: Head, maps: Tensor, label: Tensor, distance: Tensor, centred: Tensor, weight: Tensor) -> Tensor:
    """Focal loss on classes, IoU loss on distances, cross-entropy on centredness; the last two on owned cells alone."""
    logits, predicted, middle = head(maps)
    owned = label >= 0
    truth = F.one_hot(label.clamp_min(0), head.num_classes).permute(0, 3, 1, 2).float() * owned[:, None]
    share = torch.where(owned, weight, torch.zeros(()))
    count = share.sum().clamp_min(1)
    p = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = (1 - (p * truth + (1 - p) * (1 - truth))).square()
    cell_weight = torch.where(owned, weight * POSITIVE_WEIGHT, torch.ones(()))[:, None]
    loss = (cross * miss * cell_weight).sum() / (count * POSITIVE_WEIGHT)
    if owned.any():
        a, b = predicted.permute(0, 2, 3, 1)[owned].exp(), distance.permute(0, 2, 3, 1)[owned].exp()
        shared = (torch.minimum(a[:, 0], b[:, 0]) + torch.minimum(a[:, 2], b[:, 2])) * (torch.minimum(a[:, 1], b[:, 1]) + torch.minimum(a[:, 3], b[:, 3]))
        union = (a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3]) + (b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3]) - shared
        loss = loss + ((1 - shared / union.clamp_min(1e-6)) * weight[owned]).sum() / count
        loss = loss + F.binary_cross_entropy_with_logits(middle[:, 0][owned], centred[owned], weight[owned], reduction="sum") / count
    return loss


@torch.no_grad()
def detect(head: Head, scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    """(boxes [K,4] xyxy in source pixels, scores [K], labels [K]) after per-class suppression at IoU 0.6."""
    logits, distance, middle = head(scene.maps[None].float())
    height, width = scene.maps.shape[-2:]
    scores = (logits.sigmoid() * middle.sigmoid()).sqrt()[0].flatten(1)
    y, x = torch.meshgrid((torch.arange(height) + 0.5) * STRIDE, (torch.arange(width) + 0.5) * STRIDE, indexing="ij")
    sides = distance[0].exp().flatten(1) * STRIDE
    boxes = torch.stack([x.flatten() - sides[0], y.flatten() - sides[1], x.flatten() + sides[2], y.flatten() + sides[3]], 1)
    kept: list[tuple[Tensor, Tensor, int]] = []
    for c in range(head.num_classes):
        top = scores[c].topk(min(200, scores.shape[1]))
        candidates = boxes[top.indices][top.values > 0.05]
        values = top.values[top.values > 0.05]
        keep = suppress(candidates, 0.6)
        kept += [(candidates[i], values[i], c) for i in keep]
    kept.sort(key=lambda item: -float(item[1]))
    kept = kept[:MAX_DETECTIONS]
    if not kept:
        return torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    return torch.stack([k[0] for k in kept]) / scene.scale, torch.stack([k[1] for k in kept]), torch.tensor([k[2] for k in kept])


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
