"""One forward pass of the generator on a batch of prepared windows: the piece that training and serving share.

Shape legend: B batch, R network resolution, Z latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.compose import base_image, beneath, composite, generator_input
from trainers.networks import Generator


@dataclass(frozen=True)
class Scene:
    """What the generator is asked to complete: window, mask, soft mask, box, exemplar as laid, its
    validity, class, and the colour of the ground."""

    image_B3RR: Tensor
    mask_B1RR: Tensor
    soft_B1RR: Tensor
    box_B1RR: Tensor
    exemplar_B3RR: Tensor
    validity_B1RR: Tensor
    label_B: Tensor
    fill_B311: Tensor

    def base(self) -> Tensor:
        return base_image(self.exemplar_B3RR, self.validity_B1RR, self.beneath())

    def beneath(self) -> Tensor:
        return beneath(self.exemplar_B3RR, self.validity_B1RR, self.box_B1RR, self.fill_B311)


def residual(generator: Generator, scene: Scene, latent_BZ: Tensor) -> Tensor:
    """The residual [B,3,R,R] that the generator adds to the scene's base."""
    inputs = generator_input(scene.image_B3RR, scene.mask_B1RR, scene.box_B1RR, scene.base(), scene.validity_B1RR)
    out: Tensor = generator(inputs, latent_BZ, scene.label_B)
    return held(generator, out, scene.validity_B1RR)


def held(generator: Generator, residual_B3RR: Tensor, validity_B1RR: Tensor) -> Tensor:
    """The residual where the exemplar is not valid, nothing where it is: left free there a generator redraws what it should leave (docs/decisions/020).

    The plain DCGAN sees no exemplar, and makes the whole image.
    """
    return residual_B3RR if generator.config.architecture == "dcgan" else residual_B3RR * (1 - validity_B1RR)


def complete(generator: Generator, scene: Scene, latent_BZ: Tensor) -> Tensor:
    """The finished windows [B,3,R,R] in about [-1, 1]; context outside the soft mask is bit-exact."""
    return composite(scene.image_B3RR, scene.base(), residual(generator, scene, latent_BZ), scene.soft_B1RR)


def draw_latent(count: int, size: int, generator: torch.Generator, *, truncation: float | None = None) -> Tensor:
    """Latents [count, size] from the prior; each entry within `truncation` of 0, which trades variety for likeness.

    Source: the truncation trick, Brock et al. 2018 (arXiv:1809.11096), section 3.1; drawn by the inverse of the cut normal
    distribution rather than by trying again, so that every sample takes the same numbers from the stream.
    """
    if truncation is None:
        return torch.randn(count, size, generator=generator)
    edge = 0.5 * (1 + math.erf(truncation / math.sqrt(2)))
    uniform = 1 - edge + torch.rand(count, size, generator=generator) * (2 * edge - 1)
    return torch.special.ndtri(uniform).clamp(-truncation, truncation)


def interpolate(first_Z: Tensor, second_Z: Tensor, shares_B: Tensor) -> Tensor:
    """Latents [B, Z] on the great arc from the first (share 0) to the second (share 1): all are as likely as their ends.

    Source: White 2016 (arXiv:1609.04468). Ends that point the same way, or opposite ways, are joined by a straight line.
    """
    t = shares_B[:, None]
    cosine = torch.nn.functional.cosine_similarity(first_Z, second_Z, dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if float(torch.sin(angle)) < 1e-4:
        return first_Z + (second_Z - first_Z) * t
    return (torch.sin((1 - t) * angle) * first_Z + torch.sin(t * angle) * second_Z) / torch.sin(angle)
