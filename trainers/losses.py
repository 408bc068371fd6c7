"""The adversarial and reconstruction objectives. Losses know tensors and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def relativistic_loss(real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """Mean softplus of how far a fake outscores the real image it is paired with, a scalar.

    The discriminator minimises it as given; the generator minimises it with the arguments swapped.
    Pairs share a class, so the critic is never rewarded for telling classes apart.
    Source: Jolicoeur-Martineau 2018 (arXiv:1807.00734), eq. 3, with f = softplus.
    """
    return F.softplus(fake_logits_B - real_logits_B).mean()


def gradient_penalty(logits_B: Tensor, image_B3HW: Tensor) -> Tensor:
    """Mean squared gradient norm of the logits in the image, a scalar: R1 on real images, R2 on fakes.

    `image_B3HW` must require grad and have produced `logits_B`. Source: Mescheder et al. 2018 (arXiv:1801.04406), eq. 9;
    both penalties together as in R3GAN (arXiv:2501.05441).
    """
    (gradient,) = torch.autograd.grad(logits_B.sum(), image_B3HW, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def masked_l1(image_B3HW: Tensor, target_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Mean absolute error over the mask's pixels, a scalar."""
    error = (image_B3HW - target_B3HW).abs() * mask_B1HW
    return error.sum() / (3 * mask_B1HW.sum()).clamp_min(1.0)


def kl_to_prior(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), summed over the latent, mean over the batch, in nats.

    Source: Kingma & Welling 2013 (arXiv:1312.6114), appendix B.
    """
    return 0.5 * (mean_BZ.square() + log_variance_BZ.exp() - 1 - log_variance_BZ).sum(1).mean()


def ring_loss(image_B3HW: Tensor, context_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Mean absolute jump between the image just inside the mask and the context just outside it, a scalar.

    Both are blurred over five pixels, so it asks for continuity of light and colour, not for equal pixels.
    """
    outside = 1 - mask_B1HW
    inner = F.max_pool2d(outside, 5, 1, 2) * mask_B1HW
    near_outside = F.avg_pool2d(context_B3HW * outside, 7, 1, 3)
    weight = F.avg_pool2d(outside, 7, 1, 3)
    valid = inner * (weight > 0.05)
    jump = (image_B3HW - near_outside / weight.clamp_min(0.05)).abs() * valid
    return jump.sum() / (3 * valid.sum()).clamp_min(1.0)
