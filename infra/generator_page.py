"""A generator as one self-contained page: what it was measured to do for a model first, then what its training left; of the foundation, what it is."""

from __future__ import annotations

import json
from typing import Any

from infra.catalogue import Catalogue
from infra.database import Row
from infra.pages import Link, document, shown_interval, text

WITHDRAWN = "It learned from images that were withdrawn since. What this page showed is not kept any more."


def generator_page(catalogue: Catalogue, row: Row, *, linked: bool) -> str:
    """HTML. `linked` says that the evaluations' pages can be reached from it, as from the API's."""
    where = catalogue.settings.report_of(row["dataset"], row["job"])
    if row["withdrawn"]:
        page = plain(row, WITHDRAWN)
    elif row["source"] == "finetune":
        page = catalogue.objects.read(where).decode()
    else:
        page = plain(row, "The shipped foundation, new embeddings aside: it learned from nothing of this dataset and no gate was asked of it. Fine-tune one.")
    first, cut, rest = page.partition("<h2>")
    return f"{first}{''.join(utility_lines(row, linked=linked))}{cut}{rest}" if cut else first.replace("</html>", "".join(utility_lines(row, linked=linked)))


def generator_twin(catalogue: Catalogue, row: Row) -> dict[str, Any]:
    """The same for programs: gates as they stand now, watchdogs, recipe, curves; of the foundation and of what is withdrawn, the gates alone."""
    if row["withdrawn"] or row["source"] != "finetune":
        return {"title": title_of(row), "source": row["source"], "gates": row["gates"]}
    found: dict[str, Any] = json.loads(catalogue.objects.read(catalogue.settings.report_of(row["dataset"], row["job"], kind="json")))
    return {**found, "source": row["source"], "gates": row["gates"]}


def title_of(row: Row) -> str:
    return f"{row['dataset']}: generator {row['version']}"


def plain(row: Row, what: str) -> str:
    return document(title_of(row), f"<h1>{text(title_of(row))}</h1><p>{text(what)}</p>")


def utility_lines(row: Row, *, linked: bool) -> list[str]:
    """What its images were last measured to do for a model: of all that it grows, then of each class."""
    gates = [g for g in row["gates"] if g["name"] == "utility"]
    return [utility_line(g, linked=linked) for g in gates] or ["<p>What its images do for a model has not been measured: POST /v1/evaluations.</p>"]


def utility_line(gate: dict[str, Any], *, linked: bool) -> str:
    figure = "not measured" if gate["figure"] is None else f"{gate['figure']:+.3f} ({shown_interval(gate['interval'])})"
    said = f"{figure}, wanted {gate['threshold']}, {gate['count']} images of {gate['class_name']}; {gate['note']}"
    seen = f" {Link('../../..' + gate['pictures'].removeprefix('/v1'), 'Where it gained and lost')}." if gate["pictures"] and linked else ""
    return f"<p>Utility: <b class={gate['verdict']}>{gate['verdict']}</b>, {text(said)}.{seen}</p>"
