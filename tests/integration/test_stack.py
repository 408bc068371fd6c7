"""The embedded stack itself: one at a time, its data found again, its children ended, a part that dies started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from infra.embedded import Stack, healthy, running_pid
from infra.objects import Objects
from infra.settings import Settings
from longtail.errors import Conflict

pytestmark = pytest.mark.long


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "services.cli.main", "up", "--state", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=heed_ctrl_c)


def heed_ctrl_c() -> None:
    """A shell has its background jobs ignore Ctrl-C, and these tests with them; a person's terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_up(folder: Path, process: subprocess.Popen[bytes]) -> Settings:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None
        if running_pid(folder) != process.pid:  # the addresses that lie there are an older stack's
            time.sleep(0.1)
            continue
        settings = Settings.of_running_stack(folder)
        try:
            httpx.get(f"{settings.api_url}/health/ready", timeout=15).raise_for_status()
            return settings
        except httpx.HTTPError:
            time.sleep(0.5)
    raise TimeoutError("the stack did not come up")


def test_ctrl_c_ends_every_child_and_a_second_start_finds_the_data(tmp_path):
    first = start(tmp_path)
    settings = wait_up(tmp_path, first)
    Objects(settings).write("s3://longtail/kept.txt", b"kept")
    assert running_pid(tmp_path) == first.pid
    children = psutil.Process(first.pid).children(recursive=True)
    started = time.monotonic()
    first.send_signal(signal.SIGINT)
    first.wait(15)
    assert time.monotonic() - started < 10
    _, alive = psutil.wait_procs(children, timeout=1)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    second = start(tmp_path)
    try:
        again = wait_up(tmp_path, second)
        assert again.api_key == settings.api_key
        assert Objects(again).read("s3://longtail/kept.txt") == b"kept"
        with pytest.raises(Conflict, match="running already"):
            Stack(tmp_path).start()
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(15)


def test_a_killed_supervisor_leaves_nothing_that_the_next_start_trips_over(tmp_path):
    first = start(tmp_path)
    settings = wait_up(tmp_path, first)
    Objects(settings).write("s3://longtail/kept.txt", b"kept")
    left = psutil.Process(_pid_of(tmp_path, "s3"))
    first.kill()
    first.wait(10)
    assert left.is_running()
    second = start(tmp_path)
    try:
        again = wait_up(tmp_path, second)
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
        assert Objects(again).read("s3://longtail/kept.txt") == b"kept"
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(15)


def test_a_part_that_keeps_dying_is_named_after_three_restarts(tmp_path):
    process = start(tmp_path)
    try:
        wait_up(tmp_path, process)
        for _ in range(4):
            victim = _pid_of(tmp_path, "worker")
            os.kill(victim, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and process.poll() is None and _pid_of(tmp_path, "worker") == victim:
                time.sleep(0.1)
        assert process.wait(30) != 0
    finally:
        if process.poll() is None:
            process.kill()


def _pid_of(folder: Path, part: str) -> int:
    return int(json.loads((folder / "pids.json").read_text())[part])


def test_down_ends_a_demo_and_all_its_children(tmp_path):
    command = [sys.executable, "-m", "services.cli.main", "demo", "--quick", "--state", str(tmp_path / "state"), "--out", str(tmp_path / "out")]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_up(tmp_path / "state", demo)
    children = psutil.Process(demo.pid).children(recursive=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "services.cli.main", "down", "--state", str(tmp_path / "state")], check=True, timeout=30)
    assert demo.wait(15) == 1
    assert time.monotonic() - started < 15
    _, alive = psutil.wait_procs(children, timeout=1)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_a_part_that_does_not_answer_after_a_restart_is_said_and_tried_again(tmp_path):
    """The API's port is taken while it is dead: it ends again at once, and comes back when the port is free."""
    said: list[str] = []
    stack = Stack(tmp_path, say=said.append)
    settings = stack.start()
    watcher = threading.Thread(target=stack.watch, daemon=True)
    try:
        stack.running["api"].process.kill()
        stack.running["api"].process.wait()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", settings.api_port))
            taken.listen()
            watcher.start()
            deadline = time.monotonic() + 60
            while not any("while starting" in line for line in said) and time.monotonic() < deadline:
                time.sleep(0.1)
        assert any("api ended with code" in line for line in said)
        deadline = time.monotonic() + 60
        while not healthy(stack.running["api"].part) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert healthy(stack.running["api"].part)
    finally:
        stack.stop()
