"""What a stack holds, as a page of links to its reports: where a person with a browser begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from infra.database import READY
from infra.evaluation_page import subject
from infra.pages import Link, document, table, text

VERDICTS = ("failed", "unknown", "passed")


@dataclass(frozen=True)
class Held:
    """A dataset's rows, newest first, and how many there are of each, if more than are shown."""

    dataset: Mapping[str, Any]
    versions: Sequence[Mapping[str, Any]]
    generators: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]


def front_page(held: Sequence[Held], *, mlflow_url: str, following: str | None) -> str:
    """HTML with relative links, so that it works behind a proxy that adds a prefix. `following` is the cursor of what comes after these datasets."""
    none = "<p>No dataset is registered: POST /v1/datasets, or `longtail datasets register`.</p>"
    parts = [part for one in held for part in of_dataset(one)] or [none]
    about = f"<p class=note>Experiments and models are in {Link(mlflow_url, 'MLflow')}.</p>" if mlflow_url else ""
    return document("Longtail", "<h1>Longtail</h1>", about, *parts, f"<p>{Link('?cursor=' + quote(following), 'older datasets')}</p>" if following else "")


def of_dataset(held: Held) -> list[str]:
    d = held.dataset
    latest = "it is being registered" if d["latest"] is None else f"version {d['latest']} is the latest"
    serving = "no generator serves" if d["serving"] is None else f"generator {d['serving']} serves"
    return [
        f"<h2>{text(d['id'])}</h2><p class=note>{text(d['task'])}, {text(d['uri'])}; {latest}, {serving}.</p>",
        titled("versions", held, ["version", "images", "synthetic", "proof", "", ""], [of_version(d, v) for v in held.versions]),
        titled("generators", held, ["generator", "from", *(f"gates {v}" for v in VERDICTS), "", ""], [of_generator(g) for g in held.generators]),
        titled("evaluations", held, ["measured", "at (UTC)", "proof", ""], [of_evaluation(e) for e in held.evaluations]),
    ]


def titled(name: str, held: Held, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with its title; nothing where there are no rows."""
    if not rows:
        return ""
    more = held.counts[name] - len(rows)
    return f"<h3>{name.capitalize()}</h3>{table(titles, rows)}" + (f"<p class=note>and {more} older</p>" if more > 0 else "")


def of_version(dataset: Mapping[str, Any], v: Mapping[str, Any]) -> list[object]:
    where = f"v1/datasets/{dataset['id']}/versions/{v['number']}"
    named = f"{v['number']}{' (latest)' * (v['number'] == dataset['latest'])}"
    health = v["health"]
    images = [sum(health["images"].values()), health["synthetic_images"]] if health else ["–", "–"]
    if v["state"] != READY or not health:
        return [named, *images, f"it is {v['state']}", "", ""]
    seen = Link(f"{where}/health.html", "health")
    if v["withdrawn"]:
        return [named, *images, "withdrawn", seen, ""]
    proof = v["proof"] + ", accepted unproven" * bool(v["accepted_unproven"])
    return [named, *images, proof if images[1] else "none needed", seen, Link(f"{where}/report.html", "report")]


def of_generator(g: Mapping[str, Any]) -> list[object]:
    gates = g["gates"] or []
    verdicts = [gate["verdict"] for gate in gates]
    seen = next((gate["pictures"] for gate in gates if gate["name"] == "utility" and gate["pictures"]), "")
    link = report_of("generators", g["dataset"], g["version"])
    return [g["version"], g["source"], *(verdicts.count(v) for v in VERDICTS), "withdrawn" if g["withdrawn"] else link,
            Link(seen.removeprefix("/"), "evaluation") if seen else ""]  # fmt: skip


def of_evaluation(e: Mapping[str, Any]) -> list[object]:
    return [subject(e["request"]).rstrip(","), e["created"][:16].replace("T", " "), e["result"]["proof"], report_of("evaluations", e["id"])]


def report_of(*where: object) -> Link:
    return Link("/".join(["v1", *map(str, where), "report.html"]), "report")
