"""The whole state of a training run, and its form on disk: one safetensors file, no pickle."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from longtail.recipes import Recipe
from trainers.device import random_stream
from trainers.ema import Ema
from trainers.networks import Discriminator, Encoder, Generator


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
    step: int = 0
    images: int = 0
    elapsed_s: float = 0.0
    adversarial_steps: int = 0
    strength: float = 0.0
    best_score: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, recipe: Recipe, *, num_classes: int) -> TrainState:
        """Networks with random weights, the same for the same recipe seed."""
        torch.manual_seed(recipe.seed)
        generator = Generator(recipe.network, num_classes=num_classes)
        discriminator = Discriminator(recipe.network, num_classes=num_classes)
        encoder = Encoder(recipe.network)
        for module in (generator, discriminator, encoder):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            recipe=recipe,
            num_classes=num_classes,
            generator=generator,
            discriminator=discriminator,
            encoder=encoder,
            ema=Ema(generator, half_life_images=recipe.ema_half_life_images),
            optimizer_g=torch.optim.Adam(
                [*generator.parameters(), *encoder.parameters()], lr=recipe.rate_warm, betas=(0.0, 0.99), foreach=True
            ),
            optimizer_d=torch.optim.Adam(discriminator.parameters(), lr=recipe.rate_discriminator, betas=(0.0, 0.99), foreach=True),
            random=random_stream(recipe.seed),
        )

    @staticmethod
    def recipe_of(meta: dict[str, str]) -> Recipe:
        """The recipe recorded in a checkpoint's metadata."""
        return Recipe.from_json(json.loads(meta["recipe"]))

    def adopt(self, weights: dict[str, Tensor], *, same_classes: bool = False) -> None:
        """Start from a foundation's weights; class embeddings begin at their mean, unless the classes are the same."""
        for name, module in self.modules().items():
            own = module.state_dict()
            for key, value in own.items():
                found = weights[f"{'ema' if name == 'generator' else name}.{key}"].float()
                if key == "embed.weight" and not same_classes:
                    found = found.mean(0, keepdim=True).expand_as(value) + 0.1 * found.std() * value.sign()
                value.copy_(found)

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "ema": self.ema.module, "discriminator": self.discriminator, "encoder": self.encoder}

    def to_bytes(self) -> bytes:
        """Everything needed to go on as if never stopped."""
        tensors: dict[str, Tensor] = {"random": self.random.get_state()}
        for name, module in self.modules().items():
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in (("optimizer_g", self.optimizer_g), ("optimizer_d", self.optimizer_d)):
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        tensors |= {f"best.{key}": value for key, value in self.best.items()}
        numbers = {k: getattr(self, k) for k in ("step", "images", "elapsed_s", "adversarial_steps", "strength")}
        numbers["best_score"] = self.best_score if math.isfinite(self.best_score) else None
        meta = {"recipe": json.dumps(self.recipe.to_json()), "num_classes": str(self.num_classes), "numbers": json.dumps(numbers)}
        return save({k: v.contiguous().clone() for k, v in tensors.items()}, metadata=meta)

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainState:
        """The state that `to_bytes` wrote."""
        meta = metadata(data)
        state = cls.fresh(Recipe.from_json(json.loads(meta["recipe"])), num_classes=int(meta["num_classes"]))
        tensors = load(data)
        try:
            state.random.set_state(tensors["random"])
        except RuntimeError:  # a checkpoint of a GPU goes on on a CPU, or the other way round, with a new stream
            state.random = random_stream(state.recipe.seed + 1)
        with torch.no_grad():
            for name, module in state.modules().items():
                for key, value in module.state_dict().items():
                    value.copy_(tensors[f"{name}.{key}"])
        for name, optimizer in (("optimizer_g", state.optimizer_g), ("optimizer_d", state.optimizer_d)):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": _slots(tensors, name)})
        state.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        for key, value in json.loads(meta["numbers"]).items():
            setattr(state, key, math.inf if value is None else value)
        return state


def _slots(tensors: dict[str, Tensor], name: str) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(name + "."):
            _, index, slot = key.split(".")
            found.setdefault(int(index), {})[slot] = value
    return found


def metadata(data: bytes) -> dict[str, str]:
    """The string metadata in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return found
