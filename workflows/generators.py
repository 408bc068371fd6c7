"""Generators: the foundation as version 1, fine-tuning, and what happens when the champion moves."""

from __future__ import annotations

import json
import math
from typing import Any

from infra.database import DATASETS, GENERATORS, PROMOTIONS
from infra.durable import step
from infra.generator_page import generator_page, generator_twin
from infra.registry import CHALLENGER, CHAMPION
from longtail.errors import Conflict, InvalidRequest
from longtail.gates import Gate, Verdict, class_key
from longtail.recipes import FOUNDATION_PRESET
from workflows.pictures import take_pictures_out
from workflows.stack import Stack
from workflows.versions import not_logged

UNUSED = Gate(
    name="utility", class_name="all classes", figure=math.nan, interval=(math.nan, math.nan), threshold="> 0", verdict="unknown", count=0,
    note="not measured yet: POST /v1/evaluations",
)  # fmt: skip
"""The gate of use before an evaluation measures it, which a training cannot: no generator passes every gate until one has."""


def register_foundation(stack: Stack, job: str, dataset: str) -> int:
    """The shipped foundation becomes version 1 of the dataset's model, and its champion: enough to join exemplars to their place."""
    names = stack.catalogue.classes(dataset)
    classes = [names.names[c] for c in sorted(names.names)]
    stored = step("store foundation", lambda: stack.cluster.run("trainers.tasks:foundation_weights", {"dataset": dataset, "classes": classes}))

    def record() -> int:
        data = stack.catalogue.objects.read(stored["uri"])
        tags = {"longtail.job": job, "longtail.dataset": dataset}
        run = stack.registry.start_run(experiment=f"longtail-{dataset}", name="foundation", params={}, tags=tags)
        stack.registry.log_file(run, "generator/generator.safetensors", data)
        stack.registry.finish_run(run)
        number = stack.catalogue.database.version(dataset)["number"]
        version = enter(
            stack, job, dataset, uri=stored["uri"], run=run, classes=classes, gates=[UNUSED.to_json()], recipe={}, source="foundation", dataset_version=number
        )
        not_logged(lambda: log_page(stack, dataset, version))
        return version

    version = step("register foundation", record)
    step("serve foundation", lambda: promote_now(stack, job, dataset, version, who="longtail", why="first generator", set_alias=True))
    return version


def enter(
    stack: Stack, job: str, dataset: str, *, uri: str, run: str, classes: list[str], gates: list[dict[str, Any]], recipe: dict[str, Any], source: str,
    dataset_version: int,
) -> int:  # fmt: skip
    """Registers a version in MLflow with its lineage and figures, and remembers it here."""
    stack.catalogue.database.version(dataset, dataset_version)  # refused where an image of it was withdrawn meanwhile
    verdict = summary(gates)
    tags = {
        "longtail.weights": uri,
        "longtail.job": job,
        "longtail.dataset_version": str(dataset_version),
        "longtail.recipe": json.dumps(recipe),
        "longtail.gates": verdict,
        "longtail.source": source,
        "longtail.classes": json.dumps(classes),
        **{f"gate.{g['name']}" + f".{class_key(g['class_name'])}" * (g["name"] != UNUSED.name): said(g) for g in gates},
    }
    version = stack.registry.register(dataset, run=run, description=f"{source}; gates {verdict}", tags=tags)
    row = {"id": f"{dataset}:{version}", "dataset": dataset, "version": version, "uri": uri, "run": run, "classes": classes}
    stack.catalogue.database.insert(GENERATORS, {**row, "gates": gates, "recipe": recipe, "source": source, "job": job, "dataset_version": dataset_version})
    return version


def log_page(stack: Stack, dataset: str, generator: int) -> None:
    """The generator's page and its twin in its run in MLflow, with what is known of its use by now; again where it is withdrawn meanwhile."""
    key = f"{dataset}:{generator}"
    row, written = stack.catalogue.database.get(GENERATORS, key), None
    while written is None or written["withdrawn"] != row["withdrawn"]:
        stack.registry.log_file(row["run"], "report.html", generator_page(stack.catalogue, row, linked=False).encode())
        stack.registry.log_file(row["run"], "report.json", json.dumps(generator_twin(stack.catalogue, row), indent=1).encode())
        row, written = stack.catalogue.database.get(GENERATORS, key), row


def said(gate: dict[str, Any]) -> str:
    """A gate as a tag: its figure, where it could be measured, and its verdict."""
    return gate["verdict"] if gate["figure"] is None else f"{gate['figure']:.4f} {gate['verdict']}"


def summary(gates: list[dict[str, Any]]) -> Verdict:
    """Failed if any gate failed, passed if all passed, unknown otherwise."""
    verdicts = {g["verdict"] for g in gates}
    if "failed" in verdicts:
        return "failed"
    return "passed" if verdicts == {"passed"} else "unknown"


