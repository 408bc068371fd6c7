"""Gates: what a figure means. Figures are measured elsewhere; here they meet their thresholds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from longtail.errors import TooFewInstances

Verdict = Literal["passed", "failed", "unknown"]
Rejection = Literal["copy", "near_duplicate", "label", "no_change"]

MIN_INSTANCES_TO_INVENT = 10
MAX_NOVELTY_WHEN_FEW = 0.25
DEFAULT_NOVELTY = 0.35
MIN_TO_JUDGE = 20
"""Fewer held-out instances than this and a gate says unknown, never passed."""
KID_RATIO = 3.0
KID_FLOOR = 0.02
COVERAGE_SHARE = 0.5
COPY_EXCESS = 0.10
CONSISTENCY_SHARE = 0.8
OVERLAP_IOU = 0.5
MIN_CHANGE = 4.0
"""Mean absolute change inside the box, of 255, below which nothing visible was added."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One check: its figure with an interval, the threshold it met or not, and on how many samples."""

    name: str
    class_name: str
    figure: float
    interval: tuple[float, float]
    threshold: str
    verdict: Verdict
    count: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(holds: bool, *, held_out: int) -> Verdict:
    """Passed or failed where there are enough real images to tell, unknown where there are not."""
    if held_out < MIN_TO_JUDGE:
        return "unknown"
    return "passed" if holds else "failed"


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
