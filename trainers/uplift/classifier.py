"""The reference classifiers: a linear probe on frozen EfficientNet-lite0 features, and the same network with its later blocks fine-tuned.

Batches are balanced over the classes, in every arm alike: what more images of a rare class are worth beyond showing its few more often.
Shape legend: N images, C classes, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.device import as_tensor, random_stream
from trainers.quality.consistency import fit
from trainers.quality.features import backbone
from trainers.uplift.backbone import SmallTrunk, Weights, both_ways, later_blocks, layer

SIDE_PX = 128
WIDE = 1280
BATCH = 16
RATE = 1e-3
HEAD_RATE = 4e-3
CLIP = 5.0
DROPOUT = 0.2
Labels = NDArray[np.int64]


def squared(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The image squeezed to a square."""
    return np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR))


def pictures(images: Sequence[NDArray[np.uint8]], *, side_px: int = SIDE_PX, weights: Weights = "pretrained") -> Tensor:
    """[N,2,D,H,W]: what the frozen blocks see of each and of its mirror image or, for a network from random weights, pixels."""
    return torch.stack(both_ways([squared(i, side_px) for i in images], weights))


class Classifier(nn.Module):
    """From pictures to logits [N,C]."""

    def __init__(self, num_classes: int, *, weights: Weights = "pretrained") -> None:
        super().__init__()
        self.pretrained = weights == "pretrained"
        if self.pretrained:
            net = backbone()
            self.later: nn.Module = nn.Sequential(*later_blocks(len(net._blocks)))  # type: ignore[arg-type]
            self.last = nn.Conv2d(320, WIDE, 1, bias=False)
            self.last.load_state_dict(net._conv_head.state_dict())  # type: ignore[union-attr]
            self.norm = nn.BatchNorm2d(WIDE, eps=net._bn1.eps).eval()  # type: ignore[union-attr,arg-type]
            self.norm.load_state_dict(net._bn1.state_dict())  # type: ignore[union-attr]
            self.logits = nn.Linear(WIDE, num_classes)
        else:
            wide = SmallTrunk.CHANNELS
            self.later = nn.Sequential(SmallTrunk(), layer(wide, 128, 2), layer(128, 128, 1))
            self.last, self.norm = nn.Conv2d(128, 256, 1, bias=False), nn.GroupNorm(8, 256)  # type: ignore[assignment]
            self.logits = nn.Linear(256, num_classes)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def features(self, maps_NDHW: Tensor) -> Tensor:
        x = maps_NDHW.float() if self.pretrained else maps_NDHW
        return F.relu6(self.norm(self.last(self.later(x)))).mean((2, 3))

    def forward(self, maps_NDHW: Tensor) -> Tensor:
        return self.logits(F.dropout(self.features(maps_NDHW), DROPOUT, self.logits.training))


def train_classifier(
    maps_N2DHW: Tensor, labels_N: Labels, *, num_classes: int, steps: int, seed: int, batch: int = BATCH, weights: Weights = "pretrained"
) -> Classifier:
    """A classifier after that many steps, the same for the same images and seed; half of the batches are mirrored."""
    torch.manual_seed(seed)
    random = random_stream(seed)
    model = Classifier(num_classes, weights=weights).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = list(model.logits.parameters())
    rest = [p for p in model.parameters() if p.requires_grad and all(p is not h for h in heads)]
    rates = [HEAD_RATE if model.pretrained else RATE, RATE]
    optimizer = torch.optim.AdamW([{"params": heads, "lr": rates[0]}, {"params": rest, "lr": rates[1]}], weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.15)
    groups = [torch.from_numpy(np.flatnonzero(labels_N == c)) for c in range(num_classes) if (labels_N == c).any()]
    truth = as_tensor(labels_N)
    for _ in range(steps):
        classes = torch.randint(len(groups), (batch,), generator=random).tolist()
        draws = torch.rand(batch, generator=random).tolist()
        picks = torch.tensor([int(groups[c][int(u * len(groups[c]))]) for c, u in zip(classes, draws, strict=True)])
        mirrored = int(torch.rand((), generator=random) < 0.5)
        maps = maps_N2DHW[picks, mirrored]
        optimizer.zero_grad()
        F.cross_entropy(model(maps), truth[picks]).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    model.logits.eval()
    return model


@torch.no_grad()
def classify(model: Classifier, maps_N2DHW: Tensor, *, batch: int = 64) -> Labels:
    """The likeliest class [N] of each."""
    found: Labels = torch.cat([model(maps_N2DHW[i : i + batch, 0]).argmax(1) for i in range(0, len(maps_N2DHW), batch)]).cpu().numpy()
    return found


@torch.no_grad()
def frozen_features(maps_N2DHW: Tensor, *, batch: int = 64) -> NDArray[np.float32]:
    """[N,1280], unit length: the pretrained network's own, for the linear probe."""
    model = Classifier(1).eval()
    joined = torch.cat([model.features(maps_N2DHW[i : i + batch, 0]) for i in range(0, len(maps_N2DHW), batch)])
    return (joined / joined.norm(dim=1, keepdim=True).clamp_min(1e-6)).cpu().numpy()


def probe(train_ND: NDArray[np.float32], labels_N: Labels, test_MD: NDArray[np.float32], *, num_classes: int) -> Labels:
    """What a balanced logistic regression on features says of the test images [M]."""
    found: Labels = fit(train_ND, labels_N, classes=num_classes).probabilities(test_MD).argmax(1)
    return found
