"""Work by name on the real Ray of the stack."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORTING = """
import os, pathlib, time
here = pathlib.Path({said!r} + ".part")
here.write_text(str(os.getpid()))
here.rename({said!r})
while True:
    time.sleep(0.05)
"""
FAILING = """
import pathlib, time
while not pathlib.Path({said!r}).exists():
    time.sleep(0.05)
raise ValueError("one of two fails")
"""


ASKING = """
import contextlib, pathlib
import psutil
from infra.cluster import Cluster
from infra.settings import Settings
try:
    Cluster(Settings()).run_all("runpy:run_path", {payloads!r})
except Exception as error:
    print(str(error).strip().splitlines()[-1])
with contextlib.suppress(psutil.NoSuchProcess):
    psutil.Process(int(pathlib.Path({said!r}).read_text())).wait(20)
"""


def test_a_worker_that_is_called_off_half_way_through_an_import_is_used_no_more(stack, tmp_path):
    """Kept, it has half a module in its memory, and all later work that needs it fails there."""
    said = str(tmp_path / "importing")
    for name, source in (("importing.py", IMPORTING), ("failing.py", FAILING)):
        (tmp_path / name).write_text(source.format(said=said))
    payloads = [{"path_name": str(tmp_path / name)} for name in ("importing.py", "failing.py")]
    done = subprocess.run(
        [sys.executable, "-c", ASKING.format(payloads=payloads, said=said)],
        env={**os.environ, **stack.settings.environment()}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert "one of two fails" in done.stdout
    assert done.returncode == 0, done.stderr


OUTSIDE = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: "run").remote()))
"""


@pytest.mark.long
def test_who_does_not_have_the_stack_s_token_cannot_run_code_in_it(stack, tmp_path):
    """Whatever token of another cluster lies in their home, as Ray leaves one there."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    base = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "LONGTAIL_"))} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", OUTSIDE, stack.settings.ray_address]
    for mode in ("token", "disabled"):
        refused = subprocess.run(command, env={**base, "RAY_AUTH_MODE": mode}, capture_output=True, text=True, timeout=120)
        assert refused.returncode != 0
        assert "uthentication" in refused.stderr
    admitted = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": stack.settings.ray_token}
    let_in = subprocess.run(command, env={**base, **admitted}, capture_output=True, text=True, timeout=120)
    assert let_in.stdout == "run\n"


def test_no_key_of_the_stack_is_in_ray_s_logs(stack):
    """Ray's folder lies in /tmp, and everybody may read what is in it."""
    stack.client.get("/health/ready")
    root = stack.supervisor._short_folder()
    logs = [p for p in root.rglob("*") if p.is_file() and p.suffix in (".log", ".out", ".err")]
    assert len(logs) > 5
    keys = [stack.settings.ray_token, stack.settings.api_key, stack.settings.s3_secret_key, stack.settings.webhook_secret]
    assert not [p.name for p in logs if any(key in p.read_text(errors="replace") for key in keys)]
