"""What is tried where a watchdog barks: one change of the run each. A remedy says why it would change nothing in this run, where that is so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainers.state import TrainState, forget
from trainers.watchdogs import Finding

STRENGTH_STEP = 0.1
MOST_WEIGHT = 8.0
"""A remedy that doubles a weight stops here: beyond it the weight is the disease."""


def apply_remedy(state: TrainState, finding: Finding) -> str:
    """Acts on one finding, and says what was done. Augmentation strength follows r_v up and down; the others act when they bark."""
    if finding.name == "d_memorises":
        hindered = follow(state, finding)
    elif finding.bad:
        hindered = REMEDIES[finding.name](state) if finding.name in REMEDIES else ""
    else:
        return ""
    return f"none: {hindered}" if hindered else finding.remedy


def follow(state: TrainState, finding: Finding) -> str:
    if finding.bad and state.strength >= 1:
        return "augmentation is at its strongest"
    change = STRENGTH_STEP if finding.figure > 0.5 else -STRENGTH_STEP
    state.strength = min(1.0, max(0.0, state.strength + change))
    return ""


def slow_critic(state: TrainState) -> str:
    state.recipe = replace(state.recipe, rate_discriminator=state.recipe.rate_discriminator / 2)
    return ""


def free_latent(state: TrainState) -> str:
    """Lowers the price that reconstruction puts on the latent; where there is none, latents are asked to differ."""
    if not state.recipe.reconstruction_weight or not state.recipe.kl_weight:
        return ask_variety(state)
    state.recipe = replace(state.recipe, kl_weight=state.recipe.kl_weight / 2)
    return ""


def ask_variety(state: TrainState) -> str:
    if state.recipe.diversity_weight >= MOST_WEIGHT:
        return "latents are asked to differ as much as can be"
    state.recipe = replace(state.recipe, diversity_weight=min(MOST_WEIGHT, max(1.0, 2 * state.recipe.diversity_weight)))
    return ""


def weigh_boundary(state: TrainState) -> str:
    if not state.recipe.ring_weight:
        return "this recipe has no boundary ring loss"
    if state.recipe.ring_weight >= MOST_WEIGHT:
        return "the boundary ring loss is at its most"
    state.recipe = replace(state.recipe, ring_weight=min(MOST_WEIGHT, state.recipe.ring_weight * 2))
    return ""


def weigh_class(state: TrainState) -> str:
    if state.recipe.network.architecture == "dcgan":
        return "its critic has no projection"
    if state.recipe.projection_weight >= MOST_WEIGHT:
        return "the projection is at its most"
    state.recipe = replace(state.recipe, projection_weight=min(MOST_WEIGHT, state.recipe.projection_weight * 2))
    return ""


def go_back(state: TrainState) -> str:
    if not state.best:
        return "there is no checkpoint to go back to yet"
    for module in (state.generator, state.ema.module):
        module.load_state_dict(state.best)
    forget(state.optimizer_g)
    state.recipe = replace(state.recipe, rate_generator=state.recipe.rate_generator / 2)
    return ""


REMEDIES: dict[str, Callable[[TrainState], str]] = {
    "d_overpowers": slow_critic,
    "latent_ignored": free_latent,
    "seams": weigh_boundary,
    "class_ignored": weigh_class,
    "class_collapse": go_back,
    "class_repeats": ask_variety,
}
"""By what they are for; that of `nan` has been done when it is told (`trainers.loop.mend`)."""
