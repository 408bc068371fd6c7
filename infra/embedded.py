"""The whole stack on one machine, in the foreground: start in order, wait for health, restart what dies, stop it all."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra import parts
from infra.objects import Objects
from infra.parts import Part
from infra.ports import claim, free_ports, is_free, release
from infra.settings import Settings
from longtail.errors import Conflict, NotReady

MAX_RESTARTS = 3
FORGOTTEN_S = 600.0
"""A part that has lived this long since it was last started may die as often again."""
STOP_S = 6.0


@dataclass
class Running:
    """A part's process and how often it had to be started again."""

    part: Part
    process: subprocess.Popen[bytes]
    restarts: int = 0
    below: list[psutil.Process] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


class Stack:
    """Supervises the parts. State, logs and addresses lie under one directory, found again by a second start."""

    def __init__(
        self, state_dir: Path, *, api_port: int | None = None, num_cpus: int | None = None, database: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        """`database` is the start of a PostgreSQL url (postgresql+psycopg://user:password@host:port) with the databases
        longtail, durable and mlflow; SQLite files in the state directory without it."""
        self.folder = state_dir.resolve()
        self.say = say
        self.api_port = api_port
        self.database = database
        self.num_cpus = num_cpus or os.cpu_count() or 1
        self.running: dict[str, Running] = {}
        self.failed: str | None = None
        self.ports: dict[str, int] = {}
        self.stopping = threading.Event()

    def run(self, *, on_ready: Callable[[Settings], None] | None = None) -> None:
        """Starts everything and stays until told to stop; raises NotReady, naming the part, if one will not live."""
        self.start()
        try:
            if on_ready:
                on_ready(self.settings)
            self.watch()
        finally:
            self.stop()

    def start(self) -> Settings:
        """Starts each part and waits for it; returns where everything is."""
        secret, ports = self._begin(), self.ports
        try:
            self._storage()
            self._start(
                parts.mlflow(
                    self.settings, port=ports["mlflow"], backend=self._database("mlflow"), encryption_key=secret["encryption_key"]
                )
            )
            self._start(parts.ray(
                    port=ports["ray"], client_port=ports["ray_client"], agent_port=ports["ray_agent"], num_cpus=self.num_cpus,
                    folder=self._short_folder(), token=self.settings.ray_token,
                ))
            for name in ("ray", "mlflow"):
                self._wait(name)
            self._start(parts.worker())
            self._start(parts.api(self.settings))
            self._wait("api")
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self.settings

    def start_storage(self) -> Settings:
        """Starts the S3 server alone, for what needs no more."""
        self._begin()
        try:
            self._storage()
        except BaseException:
            self.stop()
            raise
        return self.settings

    def _begin(self) -> dict[str, str]:
        self._claim()
        self.settings, secret = self._settings()
        return secret

    def _storage(self) -> None:
        self._start(parts.s3(self.settings, ports=self.ports, folder=self.folder / "s3"))
        self._wait("s3")
        self._bucket()

    def watch(self) -> None:
        """Restarts parts that die, three times each; returns when asked to stop."""
        while not self.stopping.wait(0.5):
            for name in list(self.running):
                running = self.running[name]
                code = running.process.poll()
                if code is None or self.stopping.is_set():
                    continue
                if time.monotonic() - running.started > FORGOTTEN_S:
                    running.restarts = 0
                if running.restarts >= MAX_RESTARTS:
                    raise NotReady(f"{name} died {running.restarts + 1} times (last with code {code}); see {self.folder / 'logs' / name}.log")
                self.say(f"{name} died with code {code}; starting it again ({running.restarts + 1} of {MAX_RESTARTS})")
                end(running.below)  # a head that was killed leaves servers behind that hold its ports
                drivers = ["worker", "api"] if name == "ray" else []
                for driver in drivers:  # what a driver asked of the old head never comes
                    _signal_group(self.running[driver].process, signal.SIGKILL)
                    self.running[driver].process.wait()
                self._start(running.part, restarts=running.restarts + 1)
                if name != "worker":
                    self._wait_again(name)
                for driver in drivers:
                    self._start(self.running[driver].part, restarts=self.running[driver].restarts)

    def _wait_again(self, name: str) -> None:
        """Waits for a part that was started again; one that dies at once is found dead by the next look, and counted."""
        try:
            self._wait(name)
        except NotReady as error:
            self.say(str(error))

    def stop(self) -> None:
        """Ends every child and its children: politely first, then by force, within ten seconds."""
        self.stopping.set()
        below = [child for running in self.running.values() for child in descendants(running.process.pid)]
        for name in ("api", "worker", "ray", "mlflow", "s3"):
            if name in self.running:
                _signal_group(self.running[name].process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for running in self.running.values():
            try:
                running.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
        for running in self.running.values():
            _signal_group(running.process, signal.SIGKILL)
            running.process.wait()
        end(below)  # Ray's workers lead process groups of their own
        psutil.wait_procs(below, timeout=1)
        self.running.clear()
        release(self.ports.values())
        (self.folder / "stack.pid").unlink(missing_ok=True)

    def _claim(self) -> None:
        for name in ("logs", "s3"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        pid_file = self.folder / "stack.pid"
        if (pid := running_pid(self.folder)) is not None:
            raise Conflict(f"a stack with this state directory is running already (pid {pid}); stop it with `longtail down`")
        end_leftovers(self.folder)
        write_whole(pid_file, json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}))

    def _settings(self) -> tuple[Settings, dict[str, str]]:
        file = self.folder / "secrets.json"
        secret: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        made = {n: secrets.token_urlsafe(24) for n in ("api_key", "s3_access_key", "s3_secret_key", "webhook_secret", "ray_token")}
        made["encryption_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if made.keys() - secret.keys():  # an older stack's file lacks what came since
            secret = made | secret
            write_whole(file, json.dumps(secret))
        if self.api_port and not (is_free(self.api_port) and claim(self.api_port)):
            raise Conflict(f"port {self.api_port} is taken; choose another with --port")
        self.ports = free_ports(("s3", "master", "volume", "filer", "mlflow", "ray", "ray_client", "ray_agent"))
        self.ports["api"] = api_port = self.api_port or free_ports(("api",), start=8080)["api"]
        settings = Settings(
            state_dir=self.folder,
            s3_endpoint=f"127.0.0.1:{self.ports['s3']}",
            s3_access_key=secret["s3_access_key"],
            s3_secret_key=secret["s3_secret_key"],
            database_url=self._database("longtail"),
            durable_url=self._database("durable"),
            mlflow_url=f"http://127.0.0.1:{self.ports['mlflow']}",
            mlflow_public_url=f"http://127.0.0.1:{self.ports['mlflow']}",
            ray_address=f"127.0.0.1:{self.ports['ray']}",
            ray_token=secret["ray_token"],
            api_port=api_port,
            api_url=f"http://127.0.0.1:{api_port}",
            api_key=secret["api_key"],
            webhook_secret=secret["webhook_secret"],
        )
        write_whole(self.folder / "stack.json", settings.model_dump_json(indent=2))
        return settings, secret

    def _database(self, name: str) -> str:
        return f"{self.database}/{name}" if self.database else f"sqlite:///{self.folder / name}.db"

    def _short_folder(self) -> Path:
        """Ray's sockets need a short path, so its scratch lies in /tmp, named after the state directory."""
        return Path("/tmp") / f"longtail-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"

    def _start(self, part: Part, *, restarts: int = 0) -> None:
        log = (self.folder / "logs" / f"{part.name}.log").open("ab")
        environment = {**os.environ, **parts.QUIET, **self.settings.environment(), **part.environment}
        process = subprocess.Popen(part.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        log.close()
        self.running[part.name] = Running(part, process, restarts)
        write_whole(self.folder / "pids.json", json.dumps({n: r.process.pid for n, r in self.running.items()}))

    def _wait(self, name: str) -> None:
        running = self.running[name]
        deadline = time.monotonic() + running.part.timeout_s
        while not healthy(running.part):
            if running.process.poll() is not None:
                raise NotReady(f"{name} ended with code {running.process.returncode} while starting; see {self.folder / 'logs' / name}.log")
            if time.monotonic() > deadline:
                raise NotReady(f"{name} did not answer within {running.part.timeout_s:.0f} s; see {self.folder / 'logs' / name}.log")
            time.sleep(0.1)
        running.below = descendants(running.process.pid)
        self.say(f"{name:7s} ready after {time.monotonic() - running.started:.1f} s")

    def _wait_ready(self) -> None:
        """Waits until the API says that worker and generators answer too."""
        part = Part("worker", (), url=f"{self.settings.api_url}/health/ready")
        deadline = time.monotonic() + part.timeout_s
        while not healthy(part):
            if self.running["worker"].process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"the worker did not come up; see {self.folder / 'logs' / 'worker.log'}")
            time.sleep(0.2)
        self.say(f"worker  ready after {time.monotonic() - self.running['worker'].started:.1f} s")

    def _bucket(self) -> None:
        objects = Objects(self.settings)
        for attempt in range(40):
            try:
                objects.ensure_bucket()
                return
            except Exception:
                if attempt == 39:
                    raise
                time.sleep(0.25)


def running_pid(folder: Path) -> int | None:
    """Process id of the supervisor whose state this is, None if it is not running."""
    try:
        claimed = json.loads((folder / "stack.pid").read_text())
        same = abs(psutil.Process(claimed["pid"]).create_time() - claimed["started"]) < 1  # and not another that got its number
        return int(claimed["pid"]) if same and claimed["pid"] != os.getpid() else None
    except (OSError, ValueError, TypeError, KeyError, psutil.Error):
        return None


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def end(processes: list[psutil.Process]) -> None:
    """Kills those that still run."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def end_leftovers(folder: Path) -> None:
    """Kills the parts of a supervisor that was itself killed: two servers must never share one data directory."""
    file = folder / "pids.json"
    if not file.exists():
        return
    for pid in json.loads(file.read_text()).values():
        try:
            process = psutil.Process(pid)
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(word in " ".join(command) for word in ("weed", "mlflow", "ray", "services.")):
            end([*descendants(pid), process])
    file.unlink()


def healthy(part: Part) -> bool:
    """True once the part's url answers, or its port accepts."""
    if part.url is None:
        return part.port is None or not is_free(part.port)
    try:
        with urllib.request.urlopen(part.url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, urllib.error.URLError):
        return False


def write_whole(file: Path, text: str) -> None:
    """Writes a file of the state directory for its owner alone; who reads it meanwhile, or after a kill, finds what was there or what comes, never a part."""
    coming = file.with_name(f"{file.name}.part")
    coming.unlink(missing_ok=True)
    coming.touch(mode=0o600)
    coming.write_text(text)
    coming.replace(file)


def _signal_group(process: subprocess.Popen[bytes], what: signal.Signals) -> None:
    try:
        os.killpg(process.pid, what)
    except ProcessLookupError:
        pass
