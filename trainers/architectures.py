"""Which networks a configuration names."""

from __future__ import annotations

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
