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


CORE = """
import sys
ALLOWED = {"torch", "numpy", "PIL", "longtail", "trainers", "benchmarks"}
def third_party(name):
    top = name.split(".")[0]
    return top not in sys.stdlib_module_names and top not in ALLOWED and not top.startswith("_")
class Bare:
    def find_spec(self, name, path=None, target=None):
        caller = sys._getframe(1)
        while caller and "importlib" in caller.f_code.co_filename:
            caller = caller.f_back
        ours = caller and any(part in caller.f_code.co_filename for part in ("/trainers/", "/longtail/", "/benchmarks/"))
        if ours and third_party(name):
            raise ImportError(f"{caller.f_code.co_filename} imports {name}")
sys.meta_path.insert(0, Bare())
import benchmarks.gpu_check, trainers.loop, trainers.render, trainers.grids, trainers.shapes
"""


def test_training_wants_torch_numpy_and_pillow_alone():
    done = subprocess.run([sys.executable, "-c", CORE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    planted = CORE.replace("import benchmarks.gpu_check", "import trainers.checkpoints, benchmarks.gpu_check")
    assert "imports safetensors" in subprocess.run([sys.executable, "-c", planted], capture_output=True, text=True).stderr
