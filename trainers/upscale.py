"""A small learned ×2 and ×4 upsampler for what is painted at the network's resolution into a larger window.

It learns from crops of the user's own images, each reduced and restored: by L1 alone at first, so that it is never worse than
bicubic for long, then beside a small relativistic critic of patches, so that it is not merely smooth.
Source: ESRGAN, Wang et al. 2018 (arXiv:1809.00219): residual trunk without normalisation, relativistic critic; sub-pixel
upsampling: Shi et al. 2016 (arXiv:1609.05158). Shape legend: B batch, H W low resolution, K factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.boxes import BoxXyxy
from trainers.device import as_tensor, random_stream
from trainers.losses import penalised, relativistic_loss
from trainers.networks import Block, activate, conv

FACTORS = (2, 4)
WORTH = 1.25
"""A window of more than so many times the network's resolution is upsampled by the learned stage."""
CROP_PX = 96
BATCH = 8
ALONE = 0.6
"""Share of the time in which L1 trains alone."""
ADVERSARIAL_WEIGHT = 0.01
PENALTY_WEIGHT = 0.05
RATE = 1e-3
WARM_STEPS = 30
"""The rate rises over the first steps, so that what begins as bicubic is not thrown away."""


@dataclass(frozen=True)
class UpscalerConfig:
    width: int = 24
    blocks: int = 3


class Upscaler(nn.Module):
    """Adds to the bicubic enlargement what it lacks; begins as bicubic itself."""

    def __init__(self, config: UpscalerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.head = conv(3, width)
        self.body = nn.ModuleList(Block(width, width) for _ in range(config.blocks))
        self.ups = nn.ModuleList(conv(width, 4 * width) for _ in FACTORS)
        self.outs = nn.ModuleList(conv(width, 3, gain=0.0) for _ in FACTORS)

    def forward(self, image_B3HW: Tensor, factor: int) -> Tensor:
        """[B, 3, K·H, K·W] in [-1, 1] for a factor of 2 or 4."""
        h = self.head(image_B3HW)
        for block in self.body:
            h = block(h)
        for up, out, reached in zip(self.ups, self.outs, FACTORS, strict=True):
            h = activate(F.pixel_shuffle(up(h), 2))
            if reached == factor:
                return (bicubic(image_B3HW, factor) + out(h)).clamp(-1, 1)
        raise ValueError(f"factor must be one of {FACTORS}, not {factor}")


class PatchCritic(nn.Module):
    """A logit for each patch of an image, about one in eight pixels apart."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width)
        self.layers = nn.ModuleList(conv(a, b) for a, b in itertools.pairwise(widths))
        self.out = conv(widths[-1], 1, 1)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        h = image_B3HW
        for layer in self.layers:
            h = F.avg_pool2d(activate(layer(h)), 2)
        logits: Tensor = self.out(h)
        return logits


def bicubic(image_B3HW: Tensor, factor: float) -> Tensor:
    return F.interpolate(image_B3HW, scale_factor=factor, mode="bicubic", align_corners=False).clamp(-1, 1)


def enlarge(upscaler: Upscaler | None, image_B3RR: Tensor, side: int) -> Tensor:
    """Square windows at side x side: by the learned stage where it is worth it, else bicubic; the rest of the way bicubic or by area."""
    ratio = side / image_B3RR.shape[-1]
    if upscaler is None or ratio <= WORTH:
        return F.interpolate(image_B3RR, size=(side, side), mode="bicubic", align_corners=False).clamp(-1, 1)
    large = upscaler(image_B3RR, FACTORS[0] if ratio <= FACTORS[0] * WORTH else FACTORS[1])
    if large.shape[-1] >= side:
        return F.interpolate(large, size=(side, side), mode="area")
    return F.interpolate(large, size=(side, side), mode="bicubic", align_corners=False).clamp(-1, 1)


def crops(images: Sequence[NDArray[np.uint8]], boxes: Sequence[BoxXyxy], *, size: int, count: int, seed: int) -> Tensor:
    """[N, 3, size, size] uint8 at the images' own resolution, about their boxes; none where no image is large enough."""
    rng = np.random.default_rng(seed)
    fit = [k for k, image in enumerate(images) if min(image.shape[:2]) >= size]
    found = []
    for k in (rng.choice(fit, count) if fit else ()):
        (height, width), (x0, y0, x1, y1) = images[k].shape[:2], boxes[k]
        left = int(np.clip(rng.uniform(min(x0, x1 - size), max(x0, x1 - size)), 0, width - size))
        top = int(np.clip(rng.uniform(min(y0, y1 - size), max(y0, y1 - size)), 0, height - size))
        found.append(images[k][top : top + size, left : left + size])
    stacked = np.stack(found) if found else np.zeros((0, size, size, 3), dtype=np.uint8)
    return as_tensor(stacked).permute(0, 3, 1, 2).contiguous()


def train_upscaler(
    upscaler: Upscaler, crops_N3SS: Tensor, *, seconds: float, seed: int, clock: Callable[[], float]
) -> Iterator[tuple[float, dict[str, float]]]:
    """Trains on crops for so long; yields (share of the time, figures) now and then and at the end."""
    critic = PatchCritic()
    random = random_stream(seed)
    optimizer_g = torch.optim.Adam(upscaler.parameters(), lr=RATE, betas=(0.9, 0.99))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=RATE, betas=(0.0, 0.99))
    start = reported = clock()
    done, step = 0.0, 0
    while done < 1:
        index = torch.randint(len(crops_N3SS), (BATCH,), generator=random)
        truth = crops_N3SS[index].float().div_(127.5).sub_(1)
        if step % 2:
            truth = truth.flip(3)
        factor = FACTORS[step // 2 % 2]
        for group in (*optimizer_g.param_groups, *optimizer_d.param_groups):
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_STEPS)
        figures = upscaler_step(upscaler, critic, (optimizer_g, optimizer_d), truth, factor, adversarial=done > ALONE, penalise=step % 4 == 0)
        step += 1
        now = clock()
        done = min(1.0, (now - start) / max(seconds, 1e-9))
        if now - reported >= 2.0 or done >= 1:
            reported = now
            yield done, {k: float(v) for k, v in figures.items()}


