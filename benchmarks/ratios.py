"""How much to add: what a row's arms reach on val when some times as many images are added. Nothing here looks at a test image.

    python -m benchmarks.ratios --data DATA [--rows bccd10] [--draws 0,1,2,3] [--times 1,3] [--seeds 1] [--workers 2]

Draws, images and judges are those of `benchmarks.evidence`, whose runs are taken where it has them, though of other generators by the same recipe.
Means over draws of the figure that decides the row; of a difference between two arms the least and most of a draw. out/ratios keeps each run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.evidence.additions import generator_of
from benchmarks.evidence.rows import ROWS, Row
from benchmarks.evidence.runs import BOTH, CLASSICAL, LONGTAIL, PASTED, REAL, Added, arms_of, bench_of, kept, key_of
from benchmarks.report import Figure, once, save
from trainers.uplift.arms import figures_of, measure, outcome_of, primary_of

OUT = Path("out") / "ratios"
ARMS = (REAL, CLASSICAL, PASTED, LONGTAIL, BOTH)
PAIRS = ((LONGTAIL, CLASSICAL), (LONGTAIL, PASTED), (BOTH, CLASSICAL), (LONGTAIL, REAL))
Reached = dict[str, list[float]]


def grown_by(row: Row, times: float) -> Row:
    """The row with some times as many images; the same row where that is one, so that its runs are known."""
    return row if times == 1 else replace(row, ratios=(row.ratios[0] * times, row.ratios[1] * times))


def on_val(row: Row, data: Path, draw: int, seeds: int) -> Reached:
    """{arm: the row's figure on val with each seed}, of one draw."""
    torch.set_num_threads(1)
    say = functools.partial(print, f"{row.name} {draw}, {row.ratios[1]:g} for a real one:", flush=True)
    view = row.draw(data, draw)
    painter, weights = generator_of(row, view, draw, say)
    bench = bench_of(row, view)
    real, val = bench.prepare(view.labelled("train")), view.labelled("val")
    measured = {"val": (val, bench.prepare(val))}
    names, rare = list(view.names), list(row.grown)
    figures = figures_of(row.setting.model, names, rare)
    primary = primary_of(row.setting.model, rare, figures)
    added = Added(row, view, draw, painter, bench)

    def run(arm: str, seed: int) -> str:
        body = kept(row.name, draw)
        found = body["runs"].get(f"{arm}-{seed}", {})
        if found.get("key") == key_of(row, arm, view.fingerprint(), body.get("generator", "")):
            return str(found["val"])
        return bench.run(real + added.of(arm), measured, seed=seed)["val"]

    reached: Reached = {}
    for arm, seed in itertools.product((a for a in ARMS if a in arms_of(row)), range(seeds)):
        name = f"{row.name}-{draw}-{arm}-{seed}-{key_of(row, arm, view.fingerprint(), weights)}.json"
        value = measure(outcome_of(row.setting.model, once(OUT / name, functools.partial(run, arm, seed))), figures)[primary]
        reached.setdefault(arm, []).append(float("nan") if value is None else value)
        say(f"{arm} seed {seed}: {primary} {reached[arm][-1]:.3f} on val")
    return reached


def told(name: str, draws: Sequence[Reached]) -> list[Figure]:
    """Means over draws, and differences with the least and most of a draw."""
    means = {arm: [statistics.fmean(d[arm]) for d in draws] for arm in draws[0]}
    found = [Figure(f"{name}/{arm}", statistics.fmean(values), "on val", spread=(min(values), max(values))) for arm, values in means.items()]
    for arm, reference in PAIRS:
        if {arm, reference} <= set(means):
            apart = [a - b for a, b in zip(means[arm], means[reference], strict=True)]
            found.append(Figure(f"{name}/{arm} - {reference}", statistics.fmean(apart), "on val", spread=(min(apart), max(apart))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", default="bccd10")
    parser.add_argument("--draws", default="0,1,2,3")
    parser.add_argument("--times", default="1,3")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="draws at a time, one core each")
    a = parser.parse_args()
    draws, times = [int(d) for d in a.draws.split(",")], [float(t) for t in a.times.split(",")]
    figures = []
    with ProcessPoolExecutor(a.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, more in itertools.product(a.rows.split(","), times):
            row = grown_by(ROWS[name], more)
            waiting = [pool.submit(on_val, row, a.data, draw, a.seeds) for draw in draws]
            figures += told(f"{name}/{row.ratios[1]:g} for a real one", [w.result() for w in waiting])
    save("ratios", figures, quick=False)


if __name__ == "__main__":
    main()
