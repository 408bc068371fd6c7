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
Line = Mapping[str, Any]


def add_utility(stack: Stack, job: str, request: dict[str, Any], measured: dict[str, Any], line: Line, table: Sequence[Line], grown: Mapping[str, int]) -> None:
    """Replaces the generator's gates of use. `line` is the row that decides, `table` all rows, `grown` the test objects of each class that grew."""
    dataset, generator = request["dataset"], request["generator"]
    row = stack.catalogue.database.get(GENERATORS, f"{dataset}:{generator}")
    pictures = path_of(job) if measured["changed"] else ""
    whole = gate_of(line, ", ".join(measured["rare"]) or "all classes", measured["added"], pictures)
    found = [whole, *each_class(table, grown, measured["added"], pictures)]
    gates = [g for g in row["gates"] if g["name"] != "utility"] + found
    stack.catalogue.database.update(GENERATORS, row["id"], gates=gates)
    failed = any(g["verdict"] == "failed" for g in found)
    together = summary(gates) if len(gates) > len(found) or failed else "unknown"  # the foundation has no other
    stale = {tag_of(g): "not measured by the last evaluation" for g in row["gates"] if g["name"] == "utility"}
    tags = stale | {tag_of(g): said(g) for g in found[1:]}
    stack.registry.tag(dataset, generator, {**tags, "gate.utility": said(whole), "longtail.gates": together})
    if failed and stack.registry.alias(dataset, CHALLENGER) == generator:
        stack.registry.drop_alias(dataset, CHALLENGER)


def tag_of(gate: Line) -> str:
    return f"gate.utility.{class_key(gate['class_name'])}"


def gate_of(row: Line, class_name: str, count: int, pictures: str, *, verdict: str = "") -> dict[str, Any]:
    note = "; ".join(filter(None, [f"{row['runs']} paired runs, {row['images']} test images", too_few(row.get("judged_by"))]))
    return {
        "name": "utility", "class_name": class_name, "figure": row["difference"], "interval": row["interval"], "threshold": f"> 0 ({row['figure']})",
        "verdict": verdict or VERDICTS.get(proof_of(row), "unknown"), "count": count, "note": note, "pictures": pictures,
    }  # fmt: skip


def each_class(table: Sequence[Line], grown: Mapping[str, int], count: int, pictures: str) -> list[dict[str, Any]]:
    """A gate for each of several classes that grew, by its own figure and its own test objects; for help Holm is asked over them, harm is harm in any."""
    of = {name: next((r for r in table if r["figure"].partition("/")[2] == name), None) for name in grown}
    rows = {name: {**row, "judged_by": grown[name]} for name, row in of.items() if row is not None}
    if len(grown) < 2:
        return []
    falls = dict(zip(rows, holm([math.nan if r["p"] is None else r["p"] for r in rows.values()]), strict=True))
    verdicts = {name: VERDICTS.get(proof_of(row), "unknown") for name, row in rows.items()}
    return [gate_of(r, n, count, pictures, verdict="unknown" if verdicts[n] == "passed" and not falls[n] else verdicts[n]) for n, r in rows.items()]
