"""Whether the reference models can be believed: on all of BCCD, on ten of its images by heart, on Noto's twenty a class.

    python -m benchmarks.judges --data DATA [--quick]

The detector on the 205 training images, 2,000 steps, with either start; the same trained and measured on ten images; the classifier and the linear
probe on twenty images a class. One run each, on one core: its seconds stand beside it.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.evidence.folder import FolderView
from benchmarks.evidence.rows import ROWS, detection, in_list, listed
from benchmarks.report import Figure, save
from trainers.uplift.arms import figures_of, measure, outcome_of
from trainers.uplift.bench import Bench, Setting
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled

WHOLE_STEPS, WHOLE_AP50, BY_HEART = 2000, 0.85, 0.95
MOST_S = 300.0
"""Core-seconds of a run: two and a half minutes on two cores."""


def bccd_whole(data: Path) -> FolderView:
    root = data / "bccd"
    parts = {s: (f"coco_{s}.json", functools.partial(in_list, stems=listed(root / "splits" / f"{s}.txt"))) for s in ("train", "test")}
    return detection(root, parts, ["RBC", "WBC", "Platelets"], lambda image, name: name)  # type: ignore[arg-type]


def reached(setting: Setting, names: Sequence[str], train: Sequence[Labelled], test: Sequence[Labelled]) -> tuple[dict[str, float | None], float]:
    """(figures on test, core-seconds)."""
    bench = Bench(setting, names, Canvas.of([(i.pixels.shape[1], i.pixels.shape[0]) for i in train], long_side_px=setting.side_px))
    began = time.process_time()
    outcome = bench.run(bench.prepare(train), {"test": (test, bench.prepare(test))}, seed=0)["test"]
    return measure(outcome_of(setting.model, outcome), figures_of(setting.model, names, [])), time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps")
    a = parser.parse_args()
    torch.set_num_threads(1)
    less = 20 if a.quick else 1
    view, few = bccd_whole(a.data), ROWS["noto"].draw(a.data, 0)
    train, test = view.labelled("train"), view.labelled("test")
    whole = Setting("detector", WHOLE_STEPS // less)
    figures = []
    for name, setting, learned, held, target in (
        ("detector, BCCD whole", whole, train, test, WHOLE_AP50),
        ("detector from random weights, BCCD whole", replace(whole, weights="random"), train, test, None),
        ("detector, ten images by heart", replace(whole, steps=1500 // less), train[:10], train[:10], BY_HEART),
    ):
        found, seconds = reached(setting, view.names, learned, held)
        value = found["AP50"] or 0.0
        figures += [Figure(f"{name}: AP50", value, "AP50", f">= {target}" if target else "", value >= target if target else None)]
        figures += [Figure(f"{name}: AP", found["AP"] or 0.0, "AP"), Figure(f"{name}: core-seconds", seconds, "s", f"<= {MOST_S:g}", seconds <= MOST_S)]
    for model in ("probe", "classifier"):
        setting = replace(ROWS["noto"].setting, model=model, steps=ROWS["noto"].setting.steps // less)  # type: ignore[arg-type]
        found, seconds = reached(setting, few.names, few.labelled("train"), few.labelled("test"))
        figures += [Figure(f"{model}, Noto 20 a class: macro-F1", found["macro-F1"] or 0.0, "macro-F1"), Figure(f"{model}: core-seconds", seconds, "s")]
    save("judges", figures, quick=a.quick)


if __name__ == "__main__":
    main()
