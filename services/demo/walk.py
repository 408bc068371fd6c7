"""The demo: the whole job on real images, step by step through the public API, ending with a report."""

from __future__ import annotations

import base64
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.embedded import Stack
from infra.objects import Objects
from infra.registry import CHAMPION, Registry
from infra.settings import Settings
from longtail.client import Client
from longtail.errors import LongtailError, NotReady
from services.demo.packs import upload
from services.demo.report import write_report

BUCKET = "team-data"
RARE = {"Platelets": 40, "WBC": 24}


@dataclass(frozen=True)
class Setting:
    """How long, how many. The same path in every setting."""

    budget_s: float = 130
    batch: dict[str, int] = field(default_factory=lambda: dict(RARE))
    novelty: float = 0.25
    steps: int = 450
    seeds: tuple[int, ...] = (0, 1, 2)
    wait_for_clock_s: float = 70

    @classmethod
    def quick(cls) -> Setting:
        return cls(budget_s=6, batch={"Platelets": 6, "WBC": 3}, steps=10, seeds=(0, 1))


class Walk:
    """One run of the demo: remembers what each step found and how long it took."""

    def __init__(self, client: Client, settings: Settings, setting: Setting, console: Console) -> None:
        self.client, self.settings, self.setting, self.console = client, settings, setting, console
        self.seconds: dict[str, float] = {}
        self.found: dict[str, Any] = {}

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Times a step and says so when it is done."""
        started = time.monotonic()
        self.console.print(f"[bold]{title}[/]")
        yield
        self.seconds[title] = time.monotonic() - started
        self.console.print(f"  done in {self.seconds[title]:.1f} s")

    def job(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Asks for a job and follows it with a progress bar; its result."""
        job = self.client.post(path, body)["job"]
        columns = (TextColumn("  {task.description:60s}"), BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("queued", total=1.0)
            for event in self.client.events(job):
                if event["kind"] == "progress":
                    bar.update(task, completed=event.get("progress"), description=str(event.get("message", ""))[:60])
        result: dict[str, Any] = self.client.wait(job, timeout_s=30)["result"] or {}
        return result


def run_demo(state: Path, out: Path, *, setting: Setting, console: Console) -> Path:
    """Starts a stack of its own, walks, writes the report, ends the stack. Returns the report's path."""
    started = time.monotonic()
    stack = Stack(state, say=lambda line: console.print(f"  {line}"))
    signal.signal(signal.SIGTERM, interrupt)
    console.print("[bold]starting the stack[/] (S3, MLflow, Ray, worker, API)")
    settings = stack.start()
    watching = threading.Thread(target=stack.watch, daemon=True)
    watching.start()
    try:
        walk = Walk(Client(settings.api_url, settings.api_key), settings, setting, console)
        walk.seconds["start the stack"] = time.monotonic() - started
        run_steps(walk)
        walk.seconds["in all"] = time.monotonic() - started
        report = write_report(out, walk.found, walk.seconds)
    finally:
        stack.stop()
    show_timing(console, walk.seconds)
    console.print(f"\nthe report: [bold]{report.resolve()}[/]\nthe stack's data stays in {state.resolve()}; `longtail up --state {state}` finds it again")
    return report


def interrupt(_signal: int, _frame: object) -> None:
    """`longtail down` ends a demo as Ctrl-C does."""
    raise KeyboardInterrupt


def run_steps(walk: Walk) -> None:
    name = register(walk)
    schedule(walk, name)
    train(walk, name)
    promote_in_mlflow(walk, name)
    preview(walk, name)
    generate(walk, name)
    publish(walk, name)
    measure(walk, name)
    move_and_export(walk, name)
    look_at_the_clock(walk)
    make_again(walk)


def register(walk: Walk) -> str:
    """Two packs put in a bucket as a team would have them, and registered as they lie."""
    with walk.step("put two real datasets in a bucket and register them as they lie"):
        objects = Objects(walk.settings, bucket=BUCKET)
        objects.ensure_bucket()
        names = {d["id"] for d in walk.client.get("/v1/datasets")["items"]}
        run = next(f"{i:03d}" for i in range(1, 1000) if f"bccd-{i:03d}" not in names)
        for pack in ("bccd", "noto"):
            upload(objects, pack, f"s3://{BUCKET}/{run}/{pack}")
        name = f"bccd-{run}"
        walk.found["registered"] = walk.job("/v1/datasets", {"name": name, "uri": f"s3://{BUCKET}/{run}/bccd"})
        walk.found["noto"] = walk.job("/v1/datasets", {"name": f"noto-{run}", "uri": f"s3://{BUCKET}/{run}/noto"})
        walk.found["name"], walk.found["noto_name"] = name, f"noto-{run}"
        walk.found["health"] = walk.client.get(f"/v1/datasets/{name}/health")
        walk.console.print("  " + counts_line(walk.found["health"]))
    return name


def counts_line(health: dict[str, Any]) -> str:
    return ", ".join(f"{c['name']} {c['own']}{' (rare)' if c['rare'] else ''}" for c in health["classes"])


def schedule(walk: Walk, name: str) -> None:
    """An expansion with a cron line: every minute, to two platelets more than there are, by copy-paste."""
    with walk.step("create a scheduled expansion (every minute)"):
        now = next(c["instances"]["train"] for c in walk.found["health"]["classes"] if c["name"] == "Platelets")
        body = {"dataset": name, "targets": {"Platelets": now + 2}, "cron": "* * * * *", "mode": "copy_paste", "max_images": 10}
        walk.found["expansion"] = walk.client.post("/v1/expansions", body)


def train(walk: Walk, name: str) -> None:
    with walk.step("fine-tune the tiny generator on the rare classes"):
        walk.found["trained"] = walk.job("/v1/generators", {"dataset": name, "budget_s": walk.setting.budget_s})
        for gate in walk.found["trained"]["gates"]:
            figure = "     --" if gate["figure"] is None else f"{gate['figure']:7.3f}"
            walk.console.print(f"  {gate['name']:18s} {gate['class_name']:10s} {figure}  {gate['threshold']:34s} {gate['verdict']}")


def promote_in_mlflow(walk: Walk, name: str) -> None:
    """The champion is moved in MLflow itself, while previews are asked for without a pause."""
    with walk.step("move `champion` in MLflow; serving swaps under load"):
        version = walk.found["trained"]["generator"]
        stop, failures, answers = threading.Event(), [], []

        def load() -> None:
            while not stop.is_set():
                try:
                    body = {"dataset": name, "class_name": "Platelets", "count": 1, "novelty": 0.1}
                    answers.append(walk.client.post("/v1/previews", body)["generator"])
                except LongtailError as error:
                    failures.append(str(error))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            Registry(walk.settings.mlflow_url).client.set_registered_model_alias(name, CHAMPION, str(version))
            wait_until(lambda: walk.client.get(f"/v1/datasets/{name}")["serving"] == version, 60, "the swap")
            wait_until(lambda: bool(answers) and answers[-1] == version, 30, "an answer by the new champion")
        finally:
            stop.set()
            loading.join()
        noticed = walk.client.get(f"/v1/datasets/{name}/promotions")["items"][-1]
        walk.found["swap"] = {"previews": len(answers), "failed": failures, "noticed": noticed}
        walk.console.print(f"  {len(answers)} previews during the swap, {len(failures)} failed; noticed by {noticed['who']}")


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise NotReady(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.2)


def preview(walk: Walk, name: str) -> None:
    with walk.step("previews: inpaint at four novelties, copy-paste, and synthesis for the emoji"):
        shown: dict[str, list[dict[str, Any]]] = {}
        for class_name in walk.setting.batch:
            for novelty in (0.0, 0.25, 0.5, 1.0):
                body = {"dataset": name, "class_name": class_name, "count": 4, "novelty": novelty, "seed": 3}
                shown[f"{class_name}, novelty {novelty:g}"] = walk.client.post("/v1/previews", body)["items"]
            body = {"dataset": name, "class_name": class_name, "count": 4, "mode": "copy_paste", "seed": 3}
            shown[f"{class_name}, copy-paste"] = walk.client.post("/v1/previews", body)["items"]
        body = {"dataset": walk.found["noto_name"], "class_name": "animals", "count": 4, "mode": "synthesis", "novelty": 0.2, "seed": 3}
        shown["emoji: animals, synthesis by the foundation, novelty 0.2"] = walk.client.post("/v1/previews", body)["items"]
        walk.found["previews"] = shown


def generate(walk: Walk, name: str) -> None:
    with walk.step("generate and filter a batch for each rare class"):
        walk.found["batches"] = []
        for class_name, count in walk.setting.batch.items():
            body = {"dataset": name, "class_name": class_name, "count": count, "novelty": walk.setting.novelty}
            made = walk.job("/v1/batches", body)
            walk.found["batches"].append(made)
            walk.console.print(f"  {class_name}: {made['accepted']} of {made['made']} passed the filters; rejected: {made['rejected'] or 'none'}")


def publish(walk: Walk, name: str) -> None:
    with walk.step("publish them as a new version"):
        first, *others = [b["batch"] for b in walk.found["batches"]]
        walk.found["published"] = walk.job(f"/v1/batches/{first}/publish", {"also": others})
        version = walk.found["published"]["version"]
        walk.found["health_after"] = walk.client.get(f"/v1/datasets/{name}/health", version=version)
        walk.console.print(f"  version {version}: " + counts_line(walk.found["health_after"]))


def measure(walk: Walk, name: str) -> None:
    with walk.step("measure: a detector with and without the addition"):
        body = {
            "dataset": name, "base": 1, "candidate": walk.found["published"]["version"], "steps": walk.setting.steps,
            "seeds": list(walk.setting.seeds), "arms": ["real", "longtail"], "shares": [],
        }  # fmt: skip
        walk.found["uplift"] = walk.job("/v1/evaluations", body)
        for row in walk.found["uplift"]["table"]:
            low, high = row["interval"]
            walk.console.print(f"  {row['figure']:16s} {row['reference']:.3f} -> {row['arm']:.3f}  [{low:+.3f}, {high:+.3f}]  {row['says']}")


def move_and_export(walk: Walk, name: str) -> None:
    with walk.step("roll `latest` back and forth, and export as COCO and YOLO"):
        version = walk.found["published"]["version"]
        path = f"/v1/datasets/{name}/latest"
        walk.client.post(path, {"version": version, "accept_unproven": True})
        walk.found["rolled_back"] = walk.client.post(path, {"version": 1})
        walk.found["latest"] = walk.client.post(path, {"version": version, "accept_unproven": True})
        walk.found["exports"] = {
            f: walk.job(f"/v1/datasets/{name}/versions/{version}/exports", {"format": f})["uri"] for f in ("coco", "yolo")
        }
        streamed = sum(len(c) for c in walk.client.download(f"/v1/datasets/{name}/versions/{version}/archive", format="yolo"))
        walk.found["archive_bytes"] = streamed


def look_at_the_clock(walk: Walk) -> None:
    """What the clock did meanwhile; and by hand: nothing, since its targets are met."""
    with walk.step("look at the scheduled expansion, and run it by hand"):
        key = walk.found["expansion"]["id"]
        wait_until(lambda: bool(walk.client.get(f"/v1/expansions/{key}")["runs"]), walk.setting.wait_for_clock_s, "the clock's first tick")
        by_hand = walk.job(f"/v1/expansions/{key}/run", {})
        walk.found["runs"] = walk.client.get(f"/v1/expansions/{key}")["runs"]
        walk.found["by_hand"] = by_hand
        walk.client.delete(f"/v1/expansions/{key}")
        walk.console.print(f"  {len(walk.found['runs'])} run(s); by hand it did {by_hand['did']}")


def make_again(walk: Walk) -> None:
    with walk.step("make one sample again from its record"):
        batch = walk.found["batches"][0]["batch"]
        samples = walk.client.get(f"/v1/batches/{batch}/samples")["items"]
        chosen = next((s for s in samples if s["state"] == "accepted"), samples[0])
        walk.found["sample"] = walk.client.get(f"/v1/samples/{chosen['id']}")
        walk.found["again"] = walk.client.post(f"/v1/samples/{chosen['id']}/regenerate")
        image = walk.client.http.get(f"/v1/samples/{chosen['id']}/image")
        walk.found["sample_image"] = base64.b64encode(image.content).decode()
        walk.found["pictures"] = {
            b["batch"]: walk.client.get(f"/v1/batches/{b['batch']}/pictures", limit=64)["items"] for b in walk.found["batches"]
        }
        walk.console.print(f"  identical: {walk.found['again']['identical']}")
        walk.found["generators"] = walk.client.get(f"/v1/generators/{walk.found['name']}")


def show_timing(console: Console, seconds: dict[str, float]) -> None:
    table = Table("step", "seconds", title="how long it took")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.1f}")
    console.print(table)
