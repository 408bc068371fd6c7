"""What filters took out of what was made, and what to do where that is too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.uplift import COPY_PASTE

ENOUGH = 0.5
"""Where less than this share passes, a better generator is asked for."""
REMEDIES = {
    "copy": "it repeats training images; raise the novelty, add real images, or stop training earlier",
    "near_duplicate": "it repeats itself; raise the novelty, add real images, or fine-tune again with another seed",
    "label": "its objects are not taken for their class; fine-tune longer, or lower the novelty",
    "seam": "the edges of its objects show; fine-tune longer, or lower the novelty",
    "no_change": "its objects do not show in their boxes; fine-tune longer, or lower the novelty",
}
"""What helps against each reason a filter gives."""


def advice(what: str, *, lost: int, of: int, reasons: Mapping[str, int], made: bool = True) -> str:
    """What was lost of so many, most for which reason, and what helps; empty where enough passed. `reasons` counts each reason given.

    What a generator did not make, as pasted instances, has no remedy.
    """
    if of - lost >= ENOUGH * of:
        return ""
    worst = max(reasons, key=lambda reason: reasons[reason])
    return f"{lost} of {of} {what} were filtered out, most by {worst!r}" + (f": {REMEDIES[worst]}" if made else "")


def shortfall(filtered: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each part of an evaluation {part: {"wanted", "made", "accepted", "kept", "rejected"}} that is short of images, or lost most."""
    lines = []
    for part, f in filtered.items():
        if f["kept"] < f["wanted"]:
            lines.append(f"'{part}' has {f['kept']} of {f['wanted']} images wanted: {f['made']} were made and {f['accepted']} passed the filters")
        said = advice("images", lost=f["made"] - f["accepted"], of=f["made"], reasons=f["rejected"], made=part != COPY_PASTE)
        lines += [f"'{part}': {said}"] if said else []
    return lines
