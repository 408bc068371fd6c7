"""What a stack holds, as a page of links to its reports: where a person with a browser begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def front_page(held: Sequence[Held], *, mlflow_url: str) -> str:
    """HTML with relative links, so that it works behind a proxy that adds a prefix."""
    parts = [part for one in held for part in of_dataset(one)]
    none = "<p>No dataset is registered yet: POST /v1/datasets, or `longtail datasets register`.</p>"
    about = f"<p class=note>Experiments and models are in {Link(mlflow_url, 'MLflow')}, every request is described in {Link('docs', 'docs')}.</p>"
    return document("Longtail", "<h1>Longtail</h1>", about, *(parts or [none]))


def of_dataset(held: Held) -> list[str]:
    d = held.dataset
    serving = f"generator {d['serving']} serves" if d["serving"] is not None else "no generator serves"
    return [
        f"<h2>{text(d['id'])}</h2><p class=note>{text(d['task'])}, {text(d['uri'])}; version {d['latest']} is the latest, {serving}.</p>",
        titled("versions", held, ["version", "images", "synthetic", "proof", "", ""], [of_version(d, v) for v in held.versions]),
        titled("generators", held, ["generator", "from", *(f"gates {v}" for v in VERDICTS), ""], [of_generator(g) for g in held.generators]),
        titled("evaluations", held, ["measured", "proof", ""], [[subject(e["request"]).rstrip(","), e["result"]["proof"], report_of("evaluations", e["id"])]
                                                                for e in held.evaluations]),
    ]  # fmt: skip


def titled(name: str, held: Held, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with its title; nothing where there are no rows."""
    if not rows:
        return ""
    more = held.counts[name] - len(rows)
    return f"<h3>{name.capitalize()}</h3>{table(titles, rows)}" + (f"<p class=note>and {more} older</p>" if more > 0 else "")


def of_version(dataset: Mapping[str, Any], v: Mapping[str, Any]) -> list[object]:
    where = f"v1/datasets/{dataset['id']}/versions/{v['number']}"
    named = f"{v['number']}{' (latest)' * (v['number'] == dataset['latest'])}{' (withdrawn)' * bool(v['withdrawn'])}"
    if v["health"] is None:
        return [named, "–", "–", v["state"], "", ""]
    proof = v["proof"] if v["health"]["synthetic_images"] else "none needed"
    return [named, sum(v["health"]["images"].values()), v["health"]["synthetic_images"], proof, Link(f"{where}/health.html", "health"),
            Link(f"{where}/report.html", "report")]  # fmt: skip


def of_generator(g: Mapping[str, Any]) -> list[object]:
    verdicts = [gate["verdict"] for gate in g["gates"] or []]
    link = report_of("generators", g["dataset"], g["version"]) if g["source"] == "finetune" else "measured on nothing of this dataset"
    return [g["version"], g["source"], *(verdicts.count(v) for v in VERDICTS), "withdrawn" if g["withdrawn"] else link]


def report_of(*where: object) -> Link:
    return Link("/".join(["v1", *map(str, where), "report.html"]), "report")
