"""The command line: `longtail NOUN VERB`, the stack, and the demo."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from infra.embedded import Stack, running_pid
from infra.objects import Objects
from infra.settings import Settings
from longtail.client import ApiProblem, Client, JobFailed
from longtail.errors import InvalidRequest, LongtailError, NotReady
from longtail.names import split_uri

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Grows the rare classes of datasets, and proves it.")
console = Console(stderr=True)
StateDir = Annotated[Path, typer.Option("--state", envvar="LONGTAIL_STATE_DIR", help="where the stack keeps everything")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON alone")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="return as soon as the job is queued")]
DEFAULT_STATE = Path(".longtail")
EXIT_FAILED, EXIT_UNREACHABLE = 1, 3


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
    console.print(f"[bold]API[/]     {settings.api_url}/docs\n[bold]MLflow[/]  {settings.mlflow_url}\n[bold]S3[/]      {settings.s3_endpoint}")
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


datasets = typer.Typer(no_args_is_help=True, help="datasets and their versions")
batches = typer.Typer(no_args_is_help=True, help="synthetic samples by the batch")
generators = typer.Typer(no_args_is_help=True, help="generators and their promotion")
jobs = typer.Typer(no_args_is_help=True, help="what is being done")
for noun, group in (("datasets", datasets), ("batches", batches), ("generators", generators), ("jobs", jobs)):
    app.add_typer(group, name=noun)


@datasets.command("upload")
def datasets_upload(folder: Path, uri: str, state: StateDir = DEFAULT_STATE) -> None:
    """Puts a folder's files below s3://bucket/prefix, for those who have no S3 client at hand; makes the bucket."""
    with refusals():
        settings = settings_of(state)
        bucket, _ = split_uri(uri)
        if not folder.is_dir():
            raise InvalidRequest(f"{folder} is not a folder")
        objects = Objects(settings)
        objects.ensure_bucket(bucket)
        files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
        with ThreadPoolExecutor(8) as pool, Progress(console=console, transient=True) as bar:
            list(bar.track(pool.map(lambda f: objects.write_file(f"{uri.rstrip('/')}/{f.relative_to(folder).as_posix()}", f), files), total=len(files)))
        console.print(f"{len(files)} files lie below {uri}; register them with `longtail datasets register NAME {uri}`")


@datasets.command("register")
def datasets_register(name: str, uri: str, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Registers what lies at s3://bucket/prefix."""
    ask("/v1/datasets", {"name": name, "uri": uri}, state, no_wait, as_json)


@datasets.command("health")
def datasets_health(name: str, state: StateDir = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Counts per class and split, and which classes are rare."""
    with refusals():
        found = client(state).get(f"/v1/datasets/{name}/health")
        lines = [f"{'class':20s} train   val  test"]
        for c in found["classes"]:
            n = c["instances"]
            lines.append(f"{c['name']:20s} {n['train']:5d} {n['val']:5d} {n['test']:5d}{'  rare' if c['rare'] else ''}")
        emit(found, as_json, "\n".join(lines))


@datasets.command("export")
def datasets_export(
    name: str, version: int, format: str = "coco", state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False
) -> None:
    """Writes a version as a prefix in the bucket."""
    ask(f"/v1/datasets/{name}/versions/{version}/exports", {"format": format}, state, no_wait, as_json)


@generators.command("train")
def generators_train(dataset: str, budget: float = 150, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Fine-tunes on the rare classes."""
    ask("/v1/generators", {"dataset": dataset, "budget_s": budget}, state, no_wait, as_json)


@generators.command("promote")
def generators_promote(dataset: str, version: int, state: StateDir = DEFAULT_STATE, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Makes a version the champion."""
    ask(f"/v1/generators/{dataset}/champion", {"version": version}, state, no_wait, as_json)


@batches.command("create")
def batches_create(
    dataset: str, class_name: str, count: int = 16, mode: str = "inpaint", novelty: float | None = None, state: StateDir = DEFAULT_STATE,
    no_wait: NoWait = False, as_json: AsJson = False,
) -> None:
    """Makes samples of a class; publish them with `longtail batches publish`."""
    body = {"dataset": dataset, "class_name": class_name, "count": count, "mode": mode, "novelty": novelty}
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


def client(state: Path) -> Client:
    """A client of the stack with that state directory."""
    settings = settings_of(state)
    return Client(settings.api_url, settings.api_key)


def settings_of(state: Path) -> Settings:
    settings = Settings.of_running_stack(state.resolve())
    if not settings.api_url:
        raise NotReady("no stack runs with this state directory; start it with `longtail up`, or set --state")
    return settings


def ask(path: str, body: dict[str, Any], state: Path, no_wait: bool, as_json: bool) -> None:
    with refusals():
        served = client(state)
        job = served.post(path, body)
        emit(job if no_wait else follow(served, job["job"], quiet=as_json), as_json)


def follow(served: Client, job: str, *, quiet: bool) -> dict[str, Any]:
    """The job's result, a progress bar meanwhile. Raises JobFailed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task(job, total=1.0)
        for event in served.events(job):
            if event["kind"] == "progress":
                bar.update(task, completed=event.get("progress"), description=str(event.get("message", ""))[:70])
    row = served.wait(job, timeout_s=10)
    result: dict[str, Any] = row["result"] or {}
    return result


def emit(found: dict[str, Any], as_json: bool, text: str | None = None) -> None:
    sys.stdout.write((json.dumps(found) if as_json or text is None else text) + "\n")


class refusals:
    """Turns errors into one line and a stable exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiProblem | JobFailed | LongtailError):
            console.print(f"[red]{error.code}[/]: {error}")
            raise typer.Exit(EXIT_UNREACHABLE if isinstance(error, NotReady) else EXIT_FAILED)
        if error is not None and type(error).__module__.startswith("httpx"):
            console.print(f"[red]unreachable[/]: {error}; is `longtail up` running?")
            raise typer.Exit(EXIT_UNREACHABLE)


if __name__ == "__main__":
    app()
