"""What the gates of a generator were not asked of a batch that it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longtail.samples import Mode

BY_GENERATOR: frozenset[Mode] = frozenset({"inpaint", "synthesis"})


def unasked(gates: Sequence[Mapping[str, Any]], *, generator: int, class_name: str, mode: str, novelty: float) -> str:
    """Whether the class was never learned, or was asked at less novelty than the batch has; empty where the gates speak for it.

    What resembles its exemplar more than what was measured is easier to paint (benchmarks/results/dial.json), and is not told.
    """
    if mode not in BY_GENERATOR:
        return ""
    mine = [g for g in gates if g["class_name"] == class_name and g["name"] != "utility"]
    if not mine:
        return f"no gate of {class_name!r} was asked of generator {generator}: fine-tune one on that class"
    measured = [g["novelty"] for g in mine if g.get("novelty") is not None]
    if measured and novelty > max(measured):
        return (
            f"made at novelty {novelty:g}, where nothing was asked of generator {generator}: its gates of {class_name!r} looked at novelty {max(measured):g}"
            + (" (recipe aim: invent is measured at 1)" if max(measured) < 1 else "")
        )
    return ""
