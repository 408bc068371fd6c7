"""The co-modulated conditional generator, its discriminator and the encoder of its latent.

Shape legend: B batch, H W full resolution, N channels, C classes, Z latent, S style, D features.
Images are float32 in [-1, 1]; masks, boxes and validity maps are float32 in [0, 1].

Written from the papers: co-modulation (Zhao et al. 2021, arXiv:2103.10428), projection (Miyato & Koyama 2018,
arXiv:1802.05637), residual blocks without normalisation and zero-initialised branches (R3GAN, Huang et al. 2024,
arXiv:2501.05441; Fixup, Zhang et al. 2019). The trunk works at half resolution behind a pixel-unshuffle, which on a
CPU is the largest lever on speed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.recipes import NetworkConfig

GENERATOR_CHANNELS = 9  # holed image 3, mask 1, box 1, exemplar 3, its validity 1


def conv(inputs: int, outputs: int, size: int = 3, *, gain: float = 1.0) -> nn.Conv2d:
    """A same-size convolution with weights scaled to keep the variance through a leaky ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.normal_(layer.weight, std=gain * math.sqrt(2 / (1 + 0.2**2)) / math.sqrt(inputs * size * size))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class Block(nn.Module):
    """Two convolutions on a residual branch that begins as the identity; optionally modulated by a style."""

    def __init__(self, inputs: int, outputs: int, *, style: int = 0) -> None:
        super().__init__()
        self.first = conv(inputs, outputs)
        self.second = conv(outputs, outputs, gain=0.0)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulate = nn.Linear(style, 2 * outputs) if style else None
        if self.modulate is not None:
            nn.init.normal_(self.modulate.weight, std=0.5 / math.sqrt(style))
            nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, style_BS: Tensor | None = None) -> Tensor:
        h = activate(self.first(activate(x)))
        if self.modulate is not None:
            scale, shift = self.modulate(style_BS)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + torch.tanh(scale)) + shift
        out: Tensor = self.skip(x) + self.second(h)
        return out


class Trunk(nn.Module):
    """Half-resolution pyramid of an image: features at 1/2, 1/4, 1/8 ... of the input."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = conv(channels * 4, widths[0])
        self.blocks = nn.ModuleList(Block(a, b) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True))

    def forward(self, x_BNHW: Tensor) -> list[Tensor]:
        x = self.stem(F.pixel_unshuffle(x_BNHW, 2))
        features = []
        for depth, block in enumerate(self.blocks):
            if depth:
                x = F.avg_pool2d(x, 2)
            x = block(x)
            features.append(x)
        return features


class Generator(nn.Module):
    """Predicts the residual on its base image, from the holed context, the box, the exemplar, latent and class.

    The encoder's global code joins the mapped latent and class in modulating every decoder block.
    """

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths, style = config.widths, config.style
        self.config = config
        self.embed = nn.Embedding(num_classes, style)
        self.map = nn.Sequential(
            nn.Linear(config.latent + style, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2)
        )
        self.trunk = Trunk(GENERATOR_CHANNELS, widths)
        self.code = nn.Linear(widths[-1], style)
        self.grid = config.resolution_px // 2 ** len(widths)
        self.seed = nn.Linear(config.latent + style, widths[-1] * self.grid**2)
        self.middle = Block(widths[-1], widths[-1], style=2 * style)
        self.ups = nn.ModuleList(Block(a + b, b, style=2 * style) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.narrow = conv(widths[0], 20, 1)
        self.fine = conv(20 + 3, 16)
        self.last = conv(16, 3, gain=0.1)
        nn.init.normal_(self.embed.weight, std=0.5)

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        """Residual [B,3,H,W] in (-2, 2) to be added to the base image: bounded, so that no step can throw it far away."""
        features = self.trunk(inputs_BNHW)
        wish = torch.cat([latent_BZ, self.embed(label_B)], 1)
        mapped = self.map(wish)
        style = torch.cat([mapped, activate(self.code(features[-1].mean((2, 3))))], 1)
        seed = self.seed(wish).view(len(wish), -1, self.grid, self.grid)
        x = self.middle(features[-1] + seed, style)
        for block, skip in zip(self.ups, features[-2::-1], strict=True):
            x = block(torch.cat([upsample(x), skip], 1), style)
        wide = upsample(self.narrow(activate(x)))
        out: Tensor = self.last(activate(self.fine(torch.cat([wide, inputs_BNHW[:, 5:8]], 1))))
        return 2 * torch.tanh(out / 2)


class Discriminator(nn.Module):
    """Logits for an image with its box and mask: unconditional, class projection, and the box's own features."""

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.trunk = Trunk(5, widths)
        self.final = conv(widths[-1], widths[-1])
        self.whole = nn.Linear(widths[-1], 1)
        self.crop = nn.Sequential(conv(widths[-2], widths[-2]), nn.LeakyReLU(0.2))
        self.crop_logit = nn.Linear(widths[-2], 1)
        self.embed = nn.Embedding(num_classes, widths[-2])
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor, mask_B1HW: Tensor, label_B: Tensor, fade: float) -> Tensor:
        """Logits [B]. `fade` in [0, 1] weighs the class projection (transitional cGAN, arXiv:2201.06578)."""
        features = self.trunk(torch.cat([image_B3HW, box_B1HW, mask_B1HW], 1))
        whole_BD = activate(self.final(activate(features[-1]))).mean((2, 3))
        local = self.crop(activate(features[-2]))
        weight = F.adaptive_avg_pool2d(box_B1HW, local.shape[-1]) + 1e-3
        local_BD = (local * weight).sum((2, 3)) / weight.sum((2, 3))
        projection_B = (local_BD * self.embed(label_B)).sum(1)
        out: Tensor = self.whole(whole_BD)[:, 0] + self.crop_logit(local_BD)[:, 0] + fade * projection_B
        return out


class Encoder(nn.Module):
    """Posterior over the latent of the object in the box: mean and log-variance, each [B, Z]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = tuple(w // 2 for w in config.widths)
        self.trunk = Trunk(4, widths)
        self.out = nn.Linear(widths[-1] + widths[-2], 2 * config.latent)

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(torch.cat([image_B3HW, box_B1HW], 1))
        pooled = torch.cat([activate(f).mean((2, 3)) for f in features[-2:]], 1)
        mean, log_variance = self.out(pooled).chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)


def upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
