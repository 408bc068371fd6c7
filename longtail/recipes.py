"""Recipes: the frozen configuration of a training run. A recipe is a function that returns one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from longtail.errors import InvalidRequest
from longtail.samples import INVENTS_FROM, Task

Architecture = Literal["comodulated", "dcgan"]
Loss = Literal["relativistic", "hinge", "non_saturating"]
Penalty = Literal["r1_r2", "r1"]
Symmetries = Literal["all", "mirror", "none"]
Preset = Literal["tiny32", "tiny", "base", "large", "baseline"]
Start = Literal["foundation", "random"]
Aim = Literal["restore", "invent"]
"""What a fine-tune is for: to harmonise what is left of an exemplar, soon, or objects that stand without one, in a quarter of an hour of a core and more."""
FOUNDATION_PRESET: Preset = "tiny"
"""The preset whose foundation is shipped."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the generator, discriminator and encoder. `widths` are channels at 1/2, 1/4, 1/8 ... of full size.

    `smallest_px` is the size from which the networks can be grown. `critic_widths` are the discriminator's, where they differ;
    `spectral_norm` bounds its layers (arXiv:1802.05957), `minibatch_std` shows it how alike its batch is (arXiv:1710.10196). Of
    the classes `gray_labels` all images are gray, and so is what is painted of them.
    """

    architecture: Architecture = "comodulated"
    resolution_px: int = 64
    smallest_px: int = 32
    widths: tuple[int, ...] = (48, 80, 112, 144)
    critic_widths: tuple[int, ...] | None = None
    latent: int = 64
    style: int = 128
    tail: tuple[int, int] = (20, 16)
    spectral_norm: bool = False
    minibatch_std: bool = False
    gray_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("spectral_norm", "minibatch_std"):
            if self.architecture == "dcgan" and getattr(self, name):
                raise InvalidRequest(f"network: the plain DCGAN has no {name}; ask for another preset")
        if self.resolution_px % 2 ** len(self.widths):
            raise InvalidRequest(f"network: {len(self.widths)} levels halve {self.resolution_px} px to less than one; use fewer widths")
        ratio = self.resolution_px / self.smallest_px
        if ratio < 1 or not math.log2(ratio).is_integer() or 2 ** (len(self.widths) - 2) < ratio:
            raise InvalidRequest(f"network: smallest_px {self.smallest_px} must be resolution_px {self.resolution_px} halved, with two levels left")
        if self.critic_widths is not None and len(self.critic_widths) != len(self.widths):
            raise InvalidRequest(f"network: {len(self.critic_widths)} critic_widths for {len(self.widths)} widths; the pyramids must be equally high")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run does, apart from its data.

    Times are seconds; rates are per step. A fine-tune's best checkpoint is chosen by what its `aim` asks. Novelty is drawn uniformly from its range,
    below which nothing is left to invent, and is 1 (no exemplar at all) for `full_novelty_share` of the images. `symmetries` of the data are
    what the critic's images may always be turned by; the generator then makes turned ones as gladly. `ground_share` of the transplants goes to
    bare ground, and of `erased_share` of what is restored nothing but bare ground is asked, where the data shows such places. `invented_weight`
    is what reconstruction weighs, beside an adversary, where nothing of an exemplar is left, `diversity_weight` what it weighs that latents
    differ in one and the same place. `size_shares` are the shares of the run's time at each size, the full one last; none means all of it at
    the full one. `upscaler_s` come after it all, for the upsampler of windows that are larger than the network's resolution, if the data has any.
    A `fresh_critic` begins from random weights where the generator begins from a foundation's (docs/decisions/036).
    On a GPU, `captured` steps are recorded and launched whole, and `compiled` ones start minutes later and run faster; `half` is bfloat16
    where the device is fast at it.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    aim: Aim = "restore"
    batch: int = 16
    warm_s: float = 60.0
    catch_up_s: float = 10.0
    adversarial_s: float = 120.0
    upscaler_s: float = 0.0
    size_shares: tuple[float, ...] = ()
    rate_warm: float = 7e-4
    rate_generator: float = 2e-4
    rate_discriminator: float = 5e-4
    loss: Loss = "relativistic"
    penalty: Penalty = "r1_r2"
    penalty_weight: float = 0.1
    penalty_every: int = 4
    discriminator_steps: int = 1
    reconstruction_weight: float = 10.0
    invented_weight: float = 1.0
    kl_weight: float = 3e-4
    diversity_weight: float = 0.0
    adversarial_weight: float = 1.0
    ring_weight: float = 1.0
    projection_weight: float = 1.0
    projection_fade_steps: int = 300
    ema_half_life_images: float = 2000.0
    fresh_critic: bool = False
    freeze_high_resolution: bool = False
    whole_image_share: float = 0.15
    ground_share: float = 0.5
    erased_share: float = 0.1
    symmetries: Symmetries = "all"
    novelty_range: tuple[float, float] = (INVENTS_FROM, 1.0)
    full_novelty_share: float = 0.4
    evaluate_every_s: float = 30.0
    checkpoint_every_s: float = 20.0
    compiled: bool = False
    captured: bool = False
    half: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.aim not in get_args(Aim):
            raise InvalidRequest(f"unknown aim {self.aim!r}; there are {', '.join(get_args(Aim))}")
        if self.batch < 4 or self.batch % 2:
            raise InvalidRequest(f"recipe: batch must be even and at least 4, not {self.batch}")
        for name in ("warm_s", "catch_up_s", "adversarial_s", "upscaler_s"):
            if getattr(self, name) < 0:
                raise InvalidRequest(f"recipe: {name} must not be negative, found {getattr(self, name)}")
        low, high = self.novelty_range
        if not (0 <= low <= high <= 1 and 0 <= self.full_novelty_share <= 1):
            raise InvalidRequest(f"recipe: novelty_range {[low, high]} and full_novelty_share {self.full_novelty_share} must lie in 0 to 1, in order")
        for name in ("discriminator_steps", "penalty_every"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"recipe: {name} must be at least 1, found {getattr(self, name)}")
        sizes = int(math.log2(self.network.resolution_px / self.network.smallest_px)) + 1
        if len(self.size_shares) > sizes or (self.size_shares and not math.isclose(sum(self.size_shares), 1.0, abs_tol=1e-6)):
            raise InvalidRequest(f"recipe: size_shares {list(self.size_shares)} must be at most {sizes} shares that sum to 1")
        if len(self.size_shares) > 1 and self.network.spectral_norm:
            raise InvalidRequest("recipe: size_shares grow the critic from ways in that are zero, which spectral_norm cannot have; leave one out")

    @property
    def total_s(self) -> float:
        return self.warm_s + self.catch_up_s + self.adversarial_s

    def size_px(self, elapsed_s: float) -> int:
        """The size that is trained after so many seconds: the full one, or a half, a quarter ... of it before."""
        done, full = elapsed_s / max(self.total_s, 1e-9), self.network.resolution_px
        until = 0.0
        for halvings, share in zip(range(len(self.size_shares) - 1, -1, -1), self.size_shares, strict=True):
            until += share
            if done < until:
                return full // 2**halvings
        return full

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Self:
        """The recipe that `to_json` wrote."""
        return cls(**{**retupled(body), "network": network_from_json(body["network"])})


def network_from_json(body: dict[str, Any]) -> NetworkConfig:
    """The sizes that were written as JSON, whose lists are tuples again."""
    return NetworkConfig(**retupled(body))


def retupled(body: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}


NETWORKS: dict[Preset, NetworkConfig] = {
    "tiny32": NetworkConfig(resolution_px=32, widths=(80, 112, 144)),
    "tiny": NetworkConfig(),
    "base": NetworkConfig(resolution_px=128, widths=(64, 112, 176, 256, 256), critic_widths=(120, 168, 256, 320, 320), style=256, tail=(32, 24)),
    "large": NetworkConfig(
        resolution_px=256, widths=(64, 112, 192, 288, 384, 448), critic_widths=(120, 168, 256, 320, 384, 384), latent=128, style=384, tail=(32, 24)
    ),
    "baseline": NetworkConfig(architecture="dcgan", smallest_px=64),
}
"""What the presets' networks are; `baseline` is the plain conditional DCGAN that figures are compared with."""


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
        adversarial_s=budget_s * 0.6,
        upscaler_s=budget_s * 0.07,
        rate_warm=5e-4,
        evaluate_every_s=max(10.0, budget_s / 5),
        seed=seed,
    )


