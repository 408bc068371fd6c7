"""Where tensors live: everything in training follows torch's default device, chosen once at the entry point."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def best_device() -> torch.device:
    """The GPU that Ray gave this worker, else the CPU. Use as a context: `with best_device():`."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def random_stream(seed: int) -> torch.Generator:
    """A seeded random stream on the default device."""
    return torch.Generator(device=torch.get_default_device()).manual_seed(seed)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The array on the default device; shares memory with it on the CPU."""
    return torch.from_numpy(array).to(torch.get_default_device())


def precision(*, half: bool = True) -> AbstractContextManager[Any]:
    """bfloat16, if wanted, where the device is fast at it (see `fast_at_half`)."""
    kind = torch.get_default_device().type
    return torch.autocast(kind, torch.bfloat16) if half and fast_at_half(kind) else nullcontext()


@functools.cache
def fast_at_half(kind: str) -> bool:
    """Whether bfloat16 is quicker than float32: on a GPU, and on a CPU that multiplies it itself; any other is ten times slower (docs/lab, 7)."""
    known = torch.cpu.get_capabilities() if kind == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return kind == "cuda" or any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))


def on_gpu() -> bool:
    """Whether tensors are made on a GPU by default."""
    return torch.get_default_device().type == "cuda"


def name() -> str:
    """The GPU's name, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def wait() -> None:
    """Returns when the device has done all that it was asked."""
    if on_gpu():
        torch.cuda.synchronize()
