"""Gates: what a figure means. Figures are measured elsewhere; here they meet their thresholds."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from longtail.errors import TooFewInstances

Verdict = Literal["passed", "failed", "unknown"]
Rejection = Literal["copy", "near_duplicate", "label", "no_change", "seam"]

MIN_INSTANCES_TO_INVENT = 10
MAX_NOVELTY_WHEN_FEW = 0.25
DEFAULT_NOVELTY = 0.5
DERIVED_BELOW = 0.5
"""Below this novelty a sample derives from its exemplar by design; that exemplar is not counted as a copy."""
MIN_TO_JUDGE = 20
"""Fewer held-out instances than this and a gate says unknown, never passed."""
KID_RATIO = 2.0
KID_FLOOR = 0.02
COVERAGE_SHARE = 0.5
COPY_EXCESS = 0.10
CONSISTENCY_SHARE = 0.8
OVERLAP_IOU = 0.5
OVERLAP_SHARE = 0.8
"""How many of the samples must have changed where their label says, as a share of what pasted training objects attain."""
MIN_CHANGE = 4.0
"""Mean absolute change inside the box, of 255, below which nothing visible was added."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One check of one class: its figure with a 95 % interval, the threshold, what that says, on how many samples, and what to look at.

    `pictures` is the artifact of the training run that shows the samples in question, worst first, of `utility` the page of its evaluation; empty where
    there is none.
    """

    name: str
    class_name: str
    figure: float
    interval: tuple[float, float]
    threshold: str
    verdict: Verdict
    count: int
    note: str = ""
    pictures: str = ""

    def to_json(self) -> dict[str, Any]:
        """What could not be measured is None: JSON knows no nan."""
        figure, *interval = (v if isfinite(v) else None for v in (self.figure, *self.interval))
        return asdict(self) | {"figure": figure, "interval": interval}


SEAM_FLOOR = 2.0
"""A step of so many levels, of 255, across an edge is nothing that shows, however smooth the ground about real objects is."""
SEAM_SHARE = 0.98
"""A seam is larger than the step across a ring about so large a share of the real objects."""


def class_key(class_name: str) -> str:
    """A class's name as a part of the names of metrics, tags and artifacts, which take letters, digits, '_', '-' and '.' alone."""
    return re.sub(r"[^\w.-]", "_", class_name).strip(".") or "_"


def judge(interval: tuple[float, float], limit: float, *, at_most: bool, real: int) -> tuple[Verdict, str]:
    """(verdict, why it is unknown): passed or failed where the whole interval lies on one side of the limit and `real` images are enough."""
    if real < MIN_TO_JUDGE:
        return "unknown", f"only {real} real images to judge by; {MIN_TO_JUDGE} are needed"
    low, high = interval
    if not (low <= high and isfinite(limit)):
        return "unknown", "could not be measured"
    if high <= limit if at_most else low >= limit:
        return "passed", ""
    if low > limit if at_most else high < limit:
        return "failed", ""
    return "unknown", "the interval spans the threshold: more real images, or more samples, would tell"


def usual_novelty(instances: int) -> float:
    """What a class of so many training instances is grown with where nobody says otherwise: the default, or the most that it may have."""
    return DEFAULT_NOVELTY if instances >= MIN_INSTANCES_TO_INVENT else MAX_NOVELTY_WHEN_FEW


def check_novelty(*, class_name: str, instances: int, novelty: float | None, mode: str) -> float:
    """The novelty to use. Raises TooFewInstances where the class has too few real instances for it.

    None asks for the default. Copy-paste and enlargement need one instance and invent nothing.
    """
    wanted = DEFAULT_NOVELTY if novelty is None else novelty
    if instances == 0:
        raise TooFewInstances(f"class {class_name!r} has no training instance at all; nothing can be made from none")
    if mode in ("copy_paste", "enlarge"):
        return 0.0
    if instances < MIN_INSTANCES_TO_INVENT and wanted > MAX_NOVELTY_WHEN_FEW:
        asked = "the default" if novelty is None else "asked for"
        raise TooFewInstances(
            f"class {class_name!r} has {instances} training instances; novelty {wanted} ({asked}) needs at least "
            f"{MIN_INSTANCES_TO_INVENT}. Use novelty <= {MAX_NOVELTY_WHEN_FEW} or mode 'copy_paste', or add real images"
        )
    return wanted
