"""The command line: `longtail NOUN VERB`, the stack, and the demo."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.embedded import Stack, running_pid
from infra.settings import Settings
from services.cli.asking import (
    DEFAULT_STATE,
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    AsJson,
    NoWait,
    StateDir,
    ask,
    client,
    console,
    emit,
    follow,
    refusals,
)  # fmt: skip
from services.cli.datasets import datasets
from services.cli.evaluations import evaluations

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Grows the rare classes of datasets, and measures it.")


@app.command()
def up(
    state: StateDir = DEFAULT_STATE,
    port: Annotated[int | None, typer.Option(help="port of the API; a free one from 8080 by default")] = None,
    cpus: Annotated[int | None, typer.Option(help="cores that Ray may use; all by default")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql+psycopg://user:password@host:port; SQLite by default")] = None,
) -> None:
    """Starts the whole stack in the foreground; Ctrl-C ends it."""
    stack = Stack(state, api_port=port, num_cpus=cpus, database=database, say=console.print)
    signal.signal(signal.SIGTERM, lambda *_: stack.stopping.set())
    with refusals():
        try:
            stack.run(on_ready=show_addresses)
        except KeyboardInterrupt:
            console.print("stopped")


def show_addresses(settings: Settings) -> None:
    console.print(f"[bold]API[/]     {settings.api_url} (described at {settings.api_url}/docs; in a browser its reports, with the key as password)")
    console.print(f"[bold]MLflow[/]  {settings.mlflow_url}\n[bold]S3[/]      {settings.s3_endpoint}")
    console.print(f"[bold]key[/]     {settings.api_key}\nCtrl-C ends everything; `longtail status` from another terminal.")


@app.command()
def down(state: StateDir = DEFAULT_STATE) -> None:
    """Ends a stack that runs elsewhere."""
    pid = running_pid(state.resolve())
    if pid is None:
        console.print("nothing runs with this state directory")
        return
    os.kill(pid, signal.SIGTERM)
    for _ in range(120):
        if running_pid(state.resolve()) is None:
            console.print("stopped")
            return
        time.sleep(0.1)
    raise typer.Exit(EXIT_FAILED)


@app.command()
def status(state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Whether the stack runs, and where its parts are."""
    pid = running_pid(state.resolve())
    if pid is None:
        emit({"running": False}, as_json, "not running; start it with `longtail up`")
        raise typer.Exit(EXIT_UNREACHABLE)
    settings = Settings.of_running_stack(state.resolve())
    found = {"running": True, "pid": pid, "api": settings.api_url, "mlflow": settings.mlflow_url, "key": settings.api_key, "s3": settings.s3_endpoint}
    found |= {"s3 access key": settings.s3_access_key, "s3 secret key": settings.s3_secret_key}
    emit(found, as_json, "\n".join(f"{k:14s} {v}" for k, v in found.items()))


@app.command()
def demo(
    state: StateDir = DEFAULT_STATE,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("out"),
    budget: Annotated[float, typer.Option(help="seconds of training")] = 130,
    quick: Annotated[bool, typer.Option("--quick", help="the same path in a small setting, for tests")] = False,
) -> None:
    """Walks the whole job on real images and ends with a report."""
    from services.demo.walk import Setting, run_demo

    setting = Setting.quick() if quick else Setting(budget_s=budget)
    with refusals():
        try:
            run_demo(state, out, setting=setting, console=console)
        except KeyboardInterrupt:
            console.print("stopped; what was made stays in the state directory")
            raise typer.Exit(EXIT_FAILED) from None


batches = typer.Typer(no_args_is_help=True, help="synthetic samples by the batch")
generators = typer.Typer(no_args_is_help=True, help="generators and their promotion")
jobs = typer.Typer(no_args_is_help=True, help="what is being done")
for noun, group in (("datasets", datasets), ("batches", batches), ("generators", generators), ("evaluations", evaluations), ("jobs", jobs)):
    app.add_typer(group, name=noun)


@generators.command("train")
def generators_train(
    dataset: str,
    budget: float = 150,
    preset: str = "tiny",
    start: Annotated[str | None, typer.Option(help="foundation or random")] = None,
    options: Annotated[list[str], typer.Option("--set", help="an option of the recipe, as --set loss=hinge; as often as you like")] = [],  # noqa: B006
    state: StateDir = DEFAULT_STATE,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tunes on the rare classes."""
    body = {"dataset": dataset, "budget_s": budget, "preset": preset, "start": start, "recipe": dict(map(option, options))}
    ask("/v1/generators", body, state, no_wait, as_json)


def option(text: str) -> tuple[str, Any]:
    """("loss", "hinge") of "loss=hinge"; the value as JSON where it is JSON."""
    name, _, value = text.partition("=")
    if not value:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@generators.command("promote")
def generators_promote(
    dataset: str, version: int, evaluate: Annotated[bool, typer.Option("--evaluate", help="measure first; one that does harm is refused")] = False,
    state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Makes a version the champion."""
    ask(f"/v1/generators/{dataset}/champion", {"version": version, "evaluate": {} if evaluate else None}, state, no_wait, as_json)


@batches.command("create")
def batches_create(
    dataset: str, class_name: str, count: int = 16,
    mode: Annotated[str, typer.Option(help="inpaint, copy_paste, synthesis (whole images, what a classification dataset takes) or enlarge")] = "inpaint",
    novelty: float | None = None, objects: int = 1,
    state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False,
) -> None:
    """Makes samples of a class; publish them with `longtail batches publish`."""
    body = {"dataset": dataset, "class_name": class_name, "count": count, "mode": mode, "novelty": novelty, "objects": objects}
    ask("/v1/batches", body, state, no_wait, as_json)


@batches.command("publish")
def batches_publish(
    batch: str, accept_unproven: bool = False, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False
) -> None:
    """Adds a batch's accepted samples as a new version."""
    ask(f"/v1/batches/{batch}/publish", {"accept_unproven": accept_unproven}, state, no_wait, as_json)


@jobs.command("list")
def jobs_list(state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """The last hundred jobs, newest first."""
    with refusals():
        found = client(state).get("/v1/jobs")
        emit(found, as_json, "\n".join(f"{j['id']}  {j['kind']:9s} {j['state']:9s} {j['progress']:4.0%}  {j['message']}" for j in found["items"]))


@jobs.command("wait")
def jobs_wait(job: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Follows a job to its end."""
    with refusals():
        emit(follow(client(state), job, quiet=as_json), as_json)


@jobs.command("cancel")
def jobs_cancel(job: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Stops a job at its next safe point."""
    with refusals():
        found = client(state).post(f"/v1/jobs/{job}/cancel")
        emit(found, as_json, f"{job} {found['state']}")


if __name__ == "__main__":
    app()
