"""The table for people."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evidence.table import RowResult


def write(results: Sequence[RowResult], *, quick: bool) -> None:
    for r in results:
        print(r.row.name, r.figure, r.runs, {k: round(v, 3) for k, v in r.means.items()}, r.chosen)
        for pair, d in r.differences.items():
            print("   ", pair, f"{d.mean:+.3f} [{d.interval[0]:+.3f}, {d.interval[1]:+.3f}] p={d.p:.3f}")
