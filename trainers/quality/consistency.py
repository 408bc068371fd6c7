"""Label consistency: does a classifier that knows the real classes, and the background, agree with the label?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trainers.device import as_tensor

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
FOLDS = 4


@dataclass(frozen=True)
class Classifier:
    """A multinomial logistic regression on standardised features."""

    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def probabilities(self, features_ND: Floats) -> Floats:
        """[N, classes], rows summing to 1."""
        x = (as_tensor(np.asarray(features_ND, dtype=np.float32)) - self.mean) / self.scale
        found: Floats = (x @ self.weight + self.bias).softmax(1).cpu().numpy()
        return found


def fit(features_ND: Floats, labels_N: Labels, *, classes: int, decay: float = 1e-2) -> Classifier:
    """Class-balanced logistic regression, by L-BFGS; deterministic."""
    x = as_tensor(np.asarray(features_ND, dtype=np.float32))
    y = as_tensor(np.asarray(labels_N))
    mean, scale = x.mean(0), x.std(0).clamp_min(1e-4) * x.shape[1] ** 0.5
    x = (x - mean) / scale
    counts = torch.bincount(y, minlength=classes).float()
    balance = torch.where(counts > 0, len(y) / (classes * counts.clamp_min(1)), torch.zeros(()))
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y, weight=balance) + decay * weight.square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Classifier(weight.detach(), bias.detach(), mean, scale)


@dataclass(frozen=True)
class CrossFitted:
    """Classifiers of the same real images, each without one fold of them; `fold_N` says in which fold an image is, -1 where every classifier saw it."""

    classifiers: tuple[Classifier, ...]
    fold_N: NDArray[np.int64]

    def probabilities(self, features_MD: Floats, owners_M: Sequence[Sequence[int]]) -> Floats:
        """[M, classes], each by the classifier that never saw the sample's owner, the row of the real image that it is or derives from.

        Of two owners by the mean of the two that each never saw one, of none by the mean of them all.
        """
        every = np.stack([c.probabilities(features_MD) for c in self.classifiers])
        folds = [sorted({int(self.fold_N[row]) for row in owners} - {-1}) for owners in owners_M]
        return np.stack([every[fold or slice(None), i].mean(0) for i, fold in enumerate(folds)])


def cross_fit(features_ND: Floats, labels_N: Labels, *, classes: int, folds: int = FOLDS, seed: int = 0) -> CrossFitted:
    """Each class is dealt out over the folds by itself; the only image of its class is in none of them, since nothing else would show the class."""
    rng, fold_N = np.random.default_rng(seed), np.full(len(labels_N), -1, dtype=np.int64)
    first = 0
    for c in range(classes):
        mine = rng.permutation(np.flatnonzero(labels_N == c))
        if len(mine) > 1:
            fold_N[mine] = (first + np.arange(len(mine))) % folds
            first += len(mine)
    kept = [fold_N != fold for fold in range(folds)]
    return CrossFitted(tuple(fit(features_ND[k], labels_N[k], classes=classes) for k in kept), fold_N)


def cross_fitted_agreement(fitted: CrossFitted, features_ND: Floats, labels_N: Labels) -> Floats:
    """[N]: the probability that a classifier which never saw the image gives its label. What real images attain."""
    return fitted.probabilities(features_ND, [[row] for row in range(len(labels_N))])[np.arange(len(labels_N)), labels_N]
