"""The steps of training. Each takes the state and a set of windows, updates once, and returns its figures.

No step waits for the device: figures are tensors, and whoever reads them looks whether they are finite.
Shape legend: B batch, Z latent, R resolution, H W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from longtail.recipes import Recipe
from trainers.augment import Plan, augment
from trainers.device import precision
from trainers.losses import alike, discriminator_loss, generator_loss, kl_to_prior, masked_l1, penalised, ring_loss
from trainers.networks import Discriminator, Encoder, Generator
from trainers.sampling import Scene, complete
from trainers.scenes import Mixture, Seen, draw_indices, reconstruction_scene, transplant_scene
from trainers.state import Phase, TrainState
from trainers.windows import Windows

MOST_VARIANTS = 64
Figures = dict[str, Tensor]
P = ParamSpec("P")
T = TypeVar("T")


def step(state: TrainState, windows: Windows, phase: Phase) -> Figures:
    """One step of a phase."""
    state.set_dials()
    figures = UPDATES[phase](state, windows)
    count(state, phase)
    return figures


def warm_update(state: TrainState, windows: Windows) -> Figures:
    """Reconstruction alone: a conditional variational autoencoder."""
    loss, figures = reconstruct(state, windows, state.recipe.batch)
    apply(loss, state.optimizer_g, state.recipe.rate_warm)
    state.ema.update(state.generator, batch=state.recipe.batch)
    return figures


def adversarial_update(state: TrainState, windows: Windows, *, train_generator: bool = True) -> Figures:
    """The discriminator's updates and, unless it is catching up, one of the generator.

    Half of the batch transplants and is judged; half reconstructs, so that the generator never drifts from the data. Where nothing
    reconstructs, all of it is judged.
    """
    recipe = state.recipe
    figures: Figures = {}
    for remaining in reversed(range(recipe.discriminator_steps)):
        wanted = train_generator and not remaining
        scene, real, fake = transplant(state, windows, recipe.batch // 2 if recipe.reconstruction_weight else recipe.batch, with_gradient=wanted)
        figures |= discriminator_update(state, scene, real, fake.detach())
        if wanted:
            figures |= generator_update(state, windows, scene, real, fake)
    state.ema.update(state.generator, batch=recipe.batch)
    return figures


UPDATES: Mapping[str, Callable[[TrainState, Windows], Figures]] = {
    "warm": warm_update,
    "catch_up": functools.partial(adversarial_update, train_generator=False),
    "adversarial": adversarial_update,
}
"""What a step of each phase asks of the device. Of what moves on the host, an update reads no more than `standing` says."""


def standing(state: TrainState, phase: Phase) -> tuple[object, ...]:
    """All that an update takes from the host, beside tensors: two steps of which this is equal ask the same of the device."""
    return phase, phase != "warm" and penalising(state), state.recipe


def count(state: TrainState, phase: Phase) -> None:
    state.adversarial_steps += phase != "warm"
    state.step += 1
    state.images += state.recipe.batch


def transplant(state: TrainState, windows: Windows, count: int, *, with_gradient: bool) -> tuple[Scene, Seen, Tensor]:
    """(scene, real, fake) of `count` windows with another instance of their class, or none, in their box or on bare ground.

    Where latents are to differ there are half as many scenes, each twice: the second half shows those of the first, painted from other latents.
    """
    paired = state.recipe.diversity_weight > 0
    draw = draw_indices(windows, count // 2 if paired else count, state.random)
    scene, real = transplant_scene(windows, draw, Mixture.of(state.recipe), state.random)
    if paired:
        scene, real = Scene(**twice(scene.__dict__)), Seen(**twice(real.__dict__))
    latent = torch.randn(len(scene.label_B), state.recipe.network.latent, generator=state.random)
    with torch.set_grad_enabled(with_gradient), precision(half=state.recipe.half):
        return scene, real, fast(complete, state.recipe)(state.generator, scene, latent)


def twice(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each of the tensors [B, ...] after itself, [2 B, ...]."""
    return {name: torch.cat([value, value]) for name, value in parts.items()}


def reconstruct(state: TrainState, windows: Windows, count: int, *, invented_weight: float = 1.0) -> tuple[Tensor, Figures]:
    """(loss, figures) of restoring `count` objects from their own faded selves and the posterior latent.

    Where the exemplar is cut away the error weighs `invented_weight`: a mean of many answers is what L1 asks for there.
    """
    recipe = state.recipe
    draw = draw_indices(windows, count, state.random)
    scene, truth = reconstruction_scene(windows, draw, Mixture.of(recipe), state.random)
    noise = torch.randn(count, recipe.network.latent, generator=state.random)
    with precision(half=recipe.half):
        fake, kl = fast(restored, recipe)(state.generator, state.encoder, scene, truth, noise)
    weight = scene.mask_B1RR * (invented_weight + (1 - invented_weight) * scene.validity_B1RR)
    l1 = masked_l1(fake, truth, weight, area_B1HW=scene.mask_B1RR)
    ring = ring_loss(fake, scene.image_B3RR, scene.mask_B1RR)
    loss = recipe.reconstruction_weight * (l1 + 0.1 * recipe.ring_weight * ring + recipe.kl_weight * kl)
    return loss, {"l1": l1.detach(), "kl": kl.detach(), "ring": ring.detach()}


