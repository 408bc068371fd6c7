"""The uplift harness: the same detector trained with and without an addition, seed by seed, on the real test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.uplift.average_precision import average_precision
from trainers.uplift.detector import cache_scene, detect, train_head

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t, two-sided 95 %, by degrees of freedom."""


@dataclass(frozen=True)
class LabelledImage:
    """An image HxWx3 uint8 with its boxes xyxy in pixels and class indices."""

    pixels: NDArray[np.uint8]
    boxes_xyxy: list[tuple[float, ...]]
    labels: list[int]


def compare(
    real: Sequence[LabelledImage],
    added: Sequence[LabelledImage],
    test: Sequence[LabelledImage],
    *,
    names: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    report: Callable[[float, str], None],
) -> dict[str, Any]:
    """Figures of both arms for each seed, and of each figure's paired difference its mean, t-interval and verdict.

    Both arms take the same number of steps on batches of the same size. `report(fraction, message)` is called as it goes.
    """
    every = [*real, *added, *test]
    scenes = []
    for i, image in enumerate(every):
        scenes.append(cache_scene(image.pixels, image.boxes_xyxy, image.labels))
        if i % 10 == 0:
            report(0.3 * i / len(every), f"features of image {i + 1} of {len(every)}")
    first, second = len(real), len(real) + len(added)
    arms = {"real": scenes[:first], "real + longtail": scenes[:second]}
    truth = [(np.array(i.boxes_xyxy, dtype=np.float64).reshape(-1, 4), np.array(i.labels, dtype=np.int64)) for i in test]
    runs: list[dict[str, Any]] = []
    for n, seed in enumerate(seeds):
        for k, (arm, training) in enumerate(arms.items()):
            report(0.3 + 0.7 * (2 * n + k) / (2 * len(seeds)), f"training arm '{arm}', seed {seed}")
            head = train_head(training, num_classes=len(names), steps=steps, seed=seed)
            found = [tuple(t.double().numpy() if t.is_floating_point() else t.numpy() for t in detect(head, s)) for s in scenes[second:]]
            runs.append({"arm": arm, "seed": seed, "figures": average_precision(truth, found, names)})  # type: ignore[arg-type]
    return {"runs": runs, "table": table(runs), "steps": steps, "seeds": list(seeds), "test_images": len(test), "added_images": len(added)}


def table(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each figure: both arms' means, the paired difference with its 95 % t-interval, and what that says."""
    rows = []
    for name in runs[0]["figures"]:
        values = {arm: [r["figures"][name] for r in runs if r["arm"] == arm] for arm in ("real", "real + longtail")}
        difference = np.array(values["real + longtail"]) - np.array(values["real"])
        low, high = paired_interval(difference)
        says = "helped" if low > 0 else "harmed" if high < 0 else "inconclusive"
        rows.append(
            {
                "figure": name,
                "real": float(np.mean(values["real"])),
                "real + longtail": float(np.mean(values["real + longtail"])),
                "difference": float(difference.mean()),
                "interval": [low, high],
                "says": says,
            }
        )
    return rows


def paired_interval(difference: NDArray[np.float64]) -> tuple[float, float]:
    """Central 95 % for the mean of paired differences, Student's t; infinite for a single pair."""
    n = len(difference)
    if n < 2:
        return -math.inf, math.inf
    half = T_975.get(n - 1, 1.96) * float(difference.std(ddof=1)) / math.sqrt(n)
    return float(difference.mean()) - half, float(difference.mean()) + half
