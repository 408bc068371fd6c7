"""A training run on disk: one safetensors file, no pickle."""

from __future__ import annotations

import json

from safetensors.torch import load, save
from torch import Tensor

from longtail.recipes import Recipe
from trainers.state import TrainState


def to_bytes(state: TrainState) -> bytes:
    """Everything needed to go on as if never stopped."""
    parts = {"recipe": state.recipe.to_json(), "num_classes": state.num_classes, "numbers": state.numbers()}
    return save({k: v.contiguous().clone() for k, v in state.tensors().items()}, metadata={name: json.dumps(part) for name, part in parts.items()})


def from_bytes(data: bytes) -> TrainState:
    """The state that `to_bytes` wrote."""
    tensors, meta = read(data)
    return TrainState.resumed(recipe_of(meta), num_classes=int(meta["num_classes"]), tensors=tensors, numbers=json.loads(meta["numbers"]))


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    meta: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return load(data), meta


def recipe_of(meta: dict[str, str]) -> Recipe:
    """The recipe recorded in a checkpoint's metadata."""
    return Recipe.from_json(json.loads(meta["recipe"]))
