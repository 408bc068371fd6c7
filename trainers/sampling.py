"""One forward pass of the generator on a batch of prepared windows: the piece that training and serving share.

Shape legend: B batch, R network resolution, Z latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.compose import base_image, composite, generator_input
from trainers.networks import Generator


@dataclass(frozen=True)
class Scene:
    """What the generator is asked to complete: window, mask, soft mask, box, exemplar as degraded, its
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
        return base_image(self.exemplar_B3RR, self.validity_B1RR, self.fill_B311)


def residual(generator: Generator, scene: Scene, latent_BZ: Tensor) -> Tensor:
    """The residual [B,3,R,R] that the generator adds to the scene's base."""
    inputs = generator_input(scene.image_B3RR, scene.mask_B1RR, scene.box_B1RR, scene.base(), scene.validity_B1RR)
    out: Tensor = generator(inputs.contiguous(memory_format=torch.channels_last), latent_BZ, scene.label_B)
    return out


def complete(generator: Generator, scene: Scene, latent_BZ: Tensor) -> Tensor:
    """The finished windows [B,3,R,R] in about [-1, 1]; context outside the soft mask is bit-exact."""
    return composite(scene.image_B3RR, scene.base(), residual(generator, scene, latent_BZ), scene.soft_B1RR)
