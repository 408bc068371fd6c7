"""The adversarial and reconstruction objectives. Losses know tensors and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.recipes import Loss

LIVELY = 0.12
"""Mean difference in [-1, 1] that a new latent is asked to make, 15 of 255 levels: what it makes in the shipped foundation."""

def relativistic_loss(real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """Mean softplus of how far a fake outscores the real image it is paired with, a scalar.

    The discriminator minimises it as given; the generator minimises it with the arguments swapped.
    Pairs share a class, so the critic is never rewarded for telling classes apart.
    Source: Jolicoeur-Martineau 2018 (arXiv:1807.00734), eq. 3, with f = softplus.
    """
    return F.softplus(fake_logits_B - real_logits_B).mean()


def hinge_loss(real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """What the discriminator minimises: mean of max(0, 1 - real) + max(0, 1 + fake), a scalar.

    The generator then maximises its mean logit. Source: Lim & Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), eq. 16.
    """
    return (F.relu(1 - real_logits_B) + F.relu(1 + fake_logits_B)).mean()


def logistic_loss(real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """What the discriminator minimises: mean of softplus(-real) + softplus(fake), a scalar.

    The generator then minimises softplus(-fake), the non-saturating form. Source: Goodfellow et al. 2014 (arXiv:1406.2661), section 3.
    """
    return (F.softplus(-real_logits_B) + F.softplus(fake_logits_B)).mean()


def discriminator_loss(kind: Loss, real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """What the discriminator minimises under each of the objectives."""
    if kind == "hinge":
        return hinge_loss(real_logits_B, fake_logits_B)
    if kind == "non_saturating":
        return logistic_loss(real_logits_B, fake_logits_B)
    return relativistic_loss(real_logits_B, fake_logits_B)


def generator_loss(kind: Loss, real_logits_B: Tensor, fake_logits_B: Tensor) -> Tensor:
    """What the generator minimises under each of the objectives."""
    if kind == "hinge":
        return -fake_logits_B.mean()
    if kind == "non_saturating":
        return F.softplus(-fake_logits_B).mean()
    return relativistic_loss(fake_logits_B, real_logits_B)


def penalised(critic: Callable[[Tensor], Tensor], image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """(logits [B], squared norm of each logit's gradient in its image [B]), both differentiable in the critic's weights.

    The mean over real images is R1, over fakes R2. Source: Mescheder et al. 2018 (arXiv:1801.04406), eq. 9; both together as in
    R3GAN (arXiv:2501.05441). By `torch.func`, which survives whole-step compilation; `autograd.grad` does not.
    """

    def total(image: Tensor) -> tuple[Tensor, Tensor]:
        logits = critic(image)
        return logits.sum(), logits

    gradient, logits_B = torch.func.grad(total, has_aux=True)(image_B3HW)
    return logits_B, gradient.float().square().sum((1, 2, 3))


def masked_l1(image_B3HW: Tensor, target_B3HW: Tensor, weight_B1HW: Tensor, *, area_B1HW: Tensor | None = None) -> Tensor:
    """Absolute error times the weight, a scalar: its mean over the pixels of `area_B1HW`, by default of the weight itself."""
    error = (image_B3HW - target_B3HW).abs() * weight_B1HW
    return error.sum() / (3 * (weight_B1HW if area_B1HW is None else area_B1HW).sum()).clamp_min(1.0)


def kl_to_prior(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), summed over the latent, mean over the batch, in nats.

    Source: Kingma & Welling 2013 (arXiv:1312.6114), appendix B.
    """
    return 0.5 * (mean_BZ.square() + log_variance_BZ.exp() - 1 - log_variance_BZ).sum(1).mean()


def alike(image_B3HW: Tensor, free_B1HW: Tensor) -> Tensor:
    """How much two answers to one scene lack of `LIVELY`, of 1, a scalar; the second half of the batch shows the scenes of the first.

    Only what is `free` to be painted counts. Bounded, so that they are asked to differ and not to differ without end. Source: Yang et al. 2019
    (arXiv:1901.09024), eq. 2, here with the mean absolute difference, whatever the distance of the latents.
    """
    (first, second), free = image_B3HW.chunk(2), free_B1HW.chunk(2)[0]
    area = free.sum((1, 2, 3))
    moved = ((first - second).abs() * free).sum((1, 2, 3)) / (3 * area).clamp_min(1.0)
    return (F.relu(1 - moved / LIVELY) * (area > 0)).mean()


def ring_loss(image_B3HW: Tensor, context_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """Mean absolute jump between the image just inside the mask and the context just outside it, a scalar.

    The context is averaged over seven pixels, so it asks for continuity of light and colour, not for equal pixels.
    """
    outside = 1 - mask_B1HW
    inner = F.max_pool2d(outside, 5, 1, 2) * mask_B1HW
    near_outside = F.avg_pool2d(context_B3HW * outside, 7, 1, 3)
    weight = F.avg_pool2d(outside, 7, 1, 3)
    valid = inner * (weight > 0.05)
    jump = (image_B3HW - near_outside / weight.clamp_min(0.05)).abs() * valid
    return jump.sum() / (3 * valid.sum()).clamp_min(1.0)
