"""The shape of the house: what starting the API pulls in, and whose the top-level names are."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

PROBE = """
import json, sys, time
started = time.perf_counter()
from services.api.app import create_app
from infra.settings import Settings
create_app(Settings())
print(json.dumps({"seconds": time.perf_counter() - started, "modules": sorted({m.split(".")[0] for m in sys.modules})}))
"""


def test_the_api_starts_without_torch_mlflow_trainers_or_workflows():
    out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    found = json.loads(out.splitlines()[-1])
    assert not {"torch", "mlflow", "trainers", "workflows"} & set(found["modules"])


@pytest.mark.parametrize("name", ["longtail", "infra", "trainers", "workflows", "services"])
def test_a_top_level_name_is_ours_alone(name):
    assert set(importlib.metadata.packages_distributions().get(name, ["longtail"])) == {"longtail"}
