"""Label consistency: does a classifier that knows the real classes, and the background, agree with the label?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trainers.device import as_tensor

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


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


def cross_fitted_agreement(features_ND: Floats, labels_N: Labels, *, classes: int, folds: int = 4, seed: int = 0) -> Floats:
    """[N]: the probability that a classifier which never saw the image gives its label. What real images attain."""
    order = np.random.default_rng(seed).permutation(len(labels_N))
    fold_N = np.empty(len(labels_N), dtype=np.int64)
    fold_N[order] = np.arange(len(labels_N)) % folds
    agreed = np.zeros(len(labels_N))
    for fold in range(folds):
        out = fold_N == fold
        if out.any() and (~out).any():
            found = fit(features_ND[~out], labels_N[~out], classes=classes).probabilities(features_ND[out])
            agreed[out] = found[np.arange(out.sum()), labels_N[out]]
    return agreed
