"""Whether the reference models can be believed: on all of BCCD, on ten of its images by heart, on Noto's twenty a class.

    python -m benchmarks.judges --data DATA [--seeds 3] [--quick]

The detector on the 205 training images, 2,000 steps, with either start; the same trained and measured on ten images; the classifier and the linear
probe on twenty images a class. Means over runs with other seeds, least and most beside them, each on one core.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.evidence.folder import FolderView
from benchmarks.evidence.rows import ROWS, detection, in_list, listed
from benchmarks.report import Figure, save
from trainers.uplift.arms import figures_of, measure, outcome_of
from trainers.uplift.bench import Bench, Model, Setting
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled

WHOLE_STEPS, WHOLE_AP50, BY_HEART = 2000, 0.85, 0.95
MODELS: tuple[Model, ...] = ("probe", "classifier")
MOST_S = 300.0
"""Core-seconds of a run: two and a half minutes on two cores."""


def bccd_whole(data: Path) -> FolderView:
    root = data / "bccd"
    parts = {s: (f"coco_{s}.json", functools.partial(in_list, stems=listed(root / "splits" / f"{s}.txt"))) for s in ("train", "test")}
    return detection(root, parts, ["RBC", "WBC", "Platelets"], lambda image, name: name)  # type: ignore[arg-type]


@dataclass
class Runs:
    """What runs with other seeds reached on test, and the core-seconds of each."""

    figures: list[Mapping[str, float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, setting: Setting, names: Sequence[str], train: Sequence[Labelled], test: Sequence[Labelled], *, seed: int) -> None:
        bench = Bench(setting, names, Canvas.of([(i.pixels.shape[1], i.pixels.shape[0]) for i in train], long_side_px=setting.side_px))
        began = time.process_time()
        outcome = bench.run(bench.prepare(train), {"test": (test, bench.prepare(test))}, seed=seed)["test"]
        self.figures.append(measure(outcome_of(setting.model, outcome), figures_of(setting.model, names, [])))
        self.seconds.append(time.process_time() - began)

    def of(self, name: str, figure: str, target: float | None = None) -> Figure:
        """Mean over the runs, least and most beside it."""
        values = [found[figure] or 0.0 for found in self.figures]
        mean = statistics.fmean(values)
        return Figure(f"{name}: {figure}", mean, figure, f">= {target}" if target else "", mean >= target if target else None, (min(values), max(values)))

    def slowest(self, name: str) -> Figure:
        return Figure(f"{name}: core-seconds, slowest run", max(self.seconds), "s", f"<= {MOST_S:g}", max(self.seconds) <= MOST_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, a twentieth of the steps")
    a = parser.parse_args()
    if a.seeds < 1:
        parser.error("--seeds: expected one at least")
    torch.set_num_threads(1)
    less, seeds = (20, 1) if a.quick else (1, a.seeds)
    figures = detectors(a.data, less, seeds) + classifiers(a.data, less, seeds)
    save("judges", figures, quick=a.quick)


def detectors(data: Path, less: int, seeds: int) -> list[Figure]:
    view = bccd_whole(data)
    train, test = view.labelled("train"), view.labelled("test")
    whole, figures = Setting("detector", WHOLE_STEPS // less), []
    for name, setting, learned, held, target in (
        ("detector, BCCD whole", whole, train, test, WHOLE_AP50),
        ("detector from random weights, BCCD whole", replace(whole, weights="random"), train, test, None),
        ("detector, ten images by heart", replace(whole, steps=1500 // less), train[:10], train[:10], BY_HEART),
    ):
        runs = Runs()
        for seed in range(seeds):
            runs.add(setting, view.names, learned, held, seed=seed)
        figures += [runs.of(name, "AP50", target), runs.of(name, "AP"), runs.slowest(name)]
    return figures


def classifiers(data: Path, less: int, seeds: int) -> list[Figure]:
    """Each seed is another draw of the training images too."""
    row, figures = ROWS["noto"], []
    draws = [row.draw(data, seed) for seed in range(seeds)]
    for model in MODELS:
        setting = replace(row.setting, model=model, steps=row.setting.steps // less)
        runs, name = Runs(), f"{model}, Noto 20 a class"
        for seed, few in enumerate(draws):
            runs.add(setting, few.names, few.labelled("train"), few.labelled("test"), seed=seed)
        figures += [runs.of(name, "macro-F1"), runs.of(name, "balanced accuracy"), runs.slowest(name)]
    return figures


if __name__ == "__main__":
    main()
