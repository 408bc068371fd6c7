"""What the runs say, row by row: each arm's figure, the differences with their intervals, what the policy chose, who was hurt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.rows import Row
from benchmarks.evidence.runs import (
    BOTH,
    CLASSICAL,
    LATER,
    LONGTAIL,
    PASTED,
    REAL,
    SOME,
    TWICE,
    WITH_PASTED,
    arms_of,
    kept,
    key_of,
    needed,
    seeds_done,
    seeds_formerly_done,
)  # fmt: skip
from trainers.uplift.arms import figures_of, images_of, outcome_of, primary_of, table
from trainers.uplift.policy import choose
from trainers.uplift.statistics import Difference, independent, paired_interval

POLICY, ONCE = "policy", "policy, asked once"
"""What leads on val by a draw's own runs; and what the service's rule keeps, asked once of all of them: what leads by more than their noise."""
AGAINST = (
    (LONGTAIL, REAL), (LONGTAIL, CLASSICAL), (BOTH, CLASSICAL), (BOTH, TWICE), (BOTH, WITH_PASTED), (LONGTAIL, PASTED), (POLICY, REAL), (ONCE, REAL),
)  # fmt: skip
"""Differences that the table asks for."""


@dataclass(frozen=True)
class RowResult:
    """A row's figures: means and least and greatest of each arm, differences by pair, the chosen ratio of each draw, worst class of the policy."""

    row: Row
    figure: str
    draws: int
    runs: int
    means: dict[str, float]
    spreads: dict[str, tuple[float, float]]
    halves: dict[str, float]
    """Half the width of each arm's own 95 % interval, Student's t over its draws."""
    differences: dict[tuple[str, str], Difference]
    chosen: dict[int, str]
    chosen_once: str
    tables: dict[str, list[dict[str, Any]]]
    core_minutes: float
    run_seconds: float
    images: int
    additions: dict[str, dict[str, Any]]
    """Over all draws; see `summed`."""
    former: bool = False
    """Whether it rests on code that has changed since."""

    def worst(self, arm: str, reference: str) -> dict[str, Any]:
        """The figure of one class that the arm changed least for the better."""
        mine = [r for r in self.tables[f"{arm} - {reference}"] if "/" in r["figure"] and not r["figure"].endswith("/rare")]
        return min(mine, key=lambda r: r["difference"])


def result_of(row: Row) -> RowResult | None:
    """From runs of today's code; where it has fewer than former code had, from those of former code. None where no draw has all of its arms yet."""
    done = {draw: seeds_done(row, draw) for draw in range(row.draws)}
    before = {draw: seeds_formerly_done(row, draw) for draw in range(row.draws)}
    former = sum(map(len, before.values())) > sum(map(len, done.values()))
    done = before if former else done
    if not any(done.values()):
        return None
    least = min(len(seeds) for seeds in done.values() if seeds)  # as many of every draw, so that none weighs more than another
    done = {draw: seeds[:least] for draw, seeds in done.items()}
    bodies = {draw: kept(row.name, draw) for draw in done}
    body = next(b for d, b in bodies.items() if done[d])
    names, grown = body["names"], body["grown"]
    rare = grown if len(grown) < len(names) else []
    model = row.setting.model
    figures = figures_of(model, names, rare)
    primary = primary_of(model, rare, figures)
    pairs = [(draw, seed) for draw, seeds in done.items() for seed in seeds]
    arms = needed(row)
    for arm in (a for a in arms_of(row) if a in LATER):
        if all(bodies[d]["runs"].get(f"{arm}-{s}", {}).get("key") == key_of(row, arm, bodies[d]["images"], "") for d, s in pairs):
            arms.append(arm)
    test = {arm: [outcome_of(model, bodies[d]["runs"][f"{arm}-{s}"]["test"]) for d, s in pairs] for arm in arms}
    val = {arm: [outcome_of(model, bodies[d]["runs"][f"{arm}-{s}"]["val"]) for d, s in pairs] for arm in (REAL, SOME, LONGTAIL)}
    on_val = {arm: [value(figures, primary, run) for run in runs] for arm, runs in val.items()}
    chosen, once = {}, choose(on_val, first=REAL)
    for draw in dict.fromkeys(d for d, _ in pairs):
        mine = [k for k, (d, _) in enumerate(pairs) if d == draw]
        chosen[draw] = choose({arm: [scores[k] for k in mine] for arm, scores in on_val.items()}, first=REAL)
    test[POLICY], test[ONCE] = [test[chosen[d]][k] for k, (d, _) in enumerate(pairs)], test[once]
    draws = [d for d, _ in pairs]
    tables, differences = {}, {}
    for arm, reference in AGAINST:
        if arm in test and reference in test:
            found = table(test[reference], test[arm], figures, draws=draws)
            tables[f"{arm} - {reference}"] = found
            line = next(r for r in found if r["figure"] == primary)
            low, high = (v if v is not None else sign * np.inf for v, sign in zip(line["interval"], (-1, 1), strict=True))
            differences[arm, reference] = Difference(line["difference"], (low, high), line["p"], line["runs"], line["images"])
    each = {arm: [value(figures, primary, run) for run in runs] for arm, runs in test.items()}
    means, spreads = {a: float(np.mean(v)) for a, v in each.items()}, {a: (min(v), max(v)) for a, v in each.items()}
    halves = {a: half_width(independent(np.array(v), draws)) for a, v in each.items()}
    spent = [bodies[d]["runs"][f"{arm}-{s}"]["core_seconds"] for d, s in pairs for arm in arms]
    return RowResult(
        row, primary, len(chosen), len(pairs), means, spreads, halves, differences, chosen, once, tables, row.budget_s / 60, float(np.mean(spent)),
        images_of(test[REAL][0]), summed([bodies[d].get("additions", {}) for d in chosen]), former,
    )  # fmt: skip


def summed(additions: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each arm whose images are made: how many were added and made over the draws, and how many were refused for what."""
    found: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(name for of_draw in additions for name in of_draw):
        mine = [of_draw[arm] for of_draw in additions if arm in of_draw]
        reasons = sum((Counter(m["rejected"]) for m in mine), Counter[str]())
        found[arm] = {"added": sum(m["added"] for m in mine), "made": sum(m["made"] for m in mine), "rejected": dict(sorted(reasons.items()))}
    return found


def half_width(values: NDArray[np.float64]) -> float:
    low, high = paired_interval(values)
    return (high - low) / 2


def value(figures: Any, name: str, run: Any) -> float:
    return float(figures[name](run, np.ones((1, images_of(run))))[0])
