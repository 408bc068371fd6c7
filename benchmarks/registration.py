"""What it costs to register a large dataset: its annotations and its listing first, then a look at every image.

Run by `benchmarks.catalogue`, on the whole stack, through the API.
"""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import Figure
from infra.database import Database
from infra.embedded import Stack
from infra.formats.source import READERS
from infra.objects import Objects
from longtail.client import Client

BUCKET = "team-data"
DISTINCT = 64
BARE_GETS = 4000


def measure_registration(folder: Path, *, images: int) -> list[Figure]:
    """Seconds until the version can be seen, and the rate of the scan as a share of the bare GET rate in the same run."""
    stack = Stack(folder, say=print)
    settings = stack.start()
    try:
        objects, client = Objects(settings), Client(settings.api_url, settings.api_key)
        objects.ensure_bucket(BUCKET)
        put(objects, images)
        bare = [bare_rate(objects, min(images, BARE_GETS))]
        job = client.post("/v1/datasets", {"name": "large", "uri": f"s3://{BUCKET}/large"})["job"]
        seen = until_seen(client)
        client.wait(job)
        bare.append(bare_rate(objects, min(images, BARE_GETS)))
        scanned = scan_rate(Database(settings.database_url).events(job, limit=1_000_000))
    finally:
        stack.stop()
    share = scanned / (sum(bare) / len(bare))
    return [
        Figure(f"register {images:,} images: annotations and listing", seen, "s", "< 30", seen < 30),
        Figure(f"register {images:,} images: look at every header, against bare GET", share, "share", ">= 0.6", share >= 0.6),
        Figure("headers looked at", scanned, "images/s"),
        Figure("bare GET, before and after", sum(bare) / len(bare), "images/s", spread=(min(bare), max(bare))),
    ]


def put(objects: Objects, images: int) -> None:
    """Lays out a COCO dataset: `images` JPEGs of 320x240, three boxes each."""
    noise = np.random.default_rng(0)
    made = []
    for _ in range(DISTINCT):
        out = io.BytesIO()
        coarse = Image.fromarray(noise.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        made.append(out.getvalue())
    body: dict[str, Any] = {"categories": [{"id": c, "name": f"class {c}"} for c in range(20)], "images": [], "annotations": []}
    for i in range(images):
        body["images"].append({"id": i, "file_name": f"{i:06d}.jpg", "width": 320, "height": 240})
        for k in range(3):
            box = [10 + 60 * k, 20, 40, 50]
            body["annotations"].append({"id": 3 * i + k, "image_id": i, "category_id": (i + k) % 20, "bbox": box, "area": 2000, "iscrowd": 0})
    objects.write(f"s3://{BUCKET}/large/train.json", json.dumps(body).encode())
    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda i: objects.write(f"s3://{BUCKET}/large/{i:06d}.jpg", made[i % DISTINCT]), range(images)))
    print(f"{images} images of {len(made[0]) / 1000:.0f} kB put in {time.perf_counter() - started:.0f} s")


def bare_rate(objects: Objects, count: int) -> float:
    """Images a second that the same client gets with as many threads, and throws away."""
    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(lambda i: objects.read(f"s3://{BUCKET}/large/{i:06d}.jpg"), range(count)):
            pass
    return count / (time.perf_counter() - started)


def until_seen(client: Client) -> float:
    started = time.perf_counter()
    while not client.get("/v1/datasets")["items"] or not client.get("/v1/datasets/large/versions")["items"]:
        time.sleep(0.1)
    return time.perf_counter() - started


def scan_rate(events: list[dict[str, Any]]) -> float:
    """Images a second from the first word of the scan to its last."""
    said = [(datetime.fromisoformat(e["at"]), str(e["data"].get("message", ""))) for e in events]
    looked = [(at, int(message.split()[1])) for at, message in said if message.startswith("checked ")]
    assert all(a[1] <= b[1] for a, b in pairwise(looked)), "the scan went back"
    return (looked[-1][1] - looked[0][1]) / (looked[-1][0] - looked[0][0]).total_seconds()
