"""The co-modulated conditional generator, its discriminator and the encoder of its latent.

Shape legend: B batch, H W full resolution, N channels, C classes, Z latent, S style, D features.
Images are float32 in [-1, 1]; masks, boxes and validity maps are float32 in [0, 1].

Every network also runs at a half, a quarter ... of its resolution, down to `smallest_px`: the levels of a pyramid keep their
meaning, and a level's own way in (a stem) and out (a tail) add to those of the coarser levels. A network trained small thus
grows by a level whose ways begin at zero, its function unchanged (see `grow`).

Written from the papers: co-modulation (Zhao et al. 2021, arXiv:2103.10428), projection (Miyato & Koyama 2018,
arXiv:1802.05637), residual blocks without normalisation and zero-initialised branches (R3GAN, Huang et al. 2024,
arXiv:2501.05441; Fixup, Zhang et al. 2019). The trunk works at half resolution behind a pixel-unshuffle, which on a
CPU is the largest lever on speed. Sums over levels: the input and output skips of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958,
section 4.2); growing: Karras et al. 2018 (arXiv:1710.10196).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

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
    """Half-resolution pyramid of an image: features at 1/2, 1/4, 1/8 ... of the full resolution.

    A smaller image enters at its own level, and the list is shorter.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], *, resolution_px: int, smallest_px: int) -> None:
        super().__init__()
        self.resolution_px = resolution_px
        inputs = (widths[0], *widths[:-1])
        self.stems = nn.ModuleList(conv(channels * 4, inputs[k]) for k in range(entries(resolution_px, smallest_px)))
        self.blocks = nn.ModuleList(Block(a, b) for a, b in zip(inputs, widths, strict=True))

    def forward(self, x_BNHW: Tensor) -> list[Tensor]:
        first = level_of(x_BNHW, self.resolution_px)
        features: list[Tensor] = []
        for level in range(first, len(self.blocks)):
            x = F.avg_pool2d(features[-1], 2) if features else None
            if level < len(self.stems):
                seen = self.stems[level](F.pixel_unshuffle(x_BNHW, 2))
                x = seen if x is None else x + seen
                x_BNHW = F.avg_pool2d(x_BNHW, 2)
            features.append(self.blocks[level](x))
        return features


class Tail(nn.Module):
    """Features at half a level's size, and the base image at its size, to a residual at its size."""

    def __init__(self, width: int, *, narrow: int, fine: int) -> None:
        super().__init__()
        self.narrow = conv(width, narrow, 1)
        self.fine = conv(narrow + 3, fine)
        self.last = conv(fine, 3, gain=0.1)

    def forward(self, x: Tensor, base_B3HW: Tensor) -> Tensor:
        wide = upsample(self.narrow(activate(x)))
        out: Tensor = self.last(activate(self.fine(torch.cat([wide, base_B3HW], 1))))
        return out


class Generator(nn.Module):
    """What every generator does: from an input (see `compose.generator_input`), a latent and a class to a residual on the base image."""

    config: NetworkConfig
    gray: Tensor

    def know_gray(self, num_classes: int) -> None:
        """Notes which classes are gray, [C]: part of the configuration, not of the weights."""
        gray = torch.tensor([label in self.config.gray_labels for label in range(num_classes)])
        self.register_buffer("gray", gray, persistent=False)

    def grayed(self, residual_B3HW: Tensor, label_B: Tensor) -> Tensor:
        """The residual, without colour where its class has none."""
        if not self.config.gray_labels:
            return residual_B3HW
        return torch.where(self.gray[label_B][:, None, None, None], residual_B3HW.mean(1, keepdim=True), residual_B3HW)

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        """Residual [B,3,H,W] in (-2, 2) to be added to the base image."""
        raise NotImplementedError


class Discriminator(nn.Module):
    """What every discriminator does: from images with their box, mask and class to logits."""

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor, mask_B1HW: Tensor, label_B: Tensor, fade: Tensor) -> Tensor:
        """Logits [B] of images that are all real or all fake. `fade` in [0, 1] weighs the class."""
        raise NotImplementedError