def plain_finetune(*, budget_s: float, seed: int = 0) -> Recipe:
    """64 px, a plain conditional DCGAN's: adversarial from the first step, no penalty, no reconstruction, the paper's rates.

    Source: Radford et al. 2015 (arXiv:1511.06434), section 3.
    """
    ours = tiny_finetune(budget_s=budget_s, seed=seed)
    return replace(
        ours,
        network=NETWORKS["baseline"],
        warm_s=0.0,
        catch_up_s=0.0,
        adversarial_s=ours.total_s,
        rate_generator=2e-4,
        rate_discriminator=2e-4,
        loss="non_saturating",
        penalty_weight=0.0,
        reconstruction_weight=0.0,
        ring_weight=0.0,
    )


def preset_recipe(preset: Preset, start: Start, *, budget_s: float, seed: int = 0) -> Recipe:
    """The preset's own fine-tuning. Raises InvalidRequest for a start that it does not have."""
    if start == "foundation" and preset != FOUNDATION_PRESET:
        raise InvalidRequest(f"preset {preset!r} has no foundation to start from; ask for start 'random', or for preset {FOUNDATION_PRESET!r}")
    if preset == "baseline":
        return plain_finetune(budget_s=budget_s, seed=seed)
    return replace(tiny_finetune(budget_s=budget_s, seed=seed), network=NETWORKS[preset], fresh_critic=start == "foundation")


