"""The harness of the evidence runs where little is installed, as on a lent GPU: torch, numpy, pillow, OpenCV, safetensors, and the two packages of
EfficientNet-lite0. The arms that augment classically need albumentations besides."""

from __future__ import annotations

import subprocess
import sys

ABSENT = [
    "mlflow", "sqlalchemy", "ray", "pydantic", "pydantic_settings", "fastapi", "lance", "lancedb", "minio", "dbos", "boto3", "httpx", "scipy", "sklearn",
    "albumentations", "pyarrow", "pandas", "skimage", "faster_coco_eval", "globox",
]  # fmt: skip
IMPORTING = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Absent())
import benchmarks.evidence.__main__
from benchmarks.evidence import runs, additions
from trainers.quality.features import backbone
backbone()
"""


def test_the_harness_runs_without_the_service_s_packages():
    done = subprocess.run([sys.executable, "-c", IMPORTING.format(absent=ABSENT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
