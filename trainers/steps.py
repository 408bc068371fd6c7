"""The three steps of training. Each takes the state and a set of windows, updates once, and returns its figures.

Shape legend: B batch, Z latent, R resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.augment import Plan, augment
from trainers.losses import gradient_penalty, kl_to_prior, masked_l1, relativistic_loss, ring_loss
from trainers.sampling import Scene, complete
from trainers.scenes import draw_indices, reconstruction_scene, transplant_scene
from trainers.state import TrainState
from trainers.windows import Windows


class NotFinite(ArithmeticError):
    """A loss was NaN or infinite; the update was not applied."""


def reconstruct(state: TrainState, windows: Windows, count: int) -> tuple[Tensor, dict[str, float]]:
    """(loss, figures) of restoring `count` objects from their own degraded selves and the posterior latent."""
    recipe = state.recipe
    draw = draw_indices(windows, count, state.random)
    scene, truth = reconstruction_scene(windows, draw, recipe.whole_image_share, state.random)
    mean, log_variance = state.encoder(truth, scene.box_B1RR)
    noise = torch.randn(mean.shape, generator=state.random)
    fake = complete(state.generator, scene, mean + noise * (0.5 * log_variance).exp())
    l1, kl = masked_l1(fake, truth, scene.mask_B1RR), kl_to_prior(mean, log_variance)
    ring = ring_loss(fake, scene.image_B3RR, scene.mask_B1RR)
    loss = recipe.reconstruction_weight * (l1 + 0.1 * recipe.ring_weight * ring + recipe.kl_weight * kl)
    return loss, {"l1": float(l1.detach()), "kl": float(kl.detach()), "ring": float(ring.detach())}


def warm_step(state: TrainState, windows: Windows) -> dict[str, float]:
    """Reconstruction alone: a conditional variational autoencoder."""
    loss, figures = reconstruct(state, windows, state.recipe.batch)
    apply(loss, state.optimizer_g, state.recipe.rate_warm)
    finish(state)
    return figures


def adversarial_step(state: TrainState, windows: Windows, *, train_generator: bool) -> dict[str, float]:
    """One update of the discriminator and, unless it is catching up, one of the generator.

    Half of the batch transplants and is judged; half reconstructs, so that the generator never drifts from the data.
    """
    recipe, half = state.recipe, state.recipe.batch // 2
    draw = draw_indices(windows, half, state.random)
    scene = transplant_scene(windows, draw, recipe.whole_image_share, state.random)
    latent = torch.randn(half, recipe.network.latent, generator=state.random)
    with torch.set_grad_enabled(train_generator):
        fake = complete(state.generator, scene, latent)
    fade = recipe.projection_weight * min(1.0, state.adversarial_steps / max(1, recipe.projection_fade_steps))
    figures = discriminator_update(state, scene, fake.detach(), fade)
    if train_generator:
        trainable = [p for p in state.discriminator.parameters() if p.requires_grad]
        for p in trainable:
            p.requires_grad_(False)
        real_logits, fake_logits = judge(state, scene, fake, fade)
        adversarial = relativistic_loss(fake_logits, real_logits)
        loss, more = reconstruct(state, windows, half)
        ring = ring_loss(fake, scene.image_B3RR, scene.mask_B1RR)
        for p in trainable:
            p.requires_grad_(True)
        apply(loss + recipe.adversarial_weight * (adversarial + recipe.ring_weight * ring), state.optimizer_g, recipe.rate_generator)
        figures |= more | {"g_loss": float(adversarial.detach())}
    state.adversarial_steps += 1
    finish(state)
    return figures


def discriminator_update(state: TrainState, scene: Scene, fake: Tensor, fade: float) -> dict[str, float]:
    recipe = state.recipe
    penalise = state.step % recipe.penalty_every == 0
    images = torch.cat([scene.image_B3RR, fake])
    logits, penalty = judged(state, scene, images, fade, penalise)
    real_logits, fake_logits = logits.chunk(2)
    loss = relativistic_loss(real_logits, fake_logits)
    total = loss + penalty * (recipe.penalty_weight / 2 * recipe.penalty_every)
    apply(total, state.optimizer_d, recipe.rate_discriminator, clip=10.0)
    figures = {"d_loss": float(loss.detach()), "d_gap": float((real_logits - fake_logits).mean().detach())}
    return figures | ({"penalty": float(penalty.detach())} if penalise else {})


def judge(state: TrainState, scene: Scene, fake: Tensor, fade: float) -> tuple[Tensor, Tensor]:
    """Logits of the real windows and of the fakes that were painted into them."""
    real_logits, fake_logits = judged(state, scene, torch.cat([scene.image_B3RR, fake]), fade, False)[0].chunk(2)
    return real_logits, fake_logits


def judged(state: TrainState, scene: Scene, real_and_fake: Tensor, fade: float, penalise: bool) -> tuple[Tensor, Tensor]:
    """(logits [2B], R1 + R2) of real windows followed by the fakes that were painted into them.

    A pair shares window, mask, class and augmentation: it differs in the object alone, so its difference has little noise.
    """
    plan = Plan.draw(len(scene.label_B), state.strength, state.random)
    maps = torch.cat([scene.box_B1RR, scene.mask_B1RR], 1)
    sides = [augment(image, maps, plan) for image in real_and_fake.chunk(2)]
    image = torch.cat([side[0] for side in sides]).contiguous(memory_format=torch.channels_last)
    maps = torch.cat([side[1] for side in sides])
    if penalise:
        image = image.detach().requires_grad_(True)
    logits = state.discriminator(image, maps[:, :1], maps[:, 1:], scene.label_B.repeat(2), fade)
    return logits, 2 * gradient_penalty(logits, image) if penalise else torch.zeros(())


def apply(loss: Tensor, optimizer: torch.optim.Adam, rate: float, *, clip: float = 1.0) -> None:
    """Back-propagates and updates at the given rate, gradients clipped in norm; refuses a loss that is not finite."""
    if not torch.isfinite(loss):
        raise NotFinite(f"loss is {float(loss.detach())}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def finish(state: TrainState) -> None:
    state.ema.update(state.generator, batch=state.recipe.batch)
    state.step += 1
    state.images += state.recipe.batch
