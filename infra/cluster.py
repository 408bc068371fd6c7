"""Ray: torch work by name. The caller never imports torch; the Ray worker imports what the name says.

Ray itself is imported where it is used, so that a process that only might need it starts without waiting for it.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import subprocess
import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from infra.parts import binary
from infra.settings import Settings
from longtail.errors import Cancelled, LongtailError, NotReady

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.exceptions import RayTaskError

T = TypeVar("T")
log = logging.getLogger("longtail.cluster")
NAMESPACE = "longtail"
SERVER = "generators"
SERVING = "serving"
"""A resource that only the head has: the serving actor must not lie in the container of an API or a worker."""
LOOK_S = 5.0
PATIENCE_S = 90


class Cluster:
    """A connection to the cluster, opened on first use, and opened again where the cluster was started anew meanwhile.

    A driver does not notice by itself that its cluster is gone: what it waits for never comes. So it looks, every
    `LOOK_S`, and does again what was lost; every task may be repeated.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = Lock()
        self.opened = 0
        self.node: subprocess.Popen[bytes] | None = None

    def connect(self) -> int:
        """Opens the connection if need be; its number, which changes when it is opened again."""
        import ray

        with self.lock:
            if not ray.is_initialized():
                self._open(patience_s=PATIENCE_S if self.settings.ray_join else 0)
            return self.opened

    def _open(self, *, patience_s: float) -> None:
        import ray

        if self.settings.ray_join:
            self._join()
        deadline = time.monotonic() + patience_s
        while True:
            try:
                ray.init(
                    address=self.settings.ray_address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR",
                    runtime_env={"env_vars": self.settings.environment()},
                )  # fmt: skip
                self.opened += 1
                return
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                if time.monotonic() > deadline:
                    raise NotReady(f"Ray at {self.settings.ray_address} does not answer ({type(error).__name__})") from error
                time.sleep(1)

    def _join(self) -> None:
        """Makes this container a node of the cluster, with no cores of its own: a driver needs a node beside it."""
        if self.node is not None:
            self.node.kill()
            self.node.wait()
        command = [
            binary("ray"), "start", f"--address={self.settings.ray_address}", "--num-cpus=0", "--num-gpus=0", "--object-store-memory=100000000",
            "--disable-usage-stats", "--block",
        ]  # fmt: skip
        self.node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.node.terminate)

    def _reopen(self, seen: int) -> None:
        """Connects to the cluster that is there now, unless another thread has done so since `seen`."""
        import ray

        with self.lock:
            if self.opened == seen:
                ray.shutdown()
                self._open(patience_s=PATIENCE_S)

    def _attempt(self, action: Callable[[], T], *, times: int) -> T:
        """Does it, and where the cluster was lost does it again, that many times. Raises the function's own LongtailError."""
        from ray.exceptions import RayError, RayTaskError

        for _ in range(times):
            seen = self.connect()
            try:
                return action()
            except RayTaskError as error:
                raise own_error(error) from error
            except (RayError, ConnectionError, RuntimeError) as error:
                if not lost(error):
                    raise
                log.warning("the Ray cluster was lost (%s); connecting again", type(error).__name__)
                self._reopen(seen)
        raise NotReady(f"the Ray cluster at {self.settings.ray_address} was lost {times} times; see its log")

    def run(self, name: str, payload: dict[str, Any], *, cpus: float = 1, use_gpu: bool = False) -> Any:
        """The result of the named function of `trainers` on a Ray worker; a worker that is killed is replaced, thrice.

        `name` is "module:function". A GPU is asked for where `use_gpu` and the cluster has one. Raises the function's
        own LongtailError.
        """

        def once() -> Any:
            import ray

            gpus = 1 if use_gpu and ray.cluster_resources().get("GPU", 0) >= 1 else 0
            task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3, retry_exceptions=False)(call)
            result = task.remote(name, payload)
            while not ray.wait([result], timeout=LOOK_S)[0]:
                actor_of("none")  # raises where the cluster is not the one that was asked
            return ray.get(result)

        return self._attempt(once, times=3)

    def keep_server(self, name: str) -> None:
        """Has one actor of the named class serve generators, made if it is not there, restarted by Ray whenever it dies."""

        def once() -> None:
            import ray

            if actor_of(SERVER) is not None:
                return
            module, _, attribute = name.partition(":")
            options = {
                "name": SERVER, "lifetime": "detached", "get_if_exists": True, "max_restarts": -1, "max_task_retries": 3, "num_cpus": 0,
                "resources": {SERVING: 0.001},
            }  # fmt: skip
            actor = ray.remote(ServerLoader).options(**options).remote(module, attribute, self.settings.model_dump(mode="json"))
            ray.get(actor.call.remote("ready", {}), timeout=PATIENCE_S)

        self._attempt(once, times=2)

    def ask_server(self, method: str, payload: dict[str, Any], *, timeout_s: float = 60) -> Any:
        """What the serving actor's method answers. Raises NotReady where it is not up, or its own LongtailError."""
        from ray.exceptions import RayError

        def once() -> Any:
            import ray

            actor = actor_of(SERVER)
            if actor is None:
                raise NotReady("the generator server is not up yet; try again in a few seconds")
            return ray.get(actor.call.remote(method, payload), timeout=timeout_s)

        try:
            return self._attempt(once, times=2)
        except (RayError, ConnectionError) as error:
            raise NotReady(f"the generator server is not up yet ({type(error).__name__}); try again in a few seconds") from error

    def ready(self) -> bool:
        try:
            return bool(self.ask_server("ready", {}, timeout_s=5))
        except NotReady:
            return False


def actor_of(name: str) -> ActorHandle[Any] | None:
    """The named actor of the cluster that we are connected to, None if there is none."""
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def lost(error: Exception) -> bool:
    """Whether the cluster that was asked is gone, rather than a task or an actor in it."""
    from ray.exceptions import AuthenticationError, RaySystemError, RpcError

    kinds = (AuthenticationError, RaySystemError, RpcError, ConnectionError)
    return isinstance(error, kinds) or "ray.init" in str(error) or "Ray has not been started" in str(error)


class ServerLoader:
    """The actor: imports the serving class in the Ray worker, so that the caller need not."""

    def __init__(self, module: str, attribute: str, settings: dict[str, Any]) -> None:
        self.served = getattr(importlib.import_module(module), attribute)(Settings.model_validate(settings))

    def call(self, method: str, payload: dict[str, Any]) -> Any:
        return getattr(self.served, method)(**payload)


def call(name: str, payload: dict[str, Any]) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)(**payload)


def own_error(error: RayTaskError) -> Exception:
    cause = error.cause if isinstance(error.cause, Exception) else error
    if isinstance(cause, Cancelled | LongtailError):
        return cause
    return error