@torch.no_grad()
def gain(upscaler: Upscaler, crops_N3SS: Tensor, factor: int) -> float:
    """How much smaller the error is than bicubic's on crops that it did not learn from, as a share of it; negative if larger."""
    truth = crops_N3SS.float().div_(127.5).sub_(1)
    small = F.avg_pool2d(truth, factor)
    ours, plain = (float((made - truth).abs().mean()) for made in (upscaler(small, factor), bicubic(small, factor)))
    return 1 - ours / max(plain, 1e-6)


def sharpened(
    crops_N3SS: Tensor, held_N3SS: Tensor, *, seconds: float, seed: int, clock: Callable[[], float], told: Callable[[float, dict[str, float]], None]
) -> tuple[Upscaler | None, dict[int, float]]:
    """(upsampler, its gain over bicubic on held-out crops for each factor): trained for so long, kept where it is better; `told` of each report.

    None where there are no crops, or none held out to tell.
    """
    if not len(crops_N3SS) or not len(held_N3SS) or not seconds:
        return None, {}
    torch.manual_seed(seed)
    upscaler = Upscaler(UpscalerConfig())
    for done, figures in train_upscaler(upscaler, crops_N3SS, seconds=seconds, seed=seed, clock=clock):
        told(done, figures)
    gains = {factor: gain(upscaler, held_N3SS, factor) for factor in FACTORS}
    return (upscaler if min(gains.values()) > 0 else None), gains


def upscaler_step(
    upscaler: Upscaler, critic: PatchCritic, optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer], truth_B3SS: Tensor, factor: int, *,
    adversarial: bool, penalise: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """One update of the upsampler and, beside an adversary, one of the critic before it."""
    small = F.avg_pool2d(truth_B3SS, factor)
    made = upscaler(small, factor)
    l1 = (made - truth_B3SS).abs().mean()
    loss, figures = l1, {"l1": l1.detach()}
    if adversarial:
        figures["critic"] = critic_step(critic, optimizers[1], truth_B3SS, made.detach(), penalise=penalise)
        critic.requires_grad_(False)
        with torch.no_grad():
            real = critic(truth_B3SS)
        loss = loss + ADVERSARIAL_WEIGHT * relativistic_loss(critic(made).flatten(), real.flatten())
        critic.requires_grad_(True)
    update(optimizers[0], loss, upscaler)
    return figures


def critic_step(critic: PatchCritic, optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor, *, penalise: bool) -> Tensor:
    loss = relativistic_loss(critic(real).flatten(), critic(fake).flatten())
    if penalise:
        loss = loss + PENALTY_WEIGHT / 2 * penalised(lambda x: critic(x).sum((1, 2, 3)), real)[1].mean()
    update(optimizer, loss, critic)
    return loss.detach()


def update(optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    """One step, gradients clipped in norm; none where they are not finite."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    if bool(torch.isfinite(norm)):
        optimizer.step()
