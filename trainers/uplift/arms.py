"""What runs say together: each is kept as plain JSON, and tables are made of them afterwards.

An evaluation can so be interrupted between any two of its runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.errors import InvalidRequest
from trainers.uplift import matches, predictions
from trainers.uplift.bench import Model
from trainers.uplift.statistics import Floats, paired_difference, verdicts

Figures = Mapping[str, Callable[[Any, NDArray[np.floating]], Floats]]

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
