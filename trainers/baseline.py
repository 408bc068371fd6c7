"""The floor that every figure is compared with: a plain conditional DCGAN behind the same interface.

Source: Radford et al. 2015 (arXiv:1511.06434), conditioned as in Mirza & Osindero 2014 (arXiv:1411.1784). It sees neither the
context nor an exemplar: whatever the mask uncovers of its image is what it inpaints.
Shape legend: B batch, Z latent, H W pixels, N channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longtail.recipes import NetworkConfig
from trainers.networks import Discriminator, Generator


class DcganGenerator(Generator):
    """Latent and class to an image, by transposed convolutions with batch normalisation."""

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.config = config
        self.grid = config.resolution_px // 2 ** len(widths)
        self.know_gray(num_classes)
        self.embed = nn.Embedding(num_classes, config.latent)
        self.seed = nn.Linear(2 * config.latent, widths[0] * self.grid**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for a, b in zip(widths, (*widths[1:], 3), strict=True):
            layers.append(nn.ConvTranspose2d(a, b, 4, 2, 1))
            layers += [nn.BatchNorm2d(b), nn.ReLU()] if b != 3 else [nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(small_weights)

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        """Residual [B,3,H,W] that turns the base (channels 5 to 7 of the input) into the generated image."""
        seed = self.seed(torch.cat([latent_BZ, self.embed(label_B)], 1)).unflatten(1, (-1, self.grid, self.grid))
        out: Tensor = self.layers(seed)
        return self.grayed(out - inputs_BNHW[:, 5:8], label_B)


class DcganDiscriminator(Discriminator):
    """Strided convolutions with batch normalisation; box, mask and the class, as a map of its own, are further channels.

    It is only ever shown whole batches, so its normalisation keeps no averages: gradient penalties can then be asked of it too.
    """

    def __init__(self, config: NetworkConfig, *, num_classes: int) -> None:
        super().__init__()
        widths = config.critic_widths or config.widths
        self.embed = nn.Embedding(num_classes, config.resolution_px**2)
        layers: list[nn.Module] = []
        for a, b in zip((6, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b, track_running_stats=False) if a != 6 else nn.Identity(), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, config.resolution_px // 2 ** len(widths)))
        self.apply(small_weights)

    def forward(self, image_B3HW: Tensor, box_B1HW: Tensor, mask_B1HW: Tensor, label_B: Tensor, fade: Tensor) -> Tensor:
        """Logits [B] of images that are all real or all fake, as batch normalisation wants them. `fade` is not used."""
        label = self.embed(label_B).unflatten(1, (1, *image_B3HW.shape[-2:]))
        logits: Tensor = self.layers(torch.cat([image_B3HW, box_B1HW, mask_B1HW, label], 1))
        return logits.flatten()


def small_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)
