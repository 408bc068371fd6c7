"""The gate of use: what a generator's images did for a model, as a whole and for each class that they grew; kept with its other gates, here and in MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from infra.database import GENERATORS
from infra.evaluation_page import path_of
from infra.registry import CHALLENGER
from longtail.gates import class_key
from longtail.uplift import holm, proof_of, too_few
from workflows.generators import said, summary
from workflows.stack import Stack

VERDICTS = {"positive": "passed", "negative": "failed"}
FIGURES = ("AP50", "F1")
"""What a class is measured by, of detection and of classification."""
Line = Mapping[str, Any]


def add_utility(
    stack: Stack, job: str, request: dict[str, Any], measured: dict[str, Any], line: Line, table: Sequence[Line], tested: Mapping[str, int],
    novelties: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Replaces the generator's gates of use, and returns them: of the row that decides, then a class each. `tested` are the test objects of each class,
    `novelties` what its images were made with."""
    dataset, generator = request["dataset"], request["generator"]
    row = stack.catalogue.database.get(GENERATORS, f"{dataset}:{generator}")
    pictures = path_of(job) if measured["changed"] else ""
    whole = gate_of(line, ", ".join(measured["rare"]) or "all classes", measured["added"], pictures)
    found = [whole, *each_class(table, {} if request["trainer"] else measured["grown"], tested, pictures)]
    found = [g | {"note": f"{g['note']}; images of novelty {spoken(novelties, g['class_name'])}"} for g in found]
    before = [g for g in row["gates"] if g["name"] == "utility"]
    gates = [g for g in row["gates"] if g not in before] + found
    stack.catalogue.database.update(GENERATORS, row["id"], gates=gates)
    failed = any(g["verdict"] == "failed" for g in found)
    together = summary(gates) if len(gates) > len(found) or failed else "unknown"  # the foundation has no other
    tags = {tag_of(g): "not measured by the last evaluation" for g in before[1:]} | {tag_of(g): said(g) for g in found[1:]}
    stack.registry.tag(dataset, generator, {**tags, "gate.utility": said(whole), "longtail.gates": together})
    if failed and stack.registry.alias(dataset, CHALLENGER) == generator:
        stack.registry.drop_alias(dataset, CHALLENGER)
    return found


def spoken(novelties: Mapping[str, float], class_name: str) -> str:
    """Of the class, or of all that were made, as of '0.25 and 0.5'."""
    return " and ".join(f"{n:g}" for n in sorted({novelties[class_name]} if class_name in novelties else set(novelties.values())))


def tag_of(gate: Line) -> str:
    """The tag of one class's gate; that of all together is `gate.utility`."""
    return f"gate.utility.{class_key(gate['class_name'])}"


def gate_of(row: Line, class_name: str, count: int, pictures: str, *, verdict: str = "") -> dict[str, Any]:
    note = "; ".join(filter(None, [f"{row['runs']} paired runs, {row['images']} test images", too_few(row.get("judged_by"))]))
    return {
        "name": "utility", "class_name": class_name, "figure": row["difference"], "interval": row["interval"], "threshold": f"> 0 ({row['figure']})",
        "verdict": verdict or VERDICTS.get(proof_of(row), "unknown"), "count": count, "note": note, "pictures": pictures,
    }  # fmt: skip


def each_class(table: Sequence[Line], grown: Mapping[str, int], tested: Mapping[str, int], pictures: str) -> list[dict[str, Any]]:
    """A gate for each of several classes that grew, by so many images, by its own figure and its own test objects; Holm is asked over them."""
    of = {r["figure"]: r for r in table}
    rows = {n: {**found, "judged_by": tested.get(n, 0)} for n in grown for f in FIGURES if (found := of.get(f"{f}/{n}"))}
    if len(grown) < 2:
        return []
    falls = holm([math.nan if r["p"] is None else r["p"] for r in rows.values()])
    verdicts = (VERDICTS.get(proof_of(row), "unknown") if fallen else "unknown" for row, fallen in zip(rows.values(), falls, strict=True))
    return [gate_of(row, name, grown[name], pictures, verdict=verdict) for (name, row), verdict in zip(rows.items(), verdicts, strict=True)]
