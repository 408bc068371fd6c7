"""The same stack with PostgreSQL under the records, the durable jobs and MLflow, as docker-compose.yml has it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest

from infra.embedded import Stack
from infra.objects import Objects
from infra.ports import free_ports
from longtail.client import Client
from services.demo.packs import upload

pytestmark = pytest.mark.long
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
DATABASES = Path(__file__).parents[2] / "infra" / "deploy" / "databases.sql"


def as_postgres(command):
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    return ["runuser", "-u", "postgres", "--", *command] if getpass.getuser() == "root" else command


@pytest.fixture
def postgres(tmp_path):
    """The start of a url to a fresh server with the three databases, made by the file that the container uses."""
    if not BINARIES:
        pytest.skip("no PostgreSQL server is installed; `make test-long` installs it where it may use apt")
    bin_folder, port = BINARIES[-1].parent, free_ports(("postgres",), start=25_400)["postgres"]
    home = Path(f"/tmp/longtail-postgres-{os.getpid()}")
    home.mkdir()
    if getpass.getuser() == "root":
        shutil.chown(home, "postgres")
    subprocess.run(as_postgres([str(bin_folder / "initdb"), "-D", str(home / "data"), "-U", "longtail", "-A", "trust"]), check=True, capture_output=True)
    server = subprocess.Popen(
        as_postgres([str(bin_folder / "postgres"), "-D", str(home / "data"), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"]),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"postgresql://longtail@127.0.0.1:{port}"
    for _ in range(100):
        try:
            with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE longtail")
                for line in DATABASES.read_text().splitlines():
                    if line.startswith("CREATE"):
                        connection.execute(line.rstrip(";"))  # type: ignore[arg-type]
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    yield url.replace("postgresql://", "postgresql+psycopg://")
    server.terminate()
    server.wait(20)
    shutil.rmtree(home, ignore_errors=True)


def test_a_batch_is_made_and_published_on_postgres(postgres, tmp_path):
    stack = Stack(tmp_path, database=postgres, say=lambda line: None)
    settings = stack.start()
    watcher = threading.Thread(target=stack.watch, daemon=True)
    watcher.start()
    try:
        client = Client(settings.api_url, settings.api_key)
        objects = Objects(settings, bucket="team-data")
        objects.ensure_bucket()
        upload(objects, "bccd", "s3://team-data/cells")
        client.wait(client.post("/v1/datasets", {"name": "cells", "uri": "s3://team-data/cells"})["job"], timeout_s=120)
        job = client.post("/v1/batches", {"dataset": "cells", "class_name": "Platelets", "count": 4, "mode": "copy_paste"})
        client.wait(job["job"], timeout_s=120)
        published = client.wait(client.post(f"/v1/batches/{job['batch']}/publish", {})["job"], timeout_s=60)["result"]
        assert client.get("/v1/datasets/cells/versions/2")["number"] == published["version"] == 2
        assert not list(tmp_path.glob("*.db"))
        assert list(client.events(job["job"]))[-1]["state"] == "succeeded"
    finally:
        stack.stop()
        watcher.join(5)
