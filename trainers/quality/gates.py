"""The gates of one class: what its samples' features say against held-out real objects, each with interval, threshold and verdict.

Thresholds are what real images attain, so that real images pass; how often they do, and how often cheats do not, is measured by
benchmarks/gates.py (docs/evidence.md). FID is not among them: at these counts it is bias.
Shape legend: N training objects, M held-out objects, F samples, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from longtail.gates import (
    CONSISTENCY_SHARE,
    COPY_EXCESS,
    COVERAGE_SHARE,
    KID_FLOOR,
    KID_RATIO,
    MIN_TO_JUDGE,
    OVERLAP_IOU,
    OVERLAP_SHARE,
    Gate,
    judge,
)
from trainers.quality.copying import QUANTILE, copy_threshold, nearest
from trainers.quality.coverage import density_and_coverage, distances
from trainers.quality.density import densities, density_interval
from trainers.quality.intervals import mean_interval, share_interval
from trainers.quality.kid import kid, kid_interval
from trainers.quality.parts import Repeated, Repeats

Floats = NDArray[np.floating]
N = TypeVar("N", bound=np.generic)
LEAST_LEARNED = 10
"""With fewer training objects what they attain says little: of twenty-five held-out objects and samples of another kind KID then passes one time in three."""
DENSITY_SHARE = 0.5
LEAST_PASTED = 0.5
"""With fewer pasted training objects that change their own box than this share of them, what is made says nothing of where it lies."""
LEAST_APART = 0.1
"""The 2 % of held-out objects that are nearest to training ones lie at least at so large a share of the median, or some of them are copies."""


@dataclass(frozen=True)
class Evidence:
    """What the gates of a class look at.

    `views` [V][N,D] are other looks at the training objects; `own` [F] the training object that a sample derives from, which
    is no copy while they are `derived`, or None; `agreed` [F] the probability of the label by a classifier of real objects,
    `real_agreed` [N] what it gives real ones that it never saw, both None where there is no class to mistake this one for;
    `overlaps` [F'] the IoU of each changed region's box with the label, None where the class is the whole image, on so many different
    held-out `grounds`, `pasted` [F'] the same if the exemplars themselves lay there, None where that was not made;
    `invented` [F''] samples of a novelty at which a copy of any training object is a copy, None where the class is too small to be invented;
    `repeated` what the pixels of all of them repeat of the training objects, None where features alone were taken;
    `filled` [F] what the samples would be if nothing were painted, what is cut away filled with the colours about it, None where it is not asked.
    """

    name: str
    train: Floats
    views: Sequence[Floats]
    held: Floats
    fake: Floats
    own: Sequence[int | None]
    agreed: Floats | None = None
    real_agreed: Floats | None = None
    overlaps: Floats | None = None
    pasted: Floats | None = None
    grounds: int = 0
    invented: Floats | None = None
    repeated: Repeated | None = None
    filled: Floats | None = None
    derived: bool = True

    @property
    def to_learn_by(self) -> int:
        """How many real objects speak for a threshold that training objects set: held-out ones, or those learned from where they are too few."""
        return len(self.held) if len(self.train) >= LEAST_LEARNED else min(len(self.train), len(self.held))


def gates_of(seen: Evidence, *, only: Collection[str] | None = None) -> list[Gate]:
    """All that can be asked, or those of them with these names."""
    found = (gate(seen) for name, gate in GATES.items() if only is None or name in only)
    return [gate for gate in found if gate is not None]


def unmeasured(found: Sequence[Gate], names: Iterable[str], *, boxed: bool) -> list[Gate]:
    """Of each class the gates that could not be asked, as unknown: what nothing speaks for must not pass by its absence.

    `boxed` says that objects have boxes; where the class is the whole image its label has no place to be right about.
    """
    asked = {"label_consistency": "the dataset has no other class with training objects, and no bare ground is known, that it could be mistaken for"}
    asked |= {"overlap": "no bare ground of its images is known, to see on where a change lies"} if boxed else {}
    there = {(g.name, g.class_name) for g in found}
    nan = float("nan")
    return [
        Gate(name=gate, class_name=name, figure=nan, interval=(nan, nan), threshold="not measured", verdict="unknown", count=0, note=why)
        for name in names for gate, why in asked.items() if (gate, name) not in there
    ]  # fmt: skip


def kid_gate(seen: Evidence) -> Gate:
    """KID to held-out objects, at most `KID_RATIO` times what as many training objects may have: the upper end of their interval."""
    train = as_many(seen.train, len(seen.fake))
    reach = kid_interval(train, seen.held)[1] if min(len(train), len(seen.held)) >= 2 else float("nan")
    limit = max(KID_FLOOR, KID_RATIO * reach)
    interval = kid_interval(seen.held, seen.fake) if min(len(seen.held), len(seen.fake)) >= 2 else (0.0, float("nan"))
    said, why = judge(interval, limit, at_most=True, real=seen.to_learn_by)
    if seen.filled is not None and np.isfinite(unpainted := kid(seen.held, seen.filled)):
        why = "; ".join(filter(None, [why, f"KID would be {unpainted:.3f} if nothing were painted"]))
    return Gate(
        name="kid", class_name=seen.name, figure=kid(seen.held, seen.fake), interval=interval, verdict=said, count=len(seen.fake),
        threshold=f"<= {limit:.3f} ({KID_RATIO:g} x what train attains)", note=why,
    )  # fmt: skip


def coverage_gate(seen: Evidence) -> Gate:
    """Share of the held-out objects with a sample among their neighbours, at least half of what as many training objects attain.

    As many of both are looked at: more samples than there are training objects would cover more by their number alone.
    """
    count = min(len(seen.train), len(seen.fake))
    limit = COVERAGE_SHARE * density_and_coverage(seen.held, as_many(seen.train, count))[1]
    coverage = density_and_coverage(seen.held, as_many(seen.fake, count))[1]
    covered = 0 if np.isnan(coverage) else round(coverage * len(seen.held))
    interval = share_interval(covered, len(seen.held))
    said, why = judge(interval, limit, at_most=False, real=seen.to_learn_by)
    return Gate(
        name="coverage", class_name=seen.name, figure=coverage, interval=interval, verdict=said, count=count,
        threshold=f">= {limit:.2f} ({COVERAGE_SHARE:g} x what train attains)", note=why,
    )  # fmt: skip


def density_gate(seen: Evidence) -> Gate:
    """Among how many held-out objects a sample lies in the mean, at least half of what training objects attain.

    A sample beyond the reach of all counts nothing, which coverage never sees; samples where real objects lie closest count more than once, so that
    it is the gates together that say that all are right.
    """
    attained = mean_of(densities(seen.held, seen.train))
    limit = DENSITY_SHARE * attained if attained > 0 else float("nan")
    about, interval = densities(seen.held, seen.fake), density_interval(seen.held, seen.fake)
    said, why = judge(interval, limit, at_most=False, real=seen.to_learn_by)
    return Gate(
        name="density", class_name=seen.name, figure=mean_of(about), interval=interval, verdict=said, count=len(about),
        threshold=f">= {limit:.2f} ({DENSITY_SHARE:g} x what train attains)", note=why,
    )  # fmt: skip


def mean_of(values: Floats) -> float:
    """nan where there are none."""
    return float(values.mean()) if len(values) else float("nan")


def as_many(vectors: NDArray[N], count: int) -> NDArray[N]:
    """At most so many of them, drawn at random."""
    return vectors[np.random.default_rng(0).permutation(len(vectors))[:count]]


@dataclass(frozen=True)
class Copies:
    """Of each sample how far it is from the training object that it is nearest to, as a share of what a copy may be at most [F], and which object [F].

    `invented` says which samples these are: those of a high novelty, or those of the usual one, which may resemble their own exemplar where they are `derived`.
    """

    apart: Floats
    index: NDArray[np.intp]
    invented: bool

    @property
    def count(self) -> int:
        return int((self.apart < 1).sum())

    @property
    def share(self) -> float:
        return self.count / max(1, len(self.apart))


def copies_of(seen: Evidence) -> Copies:
    """Of the samples, or of the invented ones, whichever repeat more."""
    near = copy_threshold(seen.train, seen.held, views=seen.views)
    own = list(seen.own) if seen.derived else None
    told = [resemblance(seen, seen.fake, seen.repeated.fake if seen.repeated else None, near=near, own=own, invented=False)]
    if seen.invented is not None:
        told.append(resemblance(seen, seen.invented, seen.repeated.invented if seen.repeated else None, near=near, own=None, invented=True))
    return max(told, key=lambda c: c.share)


def resemblance(seen: Evidence, fake: Floats, repeated: Repeats | None, *, near: float, own: list[int | None] | None, invented: bool) -> Copies:
    """By features, of which a copy is below `near`, or by pixels, whichever finds a sample nearer to a training object; one that is its `own` aside."""
    looked = [nearest(fake, view, ignore_M=own or [None] * len(fake)) for view in (seen.train, *seen.views)]
    ways = [(index, relative(apart, near)) for index, apart in looked]
    if repeated is not None and seen.repeated is not None:
        ways.append((repeated.index, relative(repeated.apart, seen.repeated.near)))
    index, apart = np.stack([i for i, _ in ways]), np.stack([a for _, a in ways])
    return Copies(apart.min(0), index[apart.argmin(0), np.arange(len(fake))], invented)


def relative(apart: Floats, near: float) -> Floats:
    """Distances as shares of the one below which a copy lies; where none is known nothing is a copy, and the order stays."""
    return apart / near if near > 0 else apart + 1


def copying_gate(seen: Evidence) -> Gate:
    """Share of samples nearer to a training object, mirrored, upside down, and parts of it too, than held-out objects are."""
    found = copies_of(seen)
    interval = share_interval(found.count, len(found.apart))
    said, why = judge(interval, COPY_EXCESS, at_most=True, real=len(seen.held))
    if said == "passed" and not tells_copies(seen):
        said, why = "unknown", "held-out objects repeat training ones themselves (one scene in two splits?): nothing tells a copy from them"
    which = "of invented samples" if found.invented else "of samples, their own exemplars aside" if seen.derived else "of samples"
    return Gate(
        name="copying", class_name=seen.name, figure=found.share, interval=interval, verdict=said, count=len(found.apart),
        threshold=f"<= {COPY_EXCESS:g}", note="; ".join(filter(None, [which, why])),
    )  # fmt: skip


def tells_copies(seen: Evidence) -> bool:
    """Whether the nearest held-out objects are no copies: by features, and by pixels where those were looked at."""
    ways = [np.min([distances(seen.held, view).min(1) for view in (seen.train, *seen.views)], 0)]
    ways += [seen.repeated.held.apart] if seen.repeated is not None else []
    return all(float(np.quantile(apart, QUANTILE)) >= LEAST_APART * float(np.median(apart)) for apart in ways)


def consistency_gate(seen: Evidence) -> Gate | None:
    """Mean probability of the label by a classifier of real objects, at least `CONSISTENCY_SHARE` of what real ones get; None without another class."""
    agreed, real_agreed = seen.agreed, seen.real_agreed
    if agreed is None or real_agreed is None:
        return None
    limit, interval = CONSISTENCY_SHARE * float(np.mean(real_agreed)), mean_interval(agreed)
    said, why = judge(interval, limit, at_most=False, real=min(len(real_agreed), len(seen.held)))
    return Gate(
        name="label_consistency", class_name=seen.name, figure=float(np.mean(agreed)), interval=interval, verdict=said, count=len(agreed),
        threshold=f">= {limit:.2f} ({CONSISTENCY_SHARE:g} x real)", note=why,
    )  # fmt: skip


def overlap_gate(seen: Evidence) -> Gate | None:
    """Share of samples whose change lies where their label does, on held-out grounds; None where the class is the whole image.

    At least `OVERLAP_SHARE` of what the exemplars would attain if they lay there themselves: of what is faint, or drawn wide, not each would. Of fewer
    training objects than `LEAST_LEARNED` nothing is forgiven, and where fewer exemplars than `LEAST_PASTED` attain it nothing is told.
    """
    overlaps = seen.overlaps
    if overlaps is None:
        return None
    there = int((overlaps >= OVERLAP_IOU).sum())
    pasted = seen.pasted if len(seen.train) >= LEAST_LEARNED else None
    attained = 1.0 if pasted is None else float((pasted >= OVERLAP_IOU).mean())
    limit = OVERLAP_SHARE * attained
    interval = share_interval(there, len(overlaps))
    said, why = judge(interval, limit, at_most=False, real=seen.grounds)
    if attained < LEAST_PASTED:
        doubt = f"only {attained:.2f} of pasted training objects lie in their own boxes: are these wider than their objects, or the objects faint?"
        said, why = "unknown", doubt if seen.grounds >= MIN_TO_JUDGE else f"{why}; {doubt}"
    return Gate(
        name="overlap", class_name=seen.name, figure=there / max(1, len(overlaps)), interval=interval, verdict=said, count=len(overlaps),
        threshold=f">= {limit:.2f} at IoU {OVERLAP_IOU:g}" + ("" if pasted is None else f" ({OVERLAP_SHARE:g} x pasted)"), note=why,
    )  # fmt: skip


GATES: dict[str, Callable[[Evidence], Gate | None]] = {
    "kid": kid_gate,
    "coverage": coverage_gate,
    "density": density_gate,
    "copying": copying_gate,
    "label_consistency": consistency_gate,
    "overlap": overlap_gate,
}


def worst(seen: Evidence, gate: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(samples or, for coverage, held-out objects, those that speak most against it first; what lies beside each).

    Beside a sample lies the nearest held-out object, or for copying the nearest training object; beside a held-out object, the nearest sample.
    """
    if gate == "copying":
        found = copies_of(seen)
        order = found.apart.argsort()
        return order, found.index[order]
    across = distances(seen.fake, seen.held)
    if gate == "coverage":
        counted = as_many(np.arange(len(seen.fake)), min(len(seen.train), len(seen.fake)))
        order = (-across[counted].min(0)).argsort()
        return order, counted[across[counted].argmin(0)[order]]
    furthest = -across.min(1)
    order = furthest.argsort()
    if gate == "label_consistency" and seen.agreed is not None:
        order = seen.agreed.argsort()
    if gate == "density":
        order = np.lexsort((furthest, densities(seen.held, seen.fake)))
    return order, across.argmin(1)[order]
