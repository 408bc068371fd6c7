"""A served generator on disk: its averaged weights as safetensors, with what is needed to build it in the header."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from infra.objects import Objects
from infra.settings import Settings
from longtail.recipes import network_from_json
from trainers.architectures import build_generator
from trainers.checkpoints import read
from trainers.networks import Generator

FOUNDATION = Path(__file__).parent / "checkpoints" / "tiny.safetensors"


def foundation() -> tuple[dict[str, Tensor], dict[str, str]]:
    """(weights, metadata) of the shipped foundation checkpoint."""
    return read(FOUNDATION.read_bytes())


def to_bytes(generator: Generator, *, classes: list[str]) -> bytes:
    """The generator as one safetensors file."""
    network = generator.config
    meta = {
        "network": json.dumps(asdict(network)),
        "classes": json.dumps(classes),
    }
    return save({k: v.contiguous() for k, v in generator.state_dict().items()}, metadata=meta)


def from_bytes(data: bytes) -> Generator:
    """The generator that `to_bytes` wrote, ready to sample."""
    tensors, meta = read(data)
    generator = build_generator(network_from_json(json.loads(meta["network"])), num_classes=len(json.loads(meta["classes"])))
    generator.load_state_dict(tensors)
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator.eval().requires_grad_(False)


@functools.lru_cache(maxsize=8)
def served(settings: Settings, uri: str) -> Generator:
    """The generator stored at `uri`, kept in this process."""
    return from_bytes(Objects(settings).read(uri))