def finetune(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Fine-tunes on the classes asked for, or on the rare ones; registers the result, as challenger if every gate passed that a training can ask."""
    dataset = request["dataset"]
    chosen = step("choose classes", lambda: choose(stack, dataset, request))
    asked = {"preset": FOUNDATION_PRESET, "start": "foundation", "seed": 0, "recipe": {}} | request
    payload = {"job": job, "dataset": dataset, **chosen, **{k: asked[k] for k in ("preset", "start", "budget_s", "seed", "recipe")}}
    trained = step("train", lambda: stack.cluster.run("trainers.tasks:finetune", payload, use_gpu=True))
    gates = [*trained["gates"], UNUSED.to_json()]

    def record() -> int:
        version = enter(
            stack, job, dataset, uri=trained["uri"], run=trained["run"], classes=chosen["classes"], gates=gates,
            recipe=trained["recipe"], source="finetune", dataset_version=chosen["version"],
        )  # fmt: skip
        if summary(trained["gates"]) == "passed":
            stack.registry.set_alias(dataset, CHALLENGER, version)
        return version

    try:
        version = step("register generator", record)
    except Conflict:  # an image of what it learned from was withdrawn meanwhile: its pictures may show it
        step("take pictures out", lambda: take_pictures_out(stack, dataset, job, trained["run"]))
        raise
    told = step("log page", lambda: not_logged(lambda: log_page(stack, dataset, version)))  # what its training left there knows nothing of its use
    learned = {k: trained.get(k) for k in ("held_out", "images", "best_kid", "best_kid_at", "upscaler")}
    return {"dataset": dataset, "generator": version, "gates": gates, **told, **learned}


def choose(stack: Stack, dataset: str, request: dict[str, Any]) -> dict[str, Any]:
    """{"version", "classes"}: those asked for, checked, or the rare ones, or all where none is rare."""
    catalogue = stack.catalogue
    version = catalogue.database.version(dataset)
    counts = {c["name"]: c for c in version["health"]["classes"]}
    wanted = list(dict.fromkeys(request.get("classes") or ())) or [n for n, c in counts.items() if c["rare"] and c["instances"]["train"]] or list(counts)
    for name in wanted:
        if name not in counts:
            raise InvalidRequest(f"unknown class {name!r}; {dataset!r} has {sorted(counts)}")
        if not counts[name]["instances"]["train"]:
            raise InvalidRequest(f"class {name!r} has no training instance in {dataset!r}; there is nothing to learn from")
    return {"version": version["number"], "classes": wanted}


def promote(stack: Stack, job: str, request: dict[str, Any]) -> dict[str, Any]:
    """Makes a version the one that serves: loaded first, then switched to, so that no request fails."""
    return step(
        "promote",
        lambda: promote_now(
            stack, job, request["dataset"], request["version"], who=request["who"], why=request["why"], set_alias=request["set_alias"]
        ),
    )


def promote_now(stack: Stack, job: str, dataset: str, version: int, *, who: str, why: str, set_alias: bool) -> dict[str, Any]:
    database = stack.catalogue.database
    tags = stack.registry.tags(dataset, version)
    if "longtail.weights" not in tags:
        raise InvalidRequest(f"version {version} of model {dataset!r} was not registered by Longtail; it cannot be served")
    withdrawn = InvalidRequest(f"generator {version} of {dataset!r} learned from images that were withdrawn since; it cannot be served")
    if "longtail.withdrawn" in tags:
        put_back(stack, dataset, version, moved=set_alias)
        raise withdrawn
    before = database.get(DATASETS, dataset)["serving"]
    gates = tags.get("longtail.gates", "unknown")
    if not set_alias and (before == version or stack.registry.champion(dataset) != version):  # heard of twice, or overtaken by a later move
        return {"dataset": dataset, "before": before, "serving": before, "gates": gates, "outcome": "nothing to do"}
    stack.cluster.ask_server("warm", {"uri": tags["longtail.weights"]})
    if set_alias:
        stack.registry.set_alias(dataset, CHAMPION, version)
    if not database.serve(dataset, version):  # withdrawn while it was loaded
        put_back(stack, dataset, version, moved=set_alias)
        raise withdrawn
    outcome = "serving" if gates != "failed" else "serving; its gates FAILED"
    row = {"id": job, "model": dataset, "alias": CHAMPION, "before": before, "after": version, "who": who, "why": why, "outcome": outcome}
    database.insert(PROMOTIONS, row)
    return {"dataset": dataset, "before": before, "serving": version, "gates": gates, "outcome": outcome}


def put_back(stack: Stack, dataset: str, version: int, *, moved: bool) -> None:
    """Gives the champion back to what serves where we moved it to a version that must not; a move that came since stands."""
    serving = stack.catalogue.database.get(DATASETS, dataset)["serving"]
    if not moved or stack.registry.champion(dataset) != version:
        return
    if serving in (None, version):
        stack.registry.drop_alias(dataset, CHAMPION)
    else:
        stack.registry.set_alias(dataset, CHAMPION, serving)