class ComodulatedGenerator(Generator):
    """Predicts the residual on its base image, from the holed context, the box, the exemplar, latent and class.

    The encoder's global code joins the mapped latent and class in modulating every decoder block.
    """

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths, style = config.widths, config.style
        self.config = config
        self.know_gray(num_classes)
        self.embed = nn.Embedding(num_classes, style)
        self.map = nn.Sequential(
            nn.Linear(config.latent + style, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2)
        )
        self.trunk = Trunk(GENERATOR_CHANNELS, widths, resolution_px=config.resolution_px, smallest_px=config.smallest_px)
        self.code = nn.Linear(widths[-1], style)
        self.grid = config.resolution_px // 2 ** len(widths)
        self.seed = nn.Linear(config.latent + style, widths[-1] * self.grid**2)
        self.middle = Block(widths[-1], widths[-1], style=2 * style)
        self.ups = nn.ModuleList(Block(a + b, b, style=2 * style) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        levels = entries(config.resolution_px, config.smallest_px)
        self.tails = nn.ModuleList(Tail(width, narrow=config.tail[0], fine=config.tail[1]) for width in widths[:levels])
        nn.init.normal_(self.embed.weight, std=0.5)

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        """Residual [B,3,H,W] in (-2, 2) to be added to the base image: bounded, so that no step can throw it far away."""
        first = level_of(inputs_BNHW, self.config.resolution_px)
        features = self.trunk(inputs_BNHW)
        wish = torch.cat([latent_BZ, self.embed(label_B)], 1)
        style = torch.cat([self.map(wish), activate(self.code(features[-1].mean((2, 3))))], 1)
        x = self.middle(features[-1] + self.seed(wish).unflatten(1, (-1, self.grid, self.grid)), style)
        bases = [inputs_BNHW[:, 5:8]]
        for _ in range(first + 1, len(self.tails)):
            bases.append(F.avg_pool2d(bases[-1], 2))
        out: Tensor | None = None
        deepest = len(features) + first - 1
        for level in range(deepest, first - 1, -1):
            if level < deepest:
                x = self.ups[deepest - 1 - level](torch.cat([upsample(x), features[level - first]], 1), style)
            if level < len(self.tails):
                more = self.tails[level](x, bases[level - first])
                out = more if out is None else upsample(out) + more
        assert out is not None
        return self.grayed(2 * torch.tanh(out / 2), label_B)


class ProjectionDiscriminator(Discriminator):
    """Logits for an image with its box and mask: unconditional, class projection, and the box's own features."""

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths = config.critic_widths or config.widths
        self.minibatch_std = config.minibatch_std
        self.trunk = Trunk(5, widths, resolution_px=config.resolution_px, smallest_px=config.smallest_px)
        self.final = conv(widths[-1], widths[-1])
        self.whole = nn.Linear(widths[-1] + config.minibatch_std, 1)
        self.crop = nn.Sequential(conv(widths[-2], widths[-2]), nn.LeakyReLU(0.2))
        self.crop_logit = nn.Linear(widths[-2], 1)
        self.embed = nn.Embedding(num_classes, widths[-2])
        nn.init.normal_(self.embed.weight, std=0.02)
        if config.spectral_norm:
            for layer in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
                if not layer.weight.any():  # a branch that begins at zero has no norm to divide by
                    nn.init.orthogonal_(layer.weight)
                spectral_norm(layer)

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor, mask_B1HW: Tensor, label_B: Tensor, fade: Tensor) -> Tensor:
        """Logits [B]. `fade` in [0, 1] weighs the class projection (transitional cGAN, arXiv:2201.06578)."""
        features = self.trunk(torch.cat([image_B3HW, box_B1HW, mask_B1HW], 1))
        whole_BD = activate(self.final(activate(features[-1]))).mean((2, 3))
        if self.minibatch_std:
            whole_BD = torch.cat([whole_BD, spread(features[-1])], 1)
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
        self.trunk = Trunk(4, widths, resolution_px=config.resolution_px, smallest_px=config.smallest_px)
        self.out = nn.Linear(widths[-1] + widths[-2], 2 * config.latent)

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(torch.cat([image_B3HW, box_B1HW], 1))
        pooled = torch.cat([activate(f).mean((2, 3)) for f in features[-2:]], 1)
        mean, log_variance = self.out(pooled).chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)


def spread(features_BNHW: Tensor) -> Tensor:
    """How much the features differ inside each group of up to four neighbours of a batch, [B, 1].

    Source: minibatch standard deviation, Karras et al. 2018 (arXiv:1710.10196), section 3.
    """
    count = len(features_BNHW)
    size = next(g for g in (4, 3, 2, 1) if count % g == 0)
    groups = features_BNHW.reshape(count // size, size, -1)
    deviation = (groups - groups.mean(1, keepdim=True)).square().mean(1).add(1e-8).sqrt().mean(1)
    return deviation.repeat_interleave(size)[:, None]


def entries(resolution_px: int, smallest_px: int) -> int:
    """How many sizes a network runs at: its resolution, a half of it, and so on down to the smallest."""
    return int(math.log2(resolution_px / smallest_px)) + 1


def level_of(x_BNHW: Tensor, resolution_px: int) -> int:
    """The level of the pyramid that an image of this size enters at: 0 at full resolution, 1 at a half ..."""
    return int(math.log2(resolution_px // x_BNHW.shape[-1]))


def grow(network: nn.Module, *, to_level: int) -> None:
    """Prepares a network that was trained on smaller images for those of `to_level`: its ways in and out begin at zero.

    What it computes from an image of this size is at first what it computed from the reduced one, upsampled.
    """
    for module in network.modules():
        if isinstance(module, Trunk):
            nn.init.zeros_(module.stems[to_level].weight)  # type: ignore[arg-type]
        if isinstance(module, ComodulatedGenerator):
            nn.init.zeros_(module.tails[to_level].last.weight)  # type: ignore[union-attr, arg-type]


def upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
