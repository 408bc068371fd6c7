"""What paired runs say of a difference: intervals, p-values, and verdicts over a whole table.

A run is one draw of the training images with one training seed; both arms of it are measured on the same test images. The bootstrap
draws test images anew and, crossed with them, since every run is measured on the same images, draws of the training images and the runs
within each; it and Student's t each give an interval, and the wider counts: t knows little of the images, the bootstrap little of six
runs. Student's t is over the means of the draws, since seeds of one draw share its images and its generator; over the runs where there is
one draw alone.
Shape legend: R runs, I test images, W rounds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from longtail.uplift import holm

Floats = NDArray[np.float64]
Says = Literal["helped", "harmed", "inconclusive"]
LEVEL = 0.05
"""Chance of any false "helped" or "harmed" in a table, over all of its rows."""
ROUNDS = 500


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its wider 95 % interval and larger p-value, how many runs and images it rests on."""

    mean: float
    interval: tuple[float, float]
    p: float
    runs: int
    images: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def paired_difference(
    figures: Callable[[NDArray[np.floating]], Floats], *, draws: Sequence[object], images: int, rounds: int = ROUNDS, seed: int = 0
) -> Difference:
    """The mean of arm minus reference, over the means of draws where there are several; `draws` [R] names the draw of training images that
    each run learned from.

    `figures(weights [W,I])` gives [W,R]: each run's difference where image i counts weights[w, i] times. A round in which a figure
    cannot be had (no object of the class was drawn) is left out.
    """
    runs = len(draws)
    measured = figures(np.ones((1, images)))[0]
    drawn_runs = drawn_again(draws, rounds, np.random.default_rng((seed, 1)))
    drawn = (figures(resampled(images, rounds, seed)) * drawn_runs).sum(1) / drawn_runs.sum(1)
    drawn = drawn[np.isfinite(drawn)]
    apart = independent(measured, draws)
    t_low, t_high = paired_interval(apart)
    mean = float(apart.mean())
    if not len(drawn):
        return Difference(mean, (-math.inf, math.inf), 1.0, runs, images)
    low, high = np.quantile(drawn, [0.025, 0.975])
    across = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    p = max(paired_p(apart), min(1.0, 2 * across))  # where no round crosses zero, Student's t alone says how sure that is
    return Difference(mean, (min(float(low), t_low), max(float(high), t_high)), p, runs, images)


def independent(values_R: Floats, draws: Sequence[object]) -> Floats:
    """What of the runs' values is independent: the mean of each draw; of one draw alone its runs, which then speak of that draw."""
    ones = list(dict.fromkeys(draws))
    return values_R if len(ones) == 1 else np.array([values_R[[d == one for d in draws]].mean() for one in ones])


@functools.lru_cache(maxsize=8)
def resampled(images: int, rounds: int, seed: int) -> Floats:
    """How often each test image counts [W,I], the same array for the same question: figures of a run on it need to be taken once."""
    return np.random.default_rng((seed, 0)).multinomial(images, np.full(images, 1 / images), size=rounds).astype(np.float64)


def drawn_again(draws: Sequence[object], rounds: int, rng: np.random.Generator) -> Floats:
    """How often each run counts [W,R]: as many draws as there are, with replacement, and of each drawn one as many of its runs as it has."""
    members = [np.flatnonzero([d == one for d in draws]) for one in dict.fromkeys(draws)]
    counts = np.zeros((rounds, len(draws)))
    for w, chosen in enumerate(rng.integers(len(members), size=(rounds, len(members)))):
        for k in chosen:
            np.add.at(counts[w], rng.choice(members[k], len(members[k])), 1.0)
    return counts


def verdicts(found: Sequence[Difference]) -> list[Says]:
    """What each row of a table says, all of them asked at once: Holm's step-down at `LEVEL`."""
    return ["inconclusive" if not falls else "helped" if d.mean > 0 else "harmed" for d, falls in zip(found, holm([d.p for d in found]), strict=True)]


def paired_p(difference: Floats) -> float:
    """Two-sided p-value of a mean difference of zero, Student's t; 1 where nothing can be told."""
    n = len(difference)
    spread = float(difference.std(ddof=1)) if n > 1 else 0.0
    if not math.isfinite(spread) or spread <= 1e-12 * max(1.0, abs(float(difference.mean()))):
        return 1.0
    return float(2 * student.sf(abs(float(difference.mean())) * math.sqrt(n) / spread, n - 1))


def paired_interval(difference: Floats) -> tuple[float, float]:
    """Central 95 % for the mean of paired differences, Student's t; infinite for a single pair."""
    n = len(difference)
    if n < 2:
        return -math.inf, math.inf
    half = float(student.ppf(0.975, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    return float(difference.mean()) - half, float(difference.mean()) + half
