"""A reference model as a judge: images prepared once, then a model trained on any of them and measured on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.uplift import classifier, matches, predictions
from trainers.uplift.backbone import Weights
from trainers.uplift.detector import Canvas, Scene, detect, scenes, train_detector
from trainers.uplift.images import Labelled

Model = Literal["detector", "classifier", "probe", "plugged"]


@dataclass(frozen=True)
class Setting:
    """How every arm of an evaluation is trained: model, steps, where its weights begin, and the image's side in pixels."""

    model: Model
    steps: int
    weights: Weights = "pretrained"
    side_px: int = 256
    batch: int = 16


class Bench:
    """A reference model's view of images: prepared once each, then used by any number of runs."""

    def __init__(self, setting: Setting, names: Sequence[str], canvas: Canvas) -> None:
        self.setting, self.names, self.canvas = setting, list(names), canvas

    def prepare(self, images: Sequence[Labelled]) -> list[Any]:
        """What a run takes of each image."""
        if not images:
            return []
        if self.setting.model == "detector":
            return list(scenes([(i.pixels, i.boxes_xyxy, i.labels) for i in images], self.canvas, weights=self.setting.weights))
        maps = classifier.pictures([i.pixels for i in images], side_px=self.setting.side_px, weights=self.setting.weights)
        seen = classifier.frozen_features(maps) if self.setting.model == "probe" else maps
        return [(one, image.labels[0]) for one, image in zip(seen, images, strict=True)]

    def run(self, training: Sequence[Any], measured: Mapping[str, tuple[Sequence[Labelled], Sequence[Any]]], *, seed: int) -> dict[str, str]:
        """{split: packed outcome} of a model trained on prepared images, for each named split's (images, prepared)."""
        if self.setting.model == "detector":
            return self._detected(training, measured, seed)
        truth = {name: np.array([i.labels[0] for i in images], dtype=np.int64) for name, (images, _) in measured.items()}
        said = self._classified(training, {name: prepared for name, (_, prepared) in measured.items()}, seed)
        return {name: predictions.pack(predictions.Predictions(truth[name], said[name])) for name in measured}

    def _detected(self, training: Sequence[Scene], measured: Mapping[str, tuple[Sequence[Labelled], Sequence[Scene]]], seed: int) -> dict[str, str]:
        setting = self.setting
        model = train_detector(training, num_classes=len(self.names), steps=setting.steps, seed=seed, weights=setting.weights)
        found = {}
        for name, (images, prepared) in measured.items():
            truth = [(np.array(i.boxes_xyxy, dtype=np.float64).reshape(-1, 4), np.array(i.labels, dtype=np.int64)) for i in images]
            found[name] = matches.pack(matches.match(truth, [detect(model, s) for s in prepared], classes=len(self.names)))
        return found

    def _classified(self, training: Sequence[Any], measured: Mapping[str, Sequence[Any]], seed: int) -> dict[str, NDArray[np.int64]]:
        setting, labels = self.setting, np.array([label for _, label in training], dtype=np.int64)
        if setting.model == "probe":
            again = drawn_again(labels, seed)
            seen, labels = np.stack([v for v, _ in training])[again], labels[again]
            return {n: classifier.probe(seen, labels, np.stack([v for v, _ in m]), num_classes=len(self.names)) for n, m in measured.items()}
        model = classifier.train_classifier(
            torch.stack([m for m, _ in training]), labels, num_classes=len(self.names), steps=setting.steps, seed=seed, batch=setting.batch,
            weights=setting.weights,
        )  # fmt: skip
        return {n: classifier.classify(model, torch.stack([v for v, _ in m])) for n, m in measured.items()}


def drawn_again(labels_N: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """As many images of each class as there are, with replacement: a probe has no chance of its own, so that its runs differ by this."""
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(labels_N == c) for c in np.unique(labels_N)]
    return np.concatenate([rng.choice(p, len(p)) for p in parts])
