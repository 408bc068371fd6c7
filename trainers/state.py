"""The whole state of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtail.recipes import Recipe
from trainers.architectures import build_discriminator, build_generator
from trainers.device import on_gpu, random_stream
from trainers.ema import Ema
from trainers.networks import Discriminator, Encoder, Generator

Phase = Literal["warm", "catch_up", "adversarial", "done"]


@dataclass
class TrainState:
    """Networks, their optimisers, the random stream, and where in the run we are."""

    recipe: Recipe
    num_classes: int
    generator: Generator
    discriminator: Discriminator
    encoder: Encoder
    ema: Ema[Generator]
    optimizer_g: torch.optim.Adam
    optimizer_d: torch.optim.Adam
    random: torch.Generator
    dials: Tensor
    """(fade, strength) [2]: what moves from step to step, where a step on the device reads it."""
    size_px: int
    step: int = 0
    images: int = 0
    elapsed_s: float = 0.0
    evaluated_s: float = 0.0
    adversarial_steps: int = 0
    strength: float = 0.0
    best_score: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """(images seen, figure) of what whoever watches the run wants to keep of it."""

    @classmethod
    def fresh(cls, recipe: Recipe, *, num_classes: int) -> TrainState:
        """Networks with random weights, the same for the same recipe seed."""
        torch.manual_seed(recipe.seed)
        plain = recipe.network.architecture == "dcgan"
        generator = build_generator(recipe.network, num_classes=num_classes)
        discriminator = build_discriminator(recipe.network, num_classes=num_classes)
        encoder = Encoder(recipe.network)
        captured = recipe.captured and on_gpu()
        for module in (generator, discriminator, encoder):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            recipe=recipe,
            num_classes=num_classes,
            generator=generator,
            discriminator=discriminator,
            encoder=encoder,
            ema=Ema(generator, half_life_images=recipe.ema_half_life_images),
            optimizer_g=adam([*generator.parameters(), *encoder.parameters()], plain, captured),
            optimizer_d=adam(list(discriminator.parameters()), plain, captured),
            random=random_stream(recipe.seed),
            dials=torch.zeros(2),
            size_px=recipe.size_px(0.0),
        )

    @property
    def fade(self) -> float:
        """Weight of the class projection now: it fades in (transitional cGAN, arXiv:2201.06578)."""
        return self.recipe.projection_weight * min(1.0, self.adversarial_steps / max(1, self.recipe.projection_fade_steps))

    def set_dials(self) -> None:
        """Tells the device where the dials stand, without waiting for it."""
        for dial, value in zip(self.dials, (self.fade, self.strength), strict=True):
            dial.fill_(value)

    def adopt(self, weights: dict[str, Tensor], *, same_classes: bool = False) -> None:
        """Start from a foundation's weights; class embeddings begin about their mean, unless the classes are the same.

        The generator's begin as far apart as those are, a critic's a tenth as far: it has yet to be taught which class looks how. A critic that is
        made otherwise than the foundation's keeps its random weights where it differs, a fresh one all of them.
        """
        for name, module in self.modules().items():
            own, source = module.state_dict(), "ema" if name == "generator" else name
            if name == "discriminator" and (self.recipe.fresh_critic or any(f"{source}.{key}" not in weights for key in own)):
                continue
            for key, value in own.items():
                found = weights[f"{source}.{key}"].float()
                if key == "embed.weight" and not same_classes:
                    found = found.mean(0, keepdim=True).expand_as(value) + found.std(0).mean() * value.sign() * (0.1 if name == "discriminator" else 1.0)
                if name != "discriminator" or found.shape == value.shape:
                    value.copy_(found)

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "ema": self.ema.module, "discriminator": self.discriminator, "encoder": self.encoder}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that is needed to go on as if never stopped, by name."""
        found: dict[str, Tensor] = {"random": self.random.get_state()}
        for name, module in self.modules().items():
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in (("optimizer_g", self.optimizer_g), ("optimizer_d", self.optimizer_d)):
            for index, slots in optimizer.state_dict()["state"].items():
                found |= {f"{name}.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        return found | {f"best.{key}": value for key, value in self.best.items()}

    def numbers(self) -> dict[str, Any]:
        """Everything else of it, as plain JSON values."""
        found = {k: getattr(self, k) for k in ("step", "images", "elapsed_s", "evaluated_s", "adversarial_steps", "strength", "size_px", "events", "curves")}
        return found | {"best_score": self.best_score if math.isfinite(self.best_score) else None}

    @classmethod
    def resumed(cls, recipe: Recipe, *, num_classes: int, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> TrainState:
        """The state whose `tensors` and `numbers` these were."""
        state = cls.fresh(recipe, num_classes=num_classes)
        try:
            state.random.set_state(tensors["random"])
        except RuntimeError:  # a checkpoint of a GPU goes on on a CPU, or the other way round, with a new stream
            state.random = random_stream(state.recipe.seed + 1)
        with torch.no_grad():
            for name, module in state.modules().items():
                for key, value in module.state_dict().items():
                    value.copy_(tensors[f"{name}.{key}"])
        for name, optimizer in (("optimizer_g", state.optimizer_g), ("optimizer_d", state.optimizer_d)):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": _slots(tensors, name, optimizer)})
        state.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        for key, value in numbers.items():
            setattr(state, key, math.inf if value is None else value)
        return state


def adam(parameters: list[nn.Parameter], plain: bool, captured: bool) -> torch.optim.Adam:
    """Without momentum, as penalised relativistic training wants it; with the DCGAN paper's for the plain one. Steps set the rate."""
    return torch.optim.Adam(parameters, lr=1.0, betas=(0.5, 0.999) if plain else (0.0, 0.99), fused=True, capturable=captured)


def forget(optimizer: torch.optim.Adam) -> None:
    """Begins an optimiser's averages anew, in place: a captured step knows where they lie."""
    for slots in optimizer.state.values():
        for value in slots.values():
            value.zero_()


def _slots(tensors: dict[str, Tensor], name: str, optimizer: torch.optim.Adam) -> dict[int, dict[str, Tensor]]:
    """The optimiser's saved slots, each laid out in memory as its parameter is: the fused update reads both as one line of numbers."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(name + "."):
            _, index, slot = key.split(".")
            like = parameters[int(index)]
            found.setdefault(int(index), {})[slot] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    return found
