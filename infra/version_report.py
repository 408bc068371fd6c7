"""What is told of a version: who was hurt first, what it was measured to do, its batches and the generators behind them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from infra.catalogue import Catalogue
from infra.cluster import Cluster
from infra.database import BATCHES, EVALUATIONS, GENERATORS, SAMPLES, Database, Row
from infra.generator_page import generator_page, generator_twin
from infra.pages import shown_interval
from longtail.samples import is_source
from longtail.uplift import reservations, unproven_base, worst_class


def version_report(catalogue: Catalogue, dataset: str, number: int) -> dict[str, Any]:
    """The machine-readable twin of the page."""
    database = catalogue.database
    version = database.version(dataset, number)
    batches = [told(catalogue, dataset, version, database.get(BATCHES, key)) for key in version["batches"] if not is_source(key)]
    evaluations = [m for e in database.every(EVALUATIONS, dataset=dataset) if (m := measured(database, e, number))]
    used = sorted({m for b in batches for m in b["generators"]})
    generators = {str(m): generator_twin(catalogue, database.get(GENERATORS, f"{dataset}:{m}")) for m in used}
    gates = [{"generator": int(m), **g} for m, twin in generators.items() for g in twin["gates"]]
    health = version["health"]
    report = {
        "dataset": dataset, "version": number, "parent": version["parent"], "proof": version["proof"], "accepted_unproven": version["accepted_unproven"],
        "images": health["images"], "synthetic": health["synthetic_images"], "evaluations": evaluations, "batches": batches, "gates": gates,
        "generators": generators,
    }  # fmt: skip
    return {**report, "failures": failures(report)}


def told(catalogue: Catalogue, dataset: str, version: Row, batch: Row) -> dict[str, Any]:
    """A batch as far as it is in the version: what was left out of that, or withdrawn, counts for nothing here."""
    summary, request = batch["summary"] or {}, batch["request"]
    there = {s.id for s in catalogue.samples(dataset, version, batches=[batch["id"]])}
    rows = [r for r in catalogue.database.every(SAMPLES, batch=batch["id"]) if r["id"] in there]
    against = Counter(reason for r in rows for reason in r["verdict"].get("reasons", ()))
    derived = [set(r["verdict"].get("derived_from", ())) for r in rows]
    by_instance = dict(Counter(instance for one in derived for instance in one).most_common())
    rejected = summary.get("rejected", {})
    return {
        "batch": batch["id"], "class_name": request["class_name"], "mode": request["mode"],
        "novelty": sorted({r["provenance"]["novelty"] for r in rows})[0] if rows else None, "made": summary.get("made", 0), "samples": len(rows),
        "filtered": ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none", "rejected": rejected,
        "by_hand": sum(bool(r["verdict"].get("reasons")) for r in rows), "by_hand_against": ", ".join(f"{count} {reason}" for reason, count in against.items()),
        "rates": summary.get("rates", {}), "objects": summary.get("objects"),
        "derived": sum(map(bool, derived)), "instances": len(by_instance), "by_instance": by_instance, "most_from_one": max(by_instance.values(), default=0),
        "generators": sorted({r["provenance"]["model_version"] for r in rows if r["provenance"]["model_version"] is not None}),
        "unasked": summary.get("unasked") if rows else None, "advice": summary.get("advice") if rows else None,
    }  # fmt: skip


def measured(database: Database, evaluation: Row, number: int) -> dict[str, Any] | None:
    """What an evaluation says of the version: as what it added, or as the part of that which was published; None where it says nothing of it."""
    result, request = evaluation["result"], evaluation["request"]
    part = result.get("published") if (result.get("published") or {}).get("version") == number else None
    if part is None and request["candidate"] != number:
        return None
    rows = result["tables"][f"{part['arm']} - real"] if part else result["table"]
    row, worst = next(r for r in rows if r["figure"] == result["figure"]), worst_class(rows)
    return {
        "id": evaluation["id"], "base": request["base"], "figure": result["figure"], "reference": row["reference"], "arm": row["arm"],
        "difference": row["difference"], "interval": row["interval"], "shown_interval": shown_interval(row["interval"]),
        "proof": part["proof"] if part else result["proof"], "harness": result["harness"], "too_few": result.get("too_few", ""),
        "unproven_base": unproven_base(request, database.find_version(evaluation["dataset"], request["base"]), number),
        "least_for": None if worst is None else f"{worst['figure']} {worst['difference']:+.3f} ({worst['says']})",
        "kept_on_val": None if part else result["policy"]["chosen"], "harmed": [r["figure"] for r in rows if r["says"] == "harmed"],
    }  # fmt: skip


def reason(gate: dict[str, Any]) -> str:
    """What a gate measured, its interval and what was wanted, where it measured anything, and its note."""
    figure = "" if gate["figure"] is None else f"{gate['figure']:.3f} ({shown_interval(gate['interval'])}), wanted {gate['threshold']}"
    return "; ".join(filter(None, [figure, gate["note"]]))


def failures(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["synthetic"] and report["proof"] != "positive":
        lines.append(f"nothing proves that its synthetic images help: proof is {report['proof']}")
    if report["accepted_unproven"]:
        lines.append("it became the latest without proof, because a request said accept_unproven")
    for e in report["evaluations"]:
        lines += [f"{figure} was harmed, says evaluation {e['id']}" for figure in e["harmed"]]
        lines += [f"{why} (evaluation {e['id']})" for why in reservations(e)]
        if e["kept_on_val"] not in (None, "longtail"):
            lines.append(f"on val {'none' if e['kept_on_val'] == 'real' else 'a part'} of the addition does best, says evaluation {e['id']}")
    for verdict, says in (("failed", "failed"), ("unknown", "cannot be told")):
        lines += [
            f"gate {g['name']} of {g['class_name']} {says} (generator {g['generator']})" + (f": {why}" if (why := reason(g)) else "")
            for g in report["gates"] if g["verdict"] == verdict
        ]  # fmt: skip
    foundations = {int(m) for m, generator in report["generators"].items() if generator["source"] == "foundation"}
    lines += [f"generator {m} is the shipped foundation, of which no gate was asked: fine-tune one" for m in sorted(foundations)]
    lines += [
        f"batch {b['batch']}: {b['by_hand']} samples that the filters refused ({b['by_hand_against']}) were taken in on a person's word"
        for b in report["batches"]
        if b["by_hand"]
    ]
    lines += [f"batch {b['batch']}: {b['unasked']}" for b in report["batches"] if b["unasked"] and not foundations.intersection(b["generators"])]
    lines += [f"batch {b['batch']}: {b['advice']}" for b in report["batches"] if b["advice"]]
    return lines


def version_pictures(catalogue: Catalogue, cluster: Cluster, report: dict[str, Any], limit: int) -> dict[str, list[dict[str, Any]]]:
    """Of each batch of a version's report its first samples that are in the version, as `pictures_of` shows them."""
    version, pictures = catalogue.database.version(report["dataset"], report["version"]), {}
    for batch in report["batches"]:
        there = sorted(s.id for s in catalogue.samples(report["dataset"], version, batches=[batch["batch"]]))
        rows = [catalogue.database.get(SAMPLES, i) for i in there[:limit]]
        pictures[batch["batch"]] = shown(catalogue, cluster, batch["batch"], rows)
    return pictures


