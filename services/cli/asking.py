"""What every command has in common: its options, the client of the running stack, following a job, and errors as one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from infra.settings import Settings
from longtail.client import ApiProblem, Client, JobFailed
from longtail.errors import LongtailError, NotReady

console = Console(stderr=True)
StateDir = Annotated[Path, typer.Option("--state", envvar="LONGTAIL_STATE_DIR", help="where the stack keeps everything")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON alone")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="return as soon as the job is queued")]
DEFAULT_STATE = Path(".longtail")
EXIT_FAILED, EXIT_UNREACHABLE = 1, 3


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
        emit(job if no_wait or "job" not in job else follow(served, job["job"], quiet=as_json), as_json)


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
