"""The evidence as people read it: the table of the README and docs/evidence.md, and the figures beside their targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.rows import RANDOM, ROWS
from benchmarks.evidence.runs import BOTH, CLASSICAL, LONGTAIL, PASTED, REAL, SOME, TWICE, WITH_PASTED
from benchmarks.evidence.table import ONCE, POLICY, RowResult
from benchmarks.report import README, Figure, save, write_between
from longtail.uplift import MIN_RUNS, holm
from trainers.uplift.statistics import Difference, paired_interval

DOCS = Path(__file__).parents[2] / "docs" / "evidence.md"
ARMS = {
    REAL: "real", CLASSICAL: "+ classical", PASTED: "+ copy-paste", LONGTAIL: "+ Longtail", BOTH: "+ both", TWICE: "+ classical twice",
    WITH_PASTED: "+ classical and copy-paste",
}  # fmt: skip
PAIRS = {
    (LONGTAIL, CLASSICAL): "Longtail − classical", (LONGTAIL, PASTED): "Longtail − copy-paste", (BOTH, CLASSICAL): "both − classical",
    (BOTH, TWICE): "both − classical twice",
    (BOTH, WITH_PASTED): "both − classical and copy-paste", (POLICY, REAL): "kept by the policy, − real",
}  # fmt: skip
POINTS = 0.05
FORMER = " †"
SPOKEN = {PASTED: "Pasted", LONGTAIL: "Longtail's"}
ORDER = ("bccd5", "bccd10", "bccd20", "bccd50", "magnetic_tile", "nuclei", "cifar_longtail", "noto", *RANDOM.values())
"""Rows as they are read; they are measured in the order of `ROWS`."""
WORST = {(POLICY, REAL): "under the policy", (LONGTAIL, CLASSICAL): "with Longtail's beside varied copies"}
SHARES = {SOME: "a part", LONGTAIL: "all", REAL: "none"}


def write(results: Sequence[RowResult], *, quick: bool) -> None:
    """Prints the table, writes the figures, and puts the table into README.md and docs/evidence.md."""
    begun = [r.row.title for r in results if not quick and r.runs < MIN_RUNS]
    results = sorted((r for r in results if quick or r.runs >= MIN_RUNS), key=lambda r: ORDER.index(r.row.name.removesuffix("-quick")))
    print(*(f"{title}: fewer than {MIN_RUNS} runs yet, not in the table" for title in begun), sep="\n")
    if not results:
        print("no row has all of its arms yet")
        return
    lines = markdown(results)
    print("\n".join(lines))
    save("evidence", figures(results), quick=quick)
    if not quick:
        write_between(README, "evidence", "\n".join(lines))
        below = ["", *targets(promises(results)), "", together(results), "", asked_once(results), "", *details(results)]
        write_between(DOCS, "evidence", "\n".join([*lines, *below]))


def markdown(results: Sequence[RowResult]) -> list[str]:
    """One line a row: each arm, the differences that the promise rests on, and what a draw's generator cost."""
    titles = ["data", "added for a real image", "figure", *ARMS.values(), *PAIRS.values(), "runs", "generator"]
    sure = {pair: holm([d.p if (d := r.differences.get(pair)) else math.nan for r in results]) for pair in PAIRS}
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for k, r in enumerate(results):
        means = [mean_of(r, arm) for arm in ARMS]
        pairs = [shown(r.differences.get(pair), sure=sure[pair][k]) for pair in PAIRS]
        about = [r.row.title + FORMER * r.former, f"{r.row.ratios[1]:g}", r.figure]
        runs = str(r.runs) if r.runs == r.draws else f"{r.draws} x {r.runs // r.draws}"
        lines.append("| " + " | ".join([*about, *means, *pairs, runs, f"{r.core_minutes:.0f} core-min"]) + " |")
    lines += ["", "Intervals are of one row by itself; bold are the differences that stand with Holm's step-down over the rows of their column."]
    if any(r.former for r in results):
        lines += ["", f"{FORMER.strip()} measured before the code that makes or trains its images last changed; `make evidence` measures it anew."]
    return lines