def restored(generator: Generator, encoder: Encoder, scene: Scene, truth_B3RR: Tensor, noise_BZ: Tensor) -> tuple[Tensor, Tensor]:
    """(windows completed from a draw of the posterior latent of the truth, the posterior's KL in nats)."""
    mean, log_variance = encoder(truth_B3RR, scene.box_B1RR)
    latent = mean + noise_BZ * (0.5 * log_variance).exp()
    return complete(generator, scene, latent), kl_to_prior(mean.float(), log_variance.float())


def discriminator_update(state: TrainState, scene: Scene, real: Seen, fake: Tensor) -> Figures:
    recipe = state.recipe
    penalise = penalising(state)
    plan = pair_plan(state, scene)
    real_logits, r1 = judged(state, real, scene.label_B, plan, penalise=penalise)
    fake_logits, r2 = judged(state, painted(scene, fake), scene.label_B, plan, penalise=penalise and recipe.penalty == "r1_r2")
    loss = discriminator_loss(recipe.loss, real_logits, fake_logits)
    figures = {"d_loss": loss.detach(), "d_gap": (real_logits - fake_logits).mean().detach()}
    if penalise:
        penalty = r1.mean() + r2.mean()
        figures["penalty"] = penalty.detach()
        loss = loss + penalty * (recipe.penalty_weight / 2 * recipe.penalty_every)
    apply(loss, state.optimizer_d, recipe.rate_discriminator, clip=10.0)
    return figures


def penalising(state: TrainState) -> bool:
    return state.recipe.penalty_weight > 0 and state.step % state.recipe.penalty_every == 0


def generator_update(state: TrainState, windows: Windows, scene: Scene, real: Seen, fake: Tensor) -> Figures:
    recipe = state.recipe
    trainable = [p for p in state.discriminator.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    adversarial = generator_loss(recipe.loss, *judge(state, scene, real, fake))
    for p in trainable:
        p.requires_grad_(True)
    loss = recipe.adversarial_weight * (adversarial + recipe.ring_weight * ring_loss(fake, scene.image_B3RR, scene.mask_B1RR))
    figures = {"g_loss": adversarial.detach()}
    if recipe.diversity_weight:
        same = alike(fake, scene.mask_B1RR * (1 - scene.validity_B1RR))
        loss, figures = loss + recipe.diversity_weight * same, figures | {"alike": same.detach()}
    if recipe.reconstruction_weight:
        more, restoring = reconstruct(state, windows, recipe.batch // 2, invented_weight=recipe.invented_weight)
        loss, figures = loss + more, figures | restoring
    apply(loss, state.optimizer_g, recipe.rate_generator)
    return figures


def judge(state: TrainState, scene: Scene, real: Seen, fake: Tensor, *, random: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Logits of the real windows, which carry no gradient, and of the fakes.

    A pair shares class and augmentation and, where the fake was painted over the real object, window and mask: then it differs in the
    object alone, and its difference has little noise.
    """
    plan = pair_plan(state, scene, random=random)
    with torch.no_grad():
        real_logits = judged(state, real, scene.label_B, plan)[0]
    return real_logits, judged(state, painted(scene, fake), scene.label_B, plan)[0]


def painted(scene: Scene, fake: Tensor) -> Seen:
    """What the generator made of a scene, as the critic is shown it."""
    return Seen(fake, scene.box_B1RR, scene.mask_B1RR)


def pair_plan(state: TrainState, scene: Scene, *, random: torch.Generator | None = None) -> Plan:
    return Plan.draw(len(scene.label_B), state.dials[1], random or state.random, symmetries=state.recipe.symmetries)


def judged(state: TrainState, seen: Seen, label_B: Tensor, plan: Plan, *, penalise: bool = False) -> tuple[Tensor, Tensor]:
    """(logits [B], squared norms of their gradient in the image [B], zero where they are not asked for) of one side, augmented."""
    image, maps = augment(seen.image_B3RR, torch.cat([seen.box_B1RR, seen.mask_B1RR], 1), plan)
    with precision(half=state.recipe.half):
        return fast(judgement, state.recipe)(state.discriminator, image, maps, label_B, state.dials[0], penalise)


def judgement(
    discriminator: Discriminator, image_B3HW: Tensor, maps_B2HW: Tensor, label_B: Tensor, fade: Tensor, penalise: bool
) -> tuple[Tensor, Tensor]:
    """(logits [B], squared norms [B])."""

    def critic(image: Tensor) -> Tensor:
        logits: Tensor = discriminator(image, maps_B2HW[:, :1], maps_B2HW[:, 1:], label_B, fade)
        return logits.float()

    return penalised(critic, image_B3HW) if penalise else (critic(image_B3HW), torch.zeros(()))


def fast(function: Callable[P, T], recipe: Recipe) -> Callable[P, T]:
    """The function, compiled whole where the recipe says so."""
    return compiled(function) if recipe.compiled else function


@functools.cache
def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compiled anew for every size, network and set of arguments that it meets: past the limit, torch would run it plainly without a word."""
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    return torch.compile(function, dynamic=False)


def apply(loss: Tensor, optimizer: torch.optim.Adam, rate: float, *, clip: float = 1.0) -> None:
    """Back-propagates and updates at the given rate, gradients clipped in norm."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()

