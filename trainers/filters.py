"""The filters every batch passes, image by image: copy, near-duplicate, wrong label, no visible change, a seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.gates import DERIVED_BELOW, MIN_CHANGE, OVERLAP_IOU, Rejection
from longtail.samples import Provenance
from trainers.bank import Bank
from trainers.quality.coverage import distances

MIN_AGREEMENT = 0.35
"""A label is doubted below this where another class, or bare ground, is likelier. A classifier that has seen ten objects a class is sure of nothing,
and says so of real objects as well: there the likeliest class counts."""
TWIN_DISTANCE = 0.06


@dataclass(frozen=True)
class Verdict:
    """Whether a sample may enter a dataset, why not, and its figures."""

    accepted: bool
    reasons: tuple[Rejection, ...]
    nearest: str
    derived_from: tuple[str, ...]
    """The real objects that it began from, whether they are excused as copies or not."""
    figures: dict[str, float] = field(default_factory=dict)
    objects: tuple[bool, ...] = (True,)
    """Of an image with several objects, which of them may stay."""

    @property
    def partly(self) -> bool:
        """Whether some of its objects may stay, and some may not."""
        return any(self.objects) and not all(self.objects)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Candidate:
    """A sample as the filters see it: its record, features [1280], how visible it is, and its seam."""

    record: Provenance
    label: int
    vector: NDArray[np.float32]
    change: float
    overlap: float
    seam: float = 0.0


MOST_IS_WORST = frozenset({"seam"})


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of an image from those of its objects: it stands as they all do, with the worst of each figure."""
    if len(verdicts) == 1:
        return replace(verdicts[0], objects=(verdicts[0].accepted,))
    names = {name for v in verdicts for name in v.figures}
    figures = {n: (max if n in MOST_IS_WORST else min)(v.figures[n] for v in verdicts if n in v.figures) for n in sorted(names)}
    reasons = tuple(dict.fromkeys(reason for v in verdicts for reason in v.reasons))
    derived = tuple(dict.fromkeys(key for v in verdicts for key in v.derived_from))
    return Verdict(not reasons, reasons, verdicts[-1].nearest, derived, figures, tuple(v.accepted for v in verdicts))


def judge_batch(bank: Bank, candidates: list[Candidate]) -> list[Verdict]:
    """A verdict for each candidate, in order; the first of two twins stays."""
    fitted, rows = bank.cross_fitted()
    vectors = np.stack([c.vector for c in candidates])
    agreement = fitted.probabilities(vectors, [[rows[k] for k in c.record.instances if k in rows] for c in candidates])
    among = distances(vectors, vectors)
    verdicts: list[Verdict] = []
    for i, candidate in enumerate(candidates):
        derived = candidate.record.instances if candidate.record.novelty < DERIVED_BELOW else ()
        keys = bank.keys_of(candidate.label, train=True)
        others = [k not in derived for k in keys]
        compared = sum(others)  # none where the exemplar is the class's only instance
        seen = np.flatnonzero(others) if compared else np.arange(len(keys))
        index, distance = bank.nearest(candidate.vector, candidate.label, seen)
        agreed = float(agreement[i, candidate.label])
        twins = [j for j in range(i) if among[i, j] < TWIN_DISTANCE and verdicts[j].accepted]
        checks: list[tuple[bool, Rejection]] = [
            (candidate.change < MIN_CHANGE or candidate.overlap < OVERLAP_IOU, "no_change"),
            (agreed < MIN_AGREEMENT and agreed < agreement[i].max(), "label"),
            (compared > 0 and distance < bank.copy_distance(candidate.label), "copy"),
            (bool(twins), "near_duplicate"),
            (candidate.seam > bank.seam_limit(candidate.label), "seam"),
        ]
        reasons = tuple(name for bad, name in checks if bad)
        figures = {"change": candidate.change, "overlap": candidate.overlap, "agreement": agreed, "compared_with": float(compared), "seam": candidate.seam}
        if compared:
            figures["nearest_distance"] = distance
        verdicts.append(Verdict(not reasons, reasons, keys[index], candidate.record.instances, figures))
    return verdicts
