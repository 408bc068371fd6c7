"""A dataset without a val split, through the API: what judges its generators is held out of what they learn from."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 160, 120


@pytest.mark.long
def test_a_generator_of_a_dataset_without_val_is_judged_all_the_same(stack):
    name = stack.name("undivided")
    body = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "lamp"}]}
    for n in range(56):
        rng = np.random.default_rng(n)
        coarse = Image.fromarray(rng.integers(30, 160, (6, 8, 3), dtype=np.uint8))
        pixels = np.array(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        x, y = int(rng.integers(10, 60)), int(rng.integers(10, 40))
        pixels[y : y + 24, x : x + 24] = rng.integers(220, 250, 3)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        stack.objects.write(f"s3://team-data/{name}/{n}.png", out.getvalue())
        body["images"].append({"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT})
        body["annotations"].append({"id": n, "image_id": n, "category_id": 1, "bbox": [x, y, 24, 24], "area": 576, "iscrowd": 0})
    stack.objects.write(f"s3://team-data/{name}/train.json", json.dumps(body).encode())
    stack.client.wait(stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"], timeout_s=120)
    result = stack.client.wait(stack.client.post("/v1/generators", {"dataset": name, "budget_s": 3})["job"], timeout_s=300)["result"]
    assert result["held_out"] == {"lamp": 30}
    assert {g["name"] for g in result["gates"]} == {"kid", "coverage", "density", "copying", "label_consistency", "overlap", "utility"}
    assert not any("only" in g["note"] for g in result["gates"])
    assert any(g["verdict"] != "unknown" for g in result["gates"])
    page = b"".join(stack.client.download(f"/v1/generators/{name}/{result['generator']}/report.html", limit=2)).decode()
    assert "30 training objects of lamp were held out" in page
    splits = {s["split"] for s in stack.client.get(f"/v1/datasets/{name}/versions/1/samples", limit=100)["items"]}
    assert splits == {"train"}, "the dataset itself stays as it was registered"
