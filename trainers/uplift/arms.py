"""The uplift harness: the same detector trained with and without an addition, seed by seed, on the real test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from trainers.uplift.average_precision import average_precision
from trainers.uplift.detector import cache_scene, detect, train_head

REAL, GROWN, CLASSICAL = "real", "real + longtail", "real + classical"
LEVEL = 0.05
"""Chance of any false "helped" or "harmed" in a table, over all of its rows."""


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
    """Figures of every arm for each seed, and of each figure's paired difference its mean, t-interval and verdict.

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
    for n, seed in enumerate(seeds):
        for k, (arm, training) in enumerate(arms.items()):
            report(0.3 + 0.7 * (len(arms) * n + k) / (len(arms) * len(seeds)), f"training arm '{arm}', seed {seed}")
            head = train_head(training, num_classes=len(names), steps=steps, seed=seed)
            found = [tuple(t.double().numpy() if t.is_floating_point() else t.numpy() for t in detect(head, s)) for s in scenes[third:]]
            runs.append({"arm": arm, "seed": seed, "figures": average_precision(truth, found, names)})  # type: ignore[arg-type]
    classical = {"classical": table(runs, CLASSICAL), "varied_images": len(varied)} if varied else {}
    counted = {"test_images": len(test), "added_images": len(added), **classical}
    return {"runs": runs, "table": table(runs), "steps": steps, "seeds": list(seeds), **counted}


def table(runs: Sequence[Mapping[str, Any]], arm: str = GROWN) -> list[dict[str, Any]]:
    """For each figure: the means of real data alone and of an arm, their paired difference with its 95 % t-interval, its p-value, what that says.

    "helped" and "harmed" hold over the whole table: Holm's step-down (1979) at `LEVEL`.
    """
    rows: list[dict[str, Any]] = []
    for name in runs[0]["figures"]:
        values = {a: [r["figures"][name] for r in runs if r["arm"] == a] for a in (REAL, arm)}
        difference = np.array(values[arm]) - np.array(values[REAL])
        low, high = paired_interval(difference)
        rows.append(
            {
                "figure": name,
                REAL: float(np.mean(values[REAL])),
                arm: float(np.mean(values[arm])),
                "difference": float(difference.mean()),
                "interval": [low, high],
                "p": paired_p(difference),
            }
        )
    for row, small in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["says"] = "inconclusive" if not small else "helped" if row["difference"] > 0 else "harmed"
    return rows


def holm(p_values: Sequence[float], *, level: float = LEVEL) -> list[bool]:
    """Which hypotheses fall when all of them are asked at once. Source: Holm 1979; nan never falls."""
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    falls = [False] * len(p_values)
    for rank, i in enumerate(order):
        if not p_values[i] <= level / (len(p_values) - rank):
            break
        falls[i] = True
    return falls


def paired_p(difference: NDArray[np.float64]) -> float:
    """Two-sided p-value of a mean difference of zero, Student's t; 1 where nothing can be told."""
    n = len(difference)
    spread = float(difference.std(ddof=1)) if n > 1 else 0.0
    if spread == 0 or not math.isfinite(spread):
        return 1.0
    return float(2 * student.sf(abs(float(difference.mean())) * math.sqrt(n) / spread, n - 1))


def paired_interval(difference: NDArray[np.float64]) -> tuple[float, float]:
    """Central 95 % for the mean of paired differences, Student's t; infinite for a single pair."""
    n = len(difference)
    if n < 2:
        return -math.inf, math.inf
    half = float(student.ppf(0.975, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    return float(difference.mean()) - half, float(difference.mean()) + half
