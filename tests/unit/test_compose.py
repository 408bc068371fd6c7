"""docker-compose.yml: valid by the compose schema, and its commands are those that the embedded stack runs natively."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra import parts
from infra.settings import Settings

FILE = Path(__file__).parents[2] / "docker-compose.yml"
PORTS = dict.fromkeys(("s3", "master", "volume", "filer"), 1)


def test_the_file_is_valid_by_the_compose_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def flags(command):
    """The program's name, its words, and its flags without their values."""
    words = [str(w) for w in command]
    return [Path(words[0]).name.replace("python3", "python"), *(w.split("=")[0] for w in words[1:] if w.startswith("-"))]


NATIVE = {
    "s3": parts.s3(Settings(), ports=PORTS, folder=Path("/data")),
    "mlflow": parts.mlflow(Settings(), port=5000, backend="sqlite://", encryption_key="k"),
    "worker": parts.worker(),
    "api": parts.api(Settings()),
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_container_runs_the_command_that_runs_natively(name):
    composed = yaml.safe_load(FILE.read_text())["services"][name]["command"]
    native = flags(NATIVE[name].command)
    native[0] = "python" if native[0].startswith("python") else native[0]
    assert flags(composed) == native


def test_ray_runs_the_same_command_but_for_the_ports_of_a_shared_host():
    composed = flags(yaml.safe_load(FILE.read_text())["services"]["ray"]["command"])
    native = flags(parts.ray(port=1, client_port=2, agent_port=3, num_cpus=2, folder=Path("/x"), token="t").command)
    assert set(composed) <= set(native)


def test_no_port_is_published_beyond_loopback():
    for service in yaml.safe_load(FILE.read_text())["services"].values():
        assert all(str(p).startswith("127.0.0.1:") for p in service.get("ports", []))
