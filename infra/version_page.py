"""What a version holds that was made, and what that did: one self-contained page, what did not go well first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.pages import document, folded, inside, listed, neighbours, shown_interval, table, text

MOST_SHOWN = 8
"""Instances of each batch in the page; its JSON has all of them."""


def version_page(report: Mapping[str, Any], pictures: Mapping[str, list[dict[str, Any]]], generators: Mapping[str, str]) -> str:
    """HTML of `GET .../report`, with pictures of each batch's samples and the pages of the generators that made them."""
    title = f"{report['dataset']}, version {report['version']}"
    return document(
        title,
        f"<h1>{text(title)}</h1><p>Proof: <b class={report['proof']}>{report['proof']}</b>. {text(line(report))}</p>",
        "<h2>What did not go well</h2>",
        listed(report["failures"]),
        "<h2>What it was measured to do</h2>",
        table(
            ["evaluation", "against", "figure", "without", "with", "difference", "95 %", "proof", "least for"],
            [[e["id"], f"version {e['base']}", e["figure"], e["reference"], e["arm"], e["difference"], e["shown_interval"], e["proof"], e["least_for"]]
             for e in report["evaluations"]],
        ) if report["evaluations"] else "<p>It has not been evaluated: POST /v1/evaluations.</p>",
        "<h2>Batches</h2>",
        table(
            ["batch", "class", "mode", "novelty", "made", "in this version", "filtered out", "taken in by hand", "derived", "real instances behind them",
             "most from one"],
            [[b["batch"], b["class_name"], b["mode"], b["novelty"], b["made"], b["samples"], b["filtered"], b["by_hand"], b["derived"], b["instances"],
              b["most_from_one"]]
             for b in report["batches"]],
        ),
        "<h2>Generators</h2>",
        table(["generator", "gate", "class", "figure", "95 %", "threshold", "verdict", "samples", "novelty", "note"],
              [[g["generator"], g["name"], g["class_name"], shown(g["figure"]), shown_interval(g["interval"]), g["threshold"], g["verdict"], g["count"],
                g.get("novelty", ""), g["note"]] for g in report["gates"]]),
        *(folded(f"generator {name}: dial, latents, gates with pictures, curves", inside(page)) for name, page in generators.items()),
        "<h2>Real instances that most was made from</h2>",
        table(["class", "instance", "samples"], [[b["class_name"], i, n] for b in report["batches"] for i, n in list(b["by_instance"].items())[:MOST_SHOWN]]),
        "<h2>Before, mask, made, nearest real object</h2>",
        *(part for name, items in pictures.items() for part in (f"<h3>{text(name)}</h3>", *map(neighbours, items))),
    )  # fmt: skip


def line(report: Mapping[str, Any]) -> str:
    accepted = " It was made the latest unproven, on request." if report["accepted_unproven"] else ""
    return f"{report['images']['train']} training images, {report['synthetic']} of them synthetic.{accepted}"


def shown(value: float | None) -> object:
    return "not measured" if value is None else float(value)
