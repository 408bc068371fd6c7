"""The demo's time, the peak memory of all its processes, the API's import, and warm previews.

    python -m benchmarks.demo [--quick]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import README, Figure, save, write_between
from infra.embedded import Stack
from longtail.client import Client

IMPORT = """
import sys, time
started = time.perf_counter()
from services.api.app import create_app
from infra.settings import Settings
create_app(Settings())
print(time.perf_counter() - started, "torch" in sys.modules)
"""
PREVIEWS = 15
UPLIFT = "uplift of"
KEPT = Path("out") / "bench-demo"
"""Where the measured run's report stays."""


def main() -> None:
    quick = "--quick" in sys.argv
    figures = [*measure_import(), *measure_demo(quick)]
    save("demo", figures, quick=quick)
    if not quick:
        shutil.copy(KEPT / "dial.png", README.parent / "docs" / "picture.png")
        shown = [row(f) for f in figures if not f.name.startswith("step: ")]
        write_between(README, "figures", "\n".join(["| what | figure |", "| --- | --- |", *shown]))


def row(figure: Figure) -> str:
    """A line of the README's table."""
    sign = "+" if figure.name.startswith(UPLIFT) else ""
    spread = f", {figure.spread[0]:{sign}.2f} to {figure.spread[1]:{sign}.2f}" if figure.spread else ""
    target = f" (target {figure.target})" if figure.target else ""
    return f"| {figure.name.replace('_', ' ')} | {figure.value:{sign}.3g} {figure.unit}{spread}{target} |".replace(" ,", ",")


def measure_import() -> list[Figure]:
    """Five fresh processes; the first warms the disk cache and is not counted."""
    seconds, torch = [], False
    for _ in range(6):
        out = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout.split()
        seconds.append(float(out[0]))
        torch = torch or out[1] == "True"
    counted = sorted(seconds[1:])
    return [
        Figure("api_import", counted[2], "s", "< 2", counted[2] < 2, (counted[0], counted[-1])),
        Figure("api_import_pulls_in_torch", float(torch), "0 or 1", "0", not torch),
    ]


def measure_demo(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "services.cli.main", "demo", "--state", f"{folder}/state", "--out", str(out), *(["--quick"] if quick else [])]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak = PeakMemory(process.pid)
        code = process.wait()
        seconds = time.monotonic() - started
        peak.stop()
        if code:
            raise SystemExit(f"the demo ended with code {code}")
        shutil.copytree(out, KEPT, dirs_exist_ok=True)
        report = json.loads((out / "report.json").read_text())
        previews = measure_previews(Path(folder) / "state", report["name"])
    figures = [
        Figure("demo", seconds, "s", "<= 480", seconds <= 480),
        Figure("peak_memory_pss", peak.gigabytes, "GB", "< 6", peak.gigabytes < 6),
        Figure("previews_8_at_64px_warm", previews[len(previews) // 2], "s", "< 1", previews[len(previews) // 2] < 1, (previews[0], previews[-1])),
    ]
    return [*figures, *map(uplift, report["uplift"]["table"]), *(Figure(f"step: {name}", value, "s") for name, value in report["seconds"].items())]


def uplift(line: dict[str, Any]) -> Figure:
    """What the addition did to one figure of the reference detector: the difference of means with its 95 % interval."""
    real, grown = line["reference"], line["arm"]
    name = f"{UPLIFT} {line['figure']}: {real:.3f} without, {grown:.3f} with; **{line['says']}**"
    return Figure(name, grown - real, "", spread=(line["interval"][0], line["interval"][1]))


def measure_previews(state: Path, dataset: str) -> list[float]:
    """Sorted seconds of warm requests for eight inpainted samples, over HTTP, on the stack the demo left."""
    stack = Stack(state, say=lambda line: None)
    settings = stack.start()
    try:
        client = Client(settings.api_url, settings.api_key)
        body = {"dataset": dataset, "class_name": "Platelets", "count": 8, "novelty": 0.25}
        seconds = []
        for _ in range(PREVIEWS + 3):
            started = time.perf_counter()
            client.post("/v1/previews", body)
            seconds.append(time.perf_counter() - started)
        return sorted(seconds[3:])
    finally:
        stack.stop()


class PeakMemory:
    """The largest sum of proportional set sizes of a process and all below it, sampled each second."""

    def __init__(self, pid: int) -> None:
        self.root, self.gigabytes, self.ended = psutil.Process(pid), 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(1):
            total = 0
            for process in self._all():
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.gigabytes = max(self.gigabytes, total / 1e9)

    def _all(self) -> list[psutil.Process]:
        try:
            return [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return []

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()


if __name__ == "__main__":
    main()
