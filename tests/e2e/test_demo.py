"""The demo's own path, in a small setting, to its report."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image


@pytest.mark.long
def test_the_demo_walks_to_its_report(tmp_path):
    command = [sys.executable, "-m", "services.cli.main", "demo", "--quick", "--state", str(tmp_path / "state"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (tmp_path / "out" / "report.html").read_text()
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    titles = ("What did not go well", "Instances before and after", "nearest real neighbour", "Gates", "Uplift", "Where one image comes from")
    for title in (*titles, "How long it took"):
        assert title in page
    assert page.count("data:image/") > 20
    with Image.open(tmp_path / "out" / "dial.png") as dial:
        assert dial.width > 1000
    assert "http://" not in page.split("Make it again")[0].replace("http://cv.iptc.org", "")
    assert found["again"]["identical"]
    assert not found["swap"]["failed"]
    assert found["by_hand"]["did"] == "nothing"
    assert any(r["trigger"] == "clock" for r in found["runs"])
    published = found["published"]
    assert published["added"] == sum(b["accepted"] for b in found["batches"])
