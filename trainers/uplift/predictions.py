"""What a classifier said of each test image, so that balanced accuracy and F1 can be asked of any resample of the images.

Shape legend: I images, W weightings, C classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.uplift.packing import packed, unpacked

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """The true and the predicted class of each test image, [I] each."""

    truth: NDArray[np.int64]
    said: NDArray[np.int64]

    def counts(self, weights_WI: NDArray[np.floating], label: int) -> tuple[Floats, Floats, Floats]:
        """(hits, images of the class, images said to be of it), [W] each, where image i counts `weights_WI[w, i]` times."""
        is_it, said_it = self.truth == label, self.said == label
        return weights_WI @ (is_it & said_it), weights_WI @ is_it, weights_WI @ said_it

    def recall(self, weights_WI: NDArray[np.floating], label: int) -> Floats:
        hits, there, _ = self.counts(weights_WI, label)
        return np.where(there > 0, hits / np.maximum(there, 1e-12), np.nan)

    def f1(self, weights_WI: NDArray[np.floating], label: int) -> Floats:
        """Harmonic mean of precision and recall, nan where no image of the class counts."""
        hits, there, said = self.counts(weights_WI, label)
        return np.where(there > 0, 2 * hits / np.maximum(there + said, 1e-12), np.nan)


def figures_of(names: Sequence[str], rare: Sequence[str] = ()) -> dict[str, Callable[[Predictions, NDArray[np.floating]], Floats]]:
    """What is asked of a run: macro-F1, over the rare classes too where they are named, balanced accuracy, and F1 of each class, [W] each."""

    def mean(run: Predictions, weights: NDArray[np.floating], labels: Sequence[int], of: Callable[..., Floats]) -> Floats:
        values = np.stack([of(run, weights, k) for k in labels])
        seen = np.isfinite(values)
        found: Floats = np.where(seen.any(0), np.where(seen, values, 0).sum(0) / np.maximum(seen.sum(0), 1), np.nan)
        return found

    every = range(len(names))
    starved = {"F1/rare": functools.partial(mean, labels=[names.index(n) for n in rare], of=Predictions.f1)} if rare else {}
    each = {f"F1/{name}": functools.partial(mean, labels=[k], of=Predictions.f1) for k, name in enumerate(names)}
    overall = functools.partial(mean, labels=every, of=Predictions.f1)
    return {"macro-F1": overall, **starved, "balanced accuracy": functools.partial(mean, labels=every, of=Predictions.recall), **each}


def pack(run: Predictions) -> str:
    return packed({"truth": run.truth.astype(np.uint16), "said": run.said.astype(np.uint16)})


def unpack(text: str) -> Predictions:
    arrays = unpacked(text)
    return Predictions(arrays["truth"].astype(np.int64), arrays["said"].astype(np.int64))