def generator_pages(catalogue: Catalogue, report: dict[str, Any]) -> dict[str, str]:
    """{generator: its own page} of those that a version's samples are of: dial, latents, gates with pictures, curves."""
    used = sorted({m for b in report["batches"] for m in b["generators"]})
    return {str(m): generator_page(catalogue, catalogue.database.get(GENERATORS, f"{report['dataset']}:{m}"), linked=False) for m in used}


def pictures_of(catalogue: Catalogue, cluster: Cluster, name: str, limit: int) -> list[dict[str, Any]]:
    """Of a batch's first samples what was there before, what was made, and the nearest real object."""
    rows = [r for r in catalogue.database.select(SAMPLES, batch=name, limit=limit) if r["state"] != "withdrawn"]
    return shown(catalogue, cluster, name, rows)


def shown(catalogue: Catalogue, cluster: Cluster, name: str, rows: list[Row]) -> list[dict[str, Any]]:
    """These samples of a batch, each beside what was there before and its nearest real object."""
    database = catalogue.database
    found = database.get(BATCHES, name)
    samples = [{"id": r["id"], "uri": r["uri"], "provenance": r["provenance"], "annotations": r["annotations"], "verdict": r["verdict"]} for r in rows]
    version = database.version(found["dataset"], found["request"]["version"], or_latest=True)["number"]
    payload = {"dataset": found["dataset"], "version": version, "samples": samples}
    made = cluster.run("trainers.tasks:nearest_pictures", payload) if rows else []
    states = {r["id"]: (r["state"], r["verdict"]) for r in rows}
    return [{**m, "state": states[m["id"]][0], "verdict": states[m["id"]][1]} for m in made]
