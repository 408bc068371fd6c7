"""Recipes: the frozen configuration of a training run. A recipe is a function that returns one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from longtail.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the generator, discriminator and encoder. `widths` are channels at 1/2, 1/4, 1/8 ... of full size."""

    resolution_px: int = 64
    widths: tuple[int, ...] = (48, 80, 112, 144)
    latent: int = 64
    style: int = 128


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run does, apart from its data.

    Times are seconds; rates are per step; `novelty` ranges are drawn uniformly for each image.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    batch: int = 16
    warm_s: float = 60.0
    catch_up_s: float = 10.0
    adversarial_s: float = 120.0
    rate_warm: float = 7e-4
    rate_generator: float = 2e-4
    rate_discriminator: float = 5e-4
    reconstruction_weight: float = 10.0
    kl_weight: float = 3e-4
    adversarial_weight: float = 1.0
    ring_weight: float = 1.0
    projection_weight: float = 1.0
    penalty_weight: float = 0.1
    penalty_every: int = 4
    ema_half_life_images: float = 2000.0
    projection_fade_steps: int = 300
    freeze_high_resolution: bool = False
    whole_image_share: float = 0.15
    self_share: float = 0.5
    evaluate_every_s: float = 30.0
    checkpoint_every_s: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 4 or self.batch % 2:
            raise InvalidRequest(f"recipe: batch must be even and at least 4, not {self.batch}")
        for name in ("warm_s", "catch_up_s", "adversarial_s"):
            if getattr(self, name) < 0:
                raise InvalidRequest(f"recipe: {name} must not be negative, found {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """The recipe that `to_json` wrote."""
        network = dict(body["network"])
        network["widths"] = tuple(network["widths"])
        return cls(**{**body, "network": NetworkConfig(**network)})


def tiny_foundation(*, minutes: float) -> Recipe:
    """64 px on CPU, from random weights: a quarter of the time reconstructs, the rest is adversarial."""
    seconds = minutes * 60
    return Recipe(
        warm_s=seconds * 0.25,
        catch_up_s=seconds * 0.04,
        adversarial_s=seconds * 0.71,
        evaluate_every_s=120.0,
        checkpoint_every_s=60.0,
        projection_fade_steps=2000,
        ema_half_life_images=5000.0,
    )


def tiny_finetune(*, budget_s: float, seed: int = 0) -> Recipe:
    """64 px on CPU, from the foundation: new class embeddings first, then the adversary joins gently."""
    return Recipe(
        warm_s=budget_s * 0.25,
        catch_up_s=budget_s * 0.08,
        adversarial_s=budget_s * 0.67,
        rate_warm=5e-4,
        freeze_high_resolution=True,
        evaluate_every_s=max(10.0, budget_s / 5),
        seed=seed,
    )


def shortened(recipe: Recipe, *, factor: float) -> Recipe:
    """The same recipe with every phase's time multiplied by `factor`."""
    return replace(
        recipe,
        warm_s=recipe.warm_s * factor,
        catch_up_s=recipe.catch_up_s * factor,
        adversarial_s=recipe.adversarial_s * factor,
    )
