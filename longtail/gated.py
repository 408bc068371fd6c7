"""At which novelty a generator was gated: what to ask of it where nobody says, and what its gates were not asked of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longtail.gates import DEFAULT_NOVELTY
from longtail.samples import Mode

BY_GENERATOR: frozenset[Mode] = frozenset({"inpaint", "synthesis"})
TOLERANCE = 1e-6
Gates = Sequence[Mapping[str, Any]]


def gates_at(gates: Gates, class_name: str) -> float | None:
    """The novelty that the class's gates looked at; None where none was asked of it.

    Of gates that were kept without it, the most that it can have been. The gate of use speaks of samples of its own, and does not count.
    """
    return max((g.get("novelty") or DEFAULT_NOVELTY for g in asked_of(gates, class_name)), default=None)


def asked_of(gates: Gates, class_name: str) -> list[Mapping[str, Any]]:
    return [g for g in gates if g["class_name"] == class_name and g["name"] != "utility"]


def invents(gates: Gates, class_name: str) -> bool:
    """Whether the class was gated without an exemplar, since the generator was made to invent."""
    return gates_at(gates, class_name) == 1


def with_default(request: Mapping[str, Any], gates: Gates) -> dict[str, Any]:
    """The request, at novelty 1 where it names none and the generator was made to invent the class."""
    open_to_it = request["mode"] in BY_GENERATOR and request.get("novelty") is None
    return {**request, "novelty": 1.0} if open_to_it and invents(gates, request["class_name"]) else dict(request)


def unasked(gates: Gates, *, generator: int, class_name: str, mode: str, novelty: float) -> str:
    """A class that was not learned, whole images where objects were looked at, or another novelty; empty where the gates speak for the batch.

    Less novelty than theirs leaves more of a real instance, and is told of those alone that looked at 1, where nothing of one is left.
    """
    if mode not in BY_GENERATOR:
        return ""
    at = gates_at(gates, class_name)
    if at is None:
        return f"no gate of {class_name!r} was asked of generator {generator}: fine-tune one on that class"
    if mode == "synthesis" and any(g["name"] == "overlap" for g in asked_of(gates, class_name)):
        return f"whole images were made, where the gates of generator {generator} looked at objects of {class_name!r} painted into real images"
    if abs(novelty - at) <= TOLERANCE or novelty < at < 1:
        return ""
    remedy = f"ask for {at:g} or less, or fine-tune with aim: invent and ask for 1" if novelty > at else "ask for 1"
    return f"made at novelty {novelty:.3g}, where the gates of generator {generator} looked at {class_name!r} at {at:g}: {remedy}"
