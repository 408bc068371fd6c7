"""A served generator on disk: its averaged weights as safetensors, with what is needed to build it in the header."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from longtail.recipes import network_from_json
from trainers.architectures import build_generator
from trainers.checkpoints import read
from trainers.networks import Generator
from trainers.render import Painter
from trainers.upscale import Upscaler, UpscalerConfig

if TYPE_CHECKING:
    from infra.settings import Settings

UPSCALER = "upscaler."
FOUNDATION = Path(__file__).parent / "checkpoints" / "tiny.safetensors"


def foundation(path: Path = FOUNDATION) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(weights, metadata) of a foundation checkpoint, the shipped one unless said otherwise."""
    return read(path.read_bytes())


def to_bytes(generator: Generator, *, classes: list[str], upscaler: Upscaler | None = None, mirrored: bool | None = None) -> bytes:
    """The generator, the upsampler that belongs to it, and whether exemplars may be mirrored, as one safetensors file."""
    meta = {"network": json.dumps(asdict(generator.config)), "classes": json.dumps(classes), "mirrored": json.dumps(mirrored)}
    tensors = dict(generator.state_dict())
    if upscaler is not None:
        meta["upscaler"] = json.dumps(asdict(upscaler.config))
        tensors |= {UPSCALER + k: v for k, v in upscaler.state_dict().items()}
    return save({k: v.contiguous() for k, v in tensors.items()}, metadata=meta)


def from_bytes(data: bytes) -> Painter:
    """What `to_bytes` wrote, ready to sample."""
    tensors, meta = read(data)
    generator = build_generator(network_from_json(json.loads(meta["network"])), num_classes=len(json.loads(meta["classes"])))
    generator.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(UPSCALER)})
    upscaler = None
    if "upscaler" in meta:
        upscaler = Upscaler(UpscalerConfig(**json.loads(meta["upscaler"])))
        upscaler.load_state_dict({k.removeprefix(UPSCALER): v for k, v in tensors.items() if k.startswith(UPSCALER)})
    for module in (generator, upscaler):
        if module is not None:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            module.eval().requires_grad_(False)
    return Painter(generator, upscaler, mirrored=json.loads(meta.get("mirrored", "null")))


@functools.lru_cache(maxsize=8)
def served(settings: Settings, uri: str) -> Painter:
    """The generator stored at `uri`, kept in this process."""
    from infra.objects import Objects  # where no bucket is, no client of one is needed: the harness of benchmarks/evidence

    return from_bytes(Objects(settings).read(uri))
