"""The processes of the stack: each one's command, environment and sign of health. Compose runs the same commands."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from infra.settings import Settings

SERVING_ON_HEAD = '{"serving":1}'
"""The head alone serves generators; see `infra.cluster`."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "LANCE_LOG": "error",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class Part:
    """A supervised process. `url` answers 2xx (or 4xx, for S3) once it is healthy; `port` accepts once it is."""

    name: str
    command: tuple[str, ...]
    port: int | None = None
    url: str | None = None
    timeout_s: float = 90
    environment: dict[str, str] = field(default_factory=dict)


def binary(name: str) -> str:
    """A program of this environment by its full path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def s3(settings: Settings, *, ports: dict[str, int], folder: Path) -> Part:
    """SeaweedFS, all in one process, telemetry off, bound to loopback; its one identity comes from its environment."""
    command = (
        binary("weed"), "-logtostderr=true", "-v=0", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", f"-master.port={ports['master']}", "-master.volumeSizeLimitMB=1024", f"-volume.port={ports['volume']}",
        "-volume.max=0", "-filer", f"-filer.port={ports['filer']}", "-s3", f"-s3.port={ports['s3']}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    )
    identity = {"AWS_ACCESS_KEY_ID": settings.s3_access_key, "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key}
    return Part("s3", command, url=f"http://127.0.0.1:{ports['s3']}/healthz", port=ports["s3"], environment=identity)


def mlflow(settings: Settings, *, port: int, backend: str, encryption_key: str) -> Part:
    """The registry with its UI; artifacts are proxied into the bucket."""
    command = (
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--artifacts-destination",
        f"s3://{settings.bucket}/mlflow", "--serve-artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    )
    environment = {
        "MLFLOW_S3_ENDPOINT_URL": settings.lance_options["aws_endpoint"],
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key,
        "AWS_DEFAULT_REGION": settings.s3_region,
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": encryption_key,
    }
    return Part("mlflow", command, url=f"http://127.0.0.1:{port}/health", port=port, environment=environment)


def ray(*, port: int, client_port: int, agent_port: int, num_cpus: int, folder: Path, token: str) -> Part:
    """A Ray head on loopback, with no dashboard; every fixed port is given, so that two stacks can live side by side."""
    command = (
        binary("ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={num_cpus}",
        "--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=500000000", f"--temp-dir={folder}",
        f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent_port}", f"--resources={SERVING_ON_HEAD}",
    )
    return Part("ray", command, port=port, environment={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token})


def worker() -> Part:
    return Part("worker", (sys.executable, "-m", "services.worker"))


def api(settings: Settings) -> Part:
    return Part(
        "api", (sys.executable, "-m", "services.api"), url=f"http://{settings.api_host}:{settings.api_port}/health/live", port=settings.api_port
    )
