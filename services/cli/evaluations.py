"""`longtail evaluations`: what an addition is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.evaluation_page import outcome
from longtail.expansion import OBJECTS
from longtail.uplift import reservations
from services.cli.asking import DEFAULT_STATE, AsJson, NoWait, StateDir, client, console, emit, follow, refusals

evaluations = typer.Typer(no_args_is_help=True, help="what an addition is worth to a model trained with it")


@evaluations.command("create")
def create(
    dataset: str,
    candidate: Annotated[int | None, typer.Option(help="a version that adds to another")] = None,
    generator: Annotated[int | None, typer.Option(help="or a generator, whose images are made and measured, not published")] = None,
    base: Annotated[int | None, typer.Option(help="the version to start from; what the candidate was added to, by default")] = None,
    arm: Annotated[list[str], typer.Option("--arm", help="real, classical, copy_paste, longtail, both; all that fit by default")] = [],  # noqa: B006
    share: Annotated[
        list[float] | None, typer.Option("--share", help="a part of the addition that may be kept instead; 0.5 by default, 0 for none")
    ] = None,
    seeds: Annotated[int, typer.Option(help="paired runs of every arm")] = 6,
    steps: int | None = None,
    count: Annotated[int, typer.Option(help="with --generator: how many images it makes")] = 100,
    class_name: Annotated[list[str], typer.Option("--class", help="with --generator: a class to make; those it was trained on by default")] = [],  # noqa: B006
    novelty: Annotated[float | None, typer.Option(help="with --generator: 0 a real instance in a new place, to 1, invented")] = None,
    objects: Annotated[int, typer.Option(help="with --generator: new objects in each image of a detection dataset")] = OBJECTS,
    model: Annotated[str | None, typer.Option(help="detector, classifier or probe")] = None,
    weights: Annotated[str, typer.Option(help="pretrained or random: where the reference model starts")] = "pretrained",
    side_px: Annotated[int | None, typer.Option("--side-px", help="the longer side that the reference model sees, in pixels; 256 by default")] = None,
    augment: Annotated[str | None, typer.Option(help="the classical arm's policy; upright for detection, else standard")] = None,
    trainer: Annotated[str | None, typer.Option(help="the team's own, by its name on the server")] = None,
    figure: Annotated[str | None, typer.Option(help="the figure that decides; AP or macro-F1 of the grown classes, a trainer's first")] = None,
    publish_choice: Annotated[bool, typer.Option("--publish-choice", help="publish the part that does best on val, if a part does")] = False,
    state: StateDir = DEFAULT_STATE,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Trains a model on every arm with every seed, and measures each on real test images."""
    body: dict[str, Any] = {
        "dataset": dataset, "base": base, "candidate": candidate, "generator": generator, "arms": arm or None, "seeds": list(range(seeds)),
        "steps": steps, "count": count, "objects": objects, "model": model, "trainer": trainer, "publish_choice": publish_choice,
        "classes": class_name or None, "novelty": novelty, "weights": weights, "augment": augment, "figure": figure,
    }  # fmt: skip
    body |= {"shares": [s for s in share if s]} if share else {}
    body |= {} if side_px is None else {"side_px": side_px}
    with refusals():
        served = client(state)
        job = served.post("/v1/evaluations", body)
        if no_wait:
            emit(job, as_json)
            return
        result = follow(served, job["job"], quiet=as_json)
        emit(result, as_json, told(result) + f"\n\n{job['job']}: `longtail evaluations report {job['job']} FILE` writes the page")


@evaluations.command("show")
def show(key: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """What an evaluation found."""
    with refusals():
        found = client(state).get(f"/v1/evaluations/{key}")
        emit(found, as_json, told(found["result"]))


@evaluations.command("report")
def report(key: str, file: Path, state: StateDir = DEFAULT_STATE) -> None:
    """Writes an evaluation's page."""
    with refusals():
        file.write_bytes(b"".join(client(state).download(f"/v1/evaluations/{key}/report.html")))
        console.print(f"{file} written")


def told(result: dict[str, Any]) -> str:
    """An evaluation in lines: the proof, the differences of the figure that decides, who was hurt, what to keep."""
    figure = result["figure"]
    lines = [f"{figure}: {result['proof']} ({result['harness']}, {len(result['seeds'])} paired runs)"]
    for name, rows in result["tables"].items():
        row = next(r for r in rows if r["figure"] == figure)
        lines.append(f"  {name:28s} {shown(row['reference'])} -> {shown(row['arm'])}  {shown(row['difference'])} [{', '.join(map(shown, row['interval']))}]")
    lines += [f"  {line}" for line in outcome(result)]
    lines += [f"  {line}" for line in (*reservations(result), *result.get("advice", []))]
    chosen = result["policy"]["chosen"]
    lines.append(f"  on val: {'no val split to choose on' if chosen is None else 'keep ' + {'real': 'none', 'longtail': 'all'}.get(chosen, chosen)}")
    return "\n".join(lines)


def shown(value: float | None) -> str:
    return "   --" if value is None else f"{value:+.3f}"
