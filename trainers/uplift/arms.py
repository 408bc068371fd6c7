"""The uplift harness: the same detector trained with and without an addition, seed by seed, on the real test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.uplift.average_precision import average_precision
from trainers.uplift.detector import cache_scene, detect, train_head
from trainers.uplift.matches import Matches, figures_of, match
from trainers.uplift.statistics import paired_difference, verdicts

REAL, GROWN, CLASSICAL = "real", "real + longtail", "real + classical"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledImage:
    """An image, read when asked for as HxWx3 uint8, with its boxes xyxy in pixels and class indices."""

    pixels: Callable[[], NDArray[np.uint8]]
    boxes_xyxy: list[tuple[float, ...]]
    labels: list[int]


def compare(
    real: Sequence[LabelledImage],
    added: Sequence[LabelledImage],
    test: Sequence[LabelledImage],
    *,
    varied: Sequence[LabelledImage] = (),
    names: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    report: Callable[[float, str], None],
) -> dict[str, Any]:
    """Figures of every arm for each seed, and of each figure's paired difference its mean, interval over seeds and test images, and verdict.

    The arms take the same number of steps on batches of the same size; `varied`, the real images after a classical policy, make
    one of their own beside what is added. `report(fraction, message)` is called as it goes.
    """
    every = [*real, *added, *varied, *test]
    scenes = []
    for i, image in enumerate(every):
        scenes.append(cache_scene(image.pixels(), image.boxes_xyxy, image.labels))
        if i % 10 == 0:
            report(0.3 * i / len(every), f"features of image {i + 1} of {len(every)}")
    first, second, third = len(real), len(real) + len(added), len(real) + len(added) + len(varied)
    arms = {REAL: scenes[:first], GROWN: scenes[:second]}
    if varied:
        arms[CLASSICAL] = scenes[:first] + scenes[second:third]
    truth = [(np.array(i.boxes_xyxy, dtype=np.float64).reshape(-1, 4), np.array(i.labels, dtype=np.int64)) for i in test]
    runs: list[dict[str, Any]] = []
    matches: dict[str, list[list[Matches]]] = {arm: [] for arm in arms}
    for n, seed in enumerate(seeds):
        for k, (arm, training) in enumerate(arms.items()):
            report(0.3 + 0.65 * (len(arms) * n + k) / (len(arms) * len(seeds)), f"training arm '{arm}', seed {seed}")
            head = train_head(training, num_classes=len(names), steps=steps, seed=seed)
            found = [tuple(t.double().numpy() if t.is_floating_point() else t.numpy() for t in detect(head, s)) for s in scenes[third:]]
            runs.append({"arm": arm, "seed": seed, "figures": average_precision(truth, found, names)})  # type: ignore[arg-type]
            matches[arm].append(match(truth, found, classes=len(names)))  # type: ignore[arg-type]
    report(0.95, "drawing runs and test images anew")
    tables = {arm: table(matches[REAL], matches[arm], names, arm) for arm in arms if arm != REAL}
    classical = {"classical": tables[CLASSICAL], "varied_images": len(varied)} if varied else {}
    counted = {"test_images": len(test), "added_images": len(added), **classical}
    return {"runs": runs, "table": tables[GROWN], "steps": steps, "seeds": list(seeds), **counted}


def table(real: Sequence[Sequence[Matches]], grown: Sequence[Sequence[Matches]], names: Sequence[str], arm: str) -> list[dict[str, Any]]:
    """For each figure: the means of real data alone and of an arm, their paired difference with its 95 % interval, its p-value, what that says.

    `real` and `grown` are each run's matches, a class each, in the same order. "helped" and "harmed" hold over the whole table.
    """
    images = len(real[0][0].objects)
    rows, found = [], []
    for name, figure in figures_of(names).items():
        means = [float(np.mean([figure(run, np.ones((1, images)))[0] for run in runs])) for runs in (real, grown)]

        def differences(weights_WI: NDArray[np.floating], figure: Callable[..., Floats] = figure) -> Floats:
            return np.stack([figure(b, weights_WI) - figure(a, weights_WI) for a, b in zip(real, grown, strict=True)], 1)

        difference = paired_difference(differences, runs=len(real), images=images)
        found.append(difference)
        rows.append(
            {"figure": name, REAL: means[0], arm: means[1], "difference": difference.mean, "interval": list(difference.interval), "p": difference.p}
        )
    return [{**row, "says": says} for row, says in zip(rows, verdicts(found), strict=True)]