def inventing(recipe: Recipe) -> Recipe:
    """The same time, all of it against the critic, which is shown inventions alone: no mean of answers pulls at what is painted.

    The critic is four times as fast as the generator and penalised twice as often, as where whole images are learned (docs/decisions/035).
    """
    seconds = recipe.total_s
    return replace(
        recipe,
        aim="invent",
        warm_s=0.0,
        catch_up_s=seconds * 0.04,
        adversarial_s=seconds * 0.96,
        full_novelty_share=1.0,
        reconstruction_weight=0.0,
        diversity_weight=1.0,
        rate_generator=2.5e-4,
        rate_discriminator=1e-3,
        penalty_every=2,
        ema_half_life_images=min(10_000.0, 7.0 * seconds),
    )


NETWORK_OPTIONS = ("spectral_norm", "minibatch_std")
"""Options of a request that are the network's rather than the run's."""


def finetune_recipe(*, preset: Preset, start: Start, budget_s: float, seed: int, options: Mapping[str, Any]) -> Recipe:
    """What a request asks for: the preset's recipe, by its `aim` if one is among the options, with the caller's options in place of its own.

    Raises InvalidRequest for a start or an aim that the preset does not have, and for options that no recipe has.
    """
    recipe = preset_recipe(preset, start, budget_s=budget_s, seed=seed)
    known = {f.name for f in fields(Recipe)} - {"network", "seed", "warm_s", "catch_up_s", "adversarial_s"} | set(NETWORK_OPTIONS)
    unknown = sorted(set(options) - known)
    if unknown:
        raise InvalidRequest(f"unknown recipe option {unknown[0]!r}; there are {sorted(known)}")
    if "aim" in options:
        recipe = aimed(recipe, options["aim"])
        options = {k: v for k, v in options.items() if k != "aim"}
    if start == "foundation" and len(options.get("size_shares") or ()) > 1:
        raise InvalidRequest("size_shares: growing begins with ways in and out that are empty, which would forget the foundation's; ask for start 'random'")
    network = replace(recipe.network, **{k: v for k, v in options.items() if k in NETWORK_OPTIONS})
    recipe = replace(recipe, network=network, **retupled({k: v for k, v in options.items() if k not in NETWORK_OPTIONS}))
    if asked := [name for name in ("fresh_critic", "freeze_high_resolution") if name in options]:
        check_kept(recipe, start, asked[0])
    return recipe


def check_kept(recipe: Recipe, start: Start, option: str) -> None:
    """Raises InvalidRequest where there is no foundation's critic, or none that is kept, of which the option could say what becomes of it."""
    if start != "foundation":
        raise InvalidRequest(f"{option}: there is no foundation's critic with start 'random'; leave it out")
    if recipe.network.spectral_norm and (recipe.freeze_high_resolution or not recipe.fresh_critic):
        raise InvalidRequest(f"{option}: the foundation's critic has no spectral_norm, so that nothing of it could be kept; leave one of them out")
    if recipe.freeze_high_resolution and recipe.fresh_critic:
        raise InvalidRequest(f"{option}: the first block of the foundation's critic is kept with fresh_critic false; ask for that beside it")


def aimed(recipe: Recipe, aim: Aim) -> Recipe:
    """The recipe for that aim. Raises InvalidRequest for an aim that there is not, or that the plain DCGAN cannot have."""
    if aim not in get_args(Aim):
        raise InvalidRequest(f"unknown aim {aim!r}; there are {', '.join(get_args(Aim))}")
    if recipe.network.architecture == "dcgan":
        raise InvalidRequest("aim: the plain DCGAN sees no exemplar and invents alone; leave the aim out, or ask for another preset")
    return inventing(recipe) if aim == "invent" else recipe


def options_for(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """A request's options with what the task asks for: a picture is taken whole and has an upright, an object in a field has none."""
    return {"symmetries": "none", **options, "whole_image_share": 1.0} if task == "classification" else dict(options)


def shortened(recipe: Recipe, *, factor: float) -> Recipe:
    """The same recipe with every phase's time multiplied by `factor`."""
    return replace(
        recipe,
        warm_s=recipe.warm_s * factor,
        catch_up_s=recipe.catch_up_s * factor,
        adversarial_s=recipe.adversarial_s * factor,
        upscaler_s=recipe.upscaler_s * factor,
    )
