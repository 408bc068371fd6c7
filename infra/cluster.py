"""Ray: torch work by name. The caller never imports torch; the Ray worker imports what the name says.

Ray itself is imported where it is used, so that a process that only might need it starts without waiting for it.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import subprocess
import time
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from infra.parts import binary
from infra.settings import Settings
from longtail.errors import Cancelled, LongtailError, NotReady

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.exceptions import RayTaskError

log = logging.getLogger("longtail.cluster")
NAMESPACE = "longtail"
SERVER = "generators"
SERVING = "serving"
"""A resource that only the head has: the serving actor must not lie in the container of an API or a worker."""
JOIN_S = 60
MOMENT_S = 1.0
"""Tasks that fail of the same cause fail together."""
LOST = 3
"""Exit code of a process whose cluster is gone."""


class Cluster:
    """A connection to the cluster, opened on first use.

    A driver whose cluster is gone does not notice: what it waits for never comes. So whoever starts Ray's head anew
    starts its drivers anew, and a container's driver ends with the node that it joined as; both are then started again.
    """

    def __init__(self, settings: Settings) -> None:
        """Before Ray is imported, which reads then what it is to show the head."""
        self.settings = settings
        self.lock = Lock()
        if settings.ray_token:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=settings.ray_token)

    def connect(self) -> None:
        import ray

        with self.lock:
            if ray.is_initialized():
                return
            if self.settings.ray_join:
                join(self.settings.ray_address)
            deadline = time.monotonic() + (JOIN_S if self.settings.ray_join else 0)
            while True:
                try:
                    ray.init(address=self.settings.ray_address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
                    return
                except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                    if time.monotonic() > deadline:
                        raise NotReady(f"Ray at {self.settings.ray_address} does not answer ({type(error).__name__})") from error
                    time.sleep(1)

    def run(self, name: str, payload: dict[str, Any], *, cpus: float = 1, use_gpu: bool = False) -> Any:
        """The result of the named function of `trainers` on a Ray worker; a worker that is killed is replaced, thrice.

        `name` is "module:function". A GPU is asked for where `use_gpu` and the cluster has one. Raises the function's
        own LongtailError.
        """
        return self.run_all(name, [payload], cpus=cpus, use_gpu=use_gpu)[0]

    def run_all(self, name: str, payloads: list[dict[str, Any]], *, cpus: float = 1, use_gpu: bool = False) -> list[Any]:
        """The results of the named function for each payload, in order, side by side where there is room; as `run` otherwise."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        self.connect()
        gpus = 1 if use_gpu and ray.cluster_resources().get("GPU", 0) >= 1 else 0
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3, retry_exceptions=False)(call)
        asked = [task.remote(name, payload, self.settings.environment()) for payload in payloads]
        try:
            return ray.get(asked)
        except RayTaskError as error:
            call_off(asked)
            raise own_error(error) from error
        except RayError:
            call_off(asked)
            raise

    def cpus(self) -> int:
        """How many cores the whole cluster has."""
        import ray

        self.connect()
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def start_server(self, name: str) -> None:
        """Has one actor of the named class serve generators, restarted by Ray whenever it dies."""
        import ray

        self.connect()
        module, _, attribute = name.partition(":")
        options = {
            "name": SERVER, "lifetime": "detached", "get_if_exists": True, "max_restarts": -1, "max_task_retries": 3, "num_cpus": 0,
            "resources": {SERVING: 0.001},
        }  # fmt: skip
        actor = ray.remote(ServerLoader).options(**options).remote(module, attribute, self.settings.environment())
        ray.get(actor.call.remote("ready", {}))

    def ask_server(self, method: str, payload: dict[str, Any], *, timeout_s: float = 60) -> Any:
        """What the serving actor's method answers. Raises NotReady where it is not up, or its own LongtailError."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            self.connect()
            actor: ActorHandle[Any] = ray.get_actor(SERVER, namespace=NAMESPACE)
            return ray.get(actor.call.remote(method, payload), timeout=timeout_s)
        except RayTaskError as error:
            raise own_error(error) from error
        except (RayError, ValueError, ConnectionError) as error:
            raise NotReady(f"the generator server is not up yet ({type(error).__name__}); try again in a few seconds") from error

    def ready(self) -> bool:
        try:
            return bool(self.ask_server("ready", {}, timeout_s=5))
        except NotReady:
            return False


def join(address: str) -> None:
    """Makes this container a node of the cluster, with no cores of its own: a driver needs a node beside it.

    When that node ends, as it does when the head is gone, this process ends too, to be started again.
    """
    command = [
        binary("ray"), "start", f"--address={address}", "--num-cpus=0", "--num-gpus=0", "--object-store-memory=100000000", "--disable-usage-stats",
        "--block",
    ]  # fmt: skip
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ending = Event()

    def leave() -> None:
        ending.set()
        node.terminate()

    def follow() -> None:
        code = node.wait()
        if not ending.is_set():
            log.error("this node's place in the Ray cluster at %s is lost (code %s); ending, to be started again", address, code)
            os._exit(LOST)

    atexit.register(leave)

    Thread(target=follow, daemon=True).start()


class ServerLoader:
    """The actor: imports the serving class in the Ray worker, so that the caller need not."""

    def __init__(self, module: str, attribute: str, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self.served = getattr(importlib.import_module(module), attribute)(Settings())

    def call(self, method: str, payload: dict[str, Any]) -> Any:
        return getattr(self.served, method)(**payload)


def call(name: str, payload: dict[str, Any], environment: dict[str, str]) -> Any:
    """The task. The stack's keys come with it: of what a cluster's `runtime_env` holds, Ray writes a log that everybody may read."""
    os.environ.update(environment)
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)(**payload)


def call_off(asked: list[ObjectRef[Any]]) -> None:
    """Ends the workers of those that are not done a moment later. An interrupted worker would stay, with half a module where it was
    importing, and fail all later work that needs it; and Ray's driver dies of calling off a task that has just failed.
    """
    import ray

    _, pending = ray.wait(asked, num_returns=len(asked), timeout=MOMENT_S, fetch_local=False)
    for one in pending:
        ray.cancel(one, force=True)


def own_error(error: RayTaskError) -> Exception:
    cause = error.cause if isinstance(error.cause, Exception) else error
    if isinstance(cause, Cancelled | LongtailError):
        return cause
    return error
