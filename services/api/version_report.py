"""What is told of a version: who was hurt first, what it was measured to do, its batches and the generators behind them."""

from __future__ import annotations

from typing import Any

from infra.database import BATCHES, EVALUATIONS, GENERATORS, SAMPLES, Row
from infra.pages import shown_interval
from longtail.samples import is_source
from services.api.service import Service


def version_report(served: Service, dataset: str, number: int) -> dict[str, Any]:
    """The machine-readable twin of the page."""
    database = served.catalogue.database
    version = database.version(dataset, number)
    batches = [told(served, database.get(BATCHES, key)) for key in version["batches"] if not is_source(key)]
    found = [e for e in database.every(EVALUATIONS, dataset=dataset) if e["request"]["candidate"] == number]
    evaluations = [measured(e) for e in found]
    used = sorted({m for b in batches for m in b["generators"]})
    gates = [{"generator": m, **g} for m in used for g in database.get(GENERATORS, f"{dataset}:{m}")["gates"]]
    health = version["health"]
    report = {
        "dataset": dataset, "version": number, "parent": version["parent"], "proof": version["proof"], "accepted_unproven": version["accepted_unproven"],
        "images": health["images"], "synthetic": health["synthetic_images"], "evaluations": evaluations, "batches": batches, "gates": gates,
    }  # fmt: skip
    return {**report, "failures": failures(report)}


def told(served: Service, batch: Row) -> dict[str, Any]:
    summary, request = batch["summary"] or {}, batch["request"]
    rows = list(served.catalogue.database.every(SAMPLES, batch=batch["id"], state="accepted"))
    derived = summary.get("derived", {"samples": 0, "instances": 0, "by_instance": {}})
    return {
        "batch": batch["id"], "class_name": request["class_name"], "mode": request["mode"],
        "novelty": sorted({r["provenance"]["novelty"] for r in rows})[0] if rows else None, "made": summary.get("made", 0), "samples": len(rows),
        "filtered": ", ".join(f"{count} {reason}" for reason, count in summary.get("rejected", {}).items()) or "none", "rejected": summary.get("rejected", {}),
        "derived": derived["samples"], "instances": derived["instances"], "most_from_one": max(derived["by_instance"].values(), default=0),
        "generators": sorted({r["provenance"]["model_version"] for r in rows if r["provenance"]["model_version"] is not None}),
        "advice": summary.get("advice"),
    }  # fmt: skip


def measured(evaluation: Row) -> dict[str, Any]:
    result = evaluation["result"]
    row = next(r for r in result["table"] if r["figure"] == result["figure"])
    worst = result["worst"]
    return {
        "id": evaluation["id"], "base": evaluation["request"]["base"], "figure": result["figure"], "reference": row["reference"], "arm": row["arm"],
        "difference": row["difference"], "interval": shown_interval(row["interval"]), "proof": result["proof"], "harness": result["harness"],
        "least_for": None if worst is None else f"{worst['figure']} {worst['difference']:+.3f} ({worst['says']})", "kept_on_val": result["policy"]["chosen"],
        "harmed": [r["figure"] for r in result["table"] if r["says"] == "harmed"],
    }  # fmt: skip


def failures(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["synthetic"] and report["proof"] != "positive":
        lines.append(f"nothing proves that its synthetic images help: proof is {report['proof']}")
    if report["accepted_unproven"]:
        lines.append("it became the latest without proof, because a request said accept_unproven")
    for e in report["evaluations"]:
        lines += [f"{figure} was harmed, says evaluation {e['id']}" for figure in e["harmed"]]
        if e["kept_on_val"] not in (None, "longtail"):
            lines.append(f"on val {'none' if e['kept_on_val'] == 'real' else 'a part'} of the addition does best, says evaluation {e['id']}")
    lines += [f"gate {g['name']} of {g['class_name']} {g['verdict']} (generator {g['generator']})" for g in report["gates"] if g["verdict"] == "failed"]
    lines += [f"batch {b['batch']}: {b['advice']}" for b in report["batches"] if b["advice"]]
    return lines