def targets(found: Sequence[Figure]) -> list[str]:
    """What was wanted of the table as a whole beside what there is."""
    lines = ["| over the whole table | there is | wanted |", "| --- | --- | --- |"]
    return lines + [f"| {f.name} | {f.value:.0f} | {f.target or '–'}{': **not met**' if f.holds is False else ''} |" for f in found]


def together(results: Sequence[RowResult]) -> str:
    """The mean of each difference over the rows, with Student's t over them: rows are of other data each, and weigh the same."""
    told = []
    for pair, title in PAIRS.items():
        means = np.array([r.differences[pair].mean for r in pretrained(results) if pair in r.differences])
        if not len(means):
            continue
        told.append(f"{title} {shown(Difference(float(means.mean()), paired_interval(means), math.nan, 0, 0), sure=False)} ({len(means)} rows)")
    return f"Over the rows together, random weights aside, by Student's t over rows (not named beforehand): {'; '.join(told)}."


def asked_once(results: Sequence[RowResult]) -> str:
    """What the service's own rule keeps of each row, where the table has what leads on val draw by draw."""
    told = [f"{r.row.title} {SHARES[r.chosen_once]} ({shown(r.differences[ONCE, REAL], sure=False)})" for r in results]
    return (
        "The table's policy keeps what leads on val by each draw's own runs. The service asks once, over six paired runs, and keeps what leads by more than "
        f"one standard error of them. Asked so of the draws together it keeps, with the difference from real images: {'; '.join(told)}."
    )


def pretrained(results: Sequence[RowResult]) -> list[RowResult]:
    return [r for r in results if r.row.name.removesuffix("-quick") not in RANDOM.values()]


def mean_of(r: RowResult, arm: str) -> str:
    """An arm's mean and half the width of its own interval, in points; what separates two arms is in their paired difference."""
    if arm not in r.means:
        return "–"
    return f"{100 * r.means[arm]:.1f}" + (f" ± {100 * r.halves[arm]:.1f}" if math.isfinite(r.halves[arm]) else "")


def shown(d: Difference | None, *, sure: bool) -> str:
    """Points, with the 95 % interval; bold where it excludes zero for all that the other rows of its column were asked as well."""
    if d is None:
        return "–"
    if not all(map(math.isfinite, d.interval)):
        return f"{100 * d.mean:+.1f}"
    told = f"{100 * d.mean:+.1f} ({100 * d.interval[0]:+.1f} to {100 * d.interval[1]:+.1f})"
    return f"**{told}**" if sure else told


def details(results: Sequence[RowResult]) -> list[str]:
    """A paragraph a row: what the policy kept, who was helped least, what the filters took, what it cost."""
    lines = []
    for r in results:
        kept = ", ".join(f"draw {draw} {SHARES[arm]}" for draw, arm in sorted(r.chosen.items()))
        hurt = " and ".join(f"{least(r.worst(*pair))} {means}" for pair, means in WORST.items())
        added = "; ".join(f"{SPOKEN[name]}: {a['made']} made over the draws, {refused(a['rejected'])}, {a['added']} added" for name, a in r.additions.items())
        lines += [
            f"**{r.row.title}.** {r.runs} paired runs on {r.images} test images; kept on val: {kept}; least for {hurt}. {added}. "
            f"A generator costs {r.core_minutes:.0f} core-minutes a draw, a run {r.run_seconds:.0f} core-seconds.",
            "",
        ]
    return lines


def least(row: Mapping[str, Any]) -> str:
    """A class's figure with its own interval, and what it says among all figures of its row."""
    interval = " to ".join("?" if v is None else f"{100 * v:+.1f}" for v in row["interval"])
    return f"{row['figure']} {100 * row['difference']:+.1f} points ({interval}; {row['says']})"


