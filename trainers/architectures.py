"""Which networks a configuration names."""

from __future__ import annotations

import torch
from torch import Tensor

from longtail.recipes import NetworkConfig
from trainers.baseline import DcganDiscriminator, DcganGenerator
from trainers.networks import ComodulatedGenerator, Discriminator, Generator, ProjectionDiscriminator


def build_generator(config: NetworkConfig, *, num_classes: int) -> Generator:
    """A generator with random weights."""
    kind = DcganGenerator if config.architecture == "dcgan" else ComodulatedGenerator
    return kind(config, num_classes=num_classes)


def build_discriminator(config: NetworkConfig, *, num_classes: int) -> Discriminator:
    """A discriminator with random weights."""
    kind = DcganDiscriminator if config.architecture == "dcgan" else ProjectionDiscriminator
    return kind(config, num_classes=num_classes)


class Silent(Generator):
    """A generator that paints nothing: what is cut away stays filled with the colours about it. Whatever is learned has to be better than that."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        return torch.zeros_like(inputs_BNHW[:, :3])
