"""One run of an arm: a reference model trained on its images and measured on real ones, and what many runs say together.

A run is kept as plain JSON; tables are made of runs afterwards, so that an evaluation can be interrupted between any two of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from longtail.errors import InvalidRequest
from trainers.uplift import classifier, matches, predictions
from trainers.uplift.backbone import Weights
from trainers.uplift.detector import Canvas, Scene, detect, scenes, train_detector
from trainers.uplift.images import Labelled
from trainers.uplift.statistics import Floats, paired_difference, verdicts

Model = Literal["detector", "classifier", "probe", "plugged"]
Figures = Mapping[str, Callable[[Any, NDArray[np.floating]], Floats]]

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
            seen = np.stack([v for v, _ in training])
            return {n: classifier.probe(seen, labels, np.stack([v for v, _ in m]), num_classes=len(self.names)) for n, m in measured.items()}
        model = classifier.train_classifier(
            torch.stack([m for m, _ in training]), labels, num_classes=len(self.names), steps=setting.steps, seed=seed, batch=setting.batch,
            weights=setting.weights,
        )  # fmt: skip
        return {n: classifier.classify(model, torch.stack([v for v, _ in m])) for n, m in measured.items()}


def outcome_of(model: Model, kept: Any) -> Any:
    """What a run's figures are taken from: matches, predictions or, of a team's own trainer, the figures that it gave."""
    if model == "plugged":
        return kept
    return matches.unpack(kept) if model == "detector" else predictions.unpack(kept)


def figures_of(model: Model, names: Sequence[str], rare: Sequence[str], *, example: Any = None) -> Figures:
    """What is asked of a run; of a team's own trainer every figure of an `example`."""
    if model == "plugged":
        return {name: functools.partial(given, name=name) for name in example}
    return matches.figures_of(names, rare) if model == "detector" else predictions.figures_of(names, rare)


def given(run: Mapping[str, float], weights: NDArray[np.floating], *, name: str) -> Floats:
    """A figure that says nothing of single images."""
    if name not in run:
        raise InvalidRequest(f"trainer: one of its runs gives no {name!r}; every run must give the same figures")
    return np.full(len(weights), run[name])


def primary_of(model: Model, rare: Sequence[str], figures: Figures) -> str:
    """The figure that decides: over the rare classes where there are any; a team's own trainer's first."""
    if model == "plugged":
        return next(iter(figures))
    overall, starved = ("AP", "AP/rare") if model == "detector" else ("macro-F1", "F1/rare")
    return starved if rare else overall


def measure(outcome: Any, figures: Figures) -> dict[str, float | None]:
    """Each figure on all of the images; None where it cannot be had, as of a class that they do not show."""
    return {name: number(figure(outcome, np.ones((1, images_of(outcome))))[0]) for name, figure in figures.items()}


def number(value: float | np.floating[Any]) -> float | None:
    """JSON knows no nan, and no infinity."""
    return float(value) if np.isfinite(value) else None


def images_of(outcome: Any) -> int:
    if isinstance(outcome, Mapping):
        return 1
    return len(outcome.truth) if isinstance(outcome, predictions.Predictions) else len(outcome[0].objects)


def table(reference: Sequence[Any], arm: Sequence[Any], figures: Figures, *, draws: Sequence[object]) -> list[dict[str, Any]]:
    """For each figure: the means of reference and arm over paired runs, their difference with its 95 % interval, its p-value, what that says.

    `draws` names the draw of training images of each run. "helped" and "harmed" hold over the whole table (Holm). What cannot be had is None.
    """
    images = images_of(reference[0])
    once = np.ones((1, images))
    rows, found = [], []
    for name, figure in figures.items():
        means = [float(np.mean([figure(run, once)[0] for run in runs])) for runs in (reference, arm)]

        def differences(weights_WI: NDArray[np.floating], figure: Callable[..., Floats] = figure) -> Floats:
            return np.stack([figure(b, weights_WI) - figure(a, weights_WI) for a, b in zip(reference, arm, strict=True)], 1)

        difference = paired_difference(differences, draws=draws, images=images)
        found.append(difference)
        rows.append(
            {"figure": name, "reference": number(means[0]), "arm": number(means[1]), "difference": number(difference.mean),
             "interval": [number(v) for v in difference.interval], "p": number(difference.p), "runs": difference.runs, "images": difference.images}
        )  # fmt: skip
    return [{**row, "says": says} for row, says in zip(rows, verdicts(found), strict=True)]