def refused(reasons: Mapping[str, int]) -> str:
    return ("refused " + ", ".join(f"{n} ({why})" for why, n in reasons.items())) if reasons else "none refused"


def figures(results: Sequence[RowResult]) -> list[Figure]:
    found = []
    for r in results:
        name = r.row.name
        found += [Figure(f"{name}/{arm}", value, r.figure, spread=r.spreads[arm]) for arm, value in r.means.items()]
        found += [Figure(f"{name}/{arm}: half of its 95 %", half, r.figure) for arm, half in r.halves.items() if math.isfinite(half)]
        found += [Figure(f"{name}/{a} - {b}", d.mean, r.figure, spread=finite(d.interval)) for (a, b), d in r.differences.items()]
        found += [Figure(f"{name}/{a} - {b}: p", d.p, "before Holm") for (a, b), d in r.differences.items()]
        found += [Figure(f"{name}/{pair}: {line['figure']}", line["difference"], line["figure"], spread=between(line))
                  for pair, lines in r.tables.items() for line in lines if line["figure"] != r.figure and line["difference"] is not None]  # fmt: skip
    return found + promises(results)


def promises(results: Sequence[RowResult]) -> list[Figure]:
    """What was wanted of the whole table."""
    falls = holm([d.p if (d := r.differences.get((LONGTAIL, CLASSICAL))) else math.nan for r in results])
    stands = {r.row.name: fallen for r, fallen in zip(results, falls, strict=True)}
    return agreement(results) + counted(mine := pretrained(results), [stands[r.row.name] for r in mine])


def agreement(results: Sequence[RowResult]) -> list[Figure]:
    """Of each row that is repeated from random weights, whether Longtail - classical has the same sign there."""
    known = {r.row.name.removesuffix("-quick"): r.differences[LONGTAIL, CLASSICAL].mean for r in results}
    pairs = [(row, again) for row, again in RANDOM.items() if row in known and again in known]
    return [Figure(f"same sign from random weights: {ROWS[row].title}", float(known[row] * known[again] > 0), "yes or no", "= 1", known[row] * known[again] > 0)
            for row, again in pairs]  # fmt: skip


def between(line: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = line["interval"]
    return None if low is None or high is None else (low, high)


def finite(interval: tuple[float, float]) -> tuple[float, float] | None:
    return interval if all(map(math.isfinite, interval)) else None


def counted(results: Sequence[RowResult], stands: Sequence[bool]) -> list[Figure]:
    """How many rows are what the product promises, over the rows that are measured; `stands` are those whose Longtail - classical does, as in the table."""
    rows = len(ROWS) - len(RANDOM)
    against = {column: [r.differences.get((LONGTAIL, column)) for r in results] for column in (CLASSICAL, PASTED)}
    better = {column: sum(d is not None and d.interval[0] > 0 for d in found) for column, found in against.items()}
    sure = sum(fallen and d is not None and d.mean > 0 for fallen, d in zip(stands, against[CLASSICAL], strict=True))
    points = sum(d is not None and d.mean >= POINTS for d in against[CLASSICAL])
    harmful = sum(r.differences[POLICY, REAL].interval[1] < 0 for r in results)
    return [
        Figure("rows measured", len(results), "rows", f"= {rows}", len(results) == rows),
        Figure("rows better than classical, interval above zero", better[CLASSICAL], "rows", f">= {rows // 2}", better[CLASSICAL] >= rows // 2),
        Figure("of those, with Holm over the rows", sure, "rows"),
        Figure("rows better than classical by 5 points", points, "rows", ">= 2", points >= 2),
        Figure("rows better than copy-paste, interval above zero", better[PASTED], "rows", ">= 3", better[PASTED] >= 3),
        Figure("rows that the policy harmed", harmful, "rows", "= 0", harmful == 0),
    ]
