"""What a dataset costs as it grows: registering, staging, publishing, switching, a page of a rare class, a whole COCO export.

    python -m benchmarks.catalogue [--quick]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.registration import measure_registration
from benchmarks.report import Figure, save
from infra.catalogue import Catalogue
from infra.database import DATASETS
from infra.embedded import Stack
from infra.formats.export import layout
from infra.settings import Settings
from longtail.jobs import TENANT
from longtail.samples import SOURCE_BATCH, Annotation, Sample

CLASSES = {i: f"class {i}" for i in range(20)}
RARE_EVERY = 1000
ADDED = 1000
ROUNDS = 5


def main() -> None:
    quick = "--quick" in sys.argv
    sizes = (1_000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), say=print)
        settings = stack.start_storage()
        try:
            costs = {size: measure(settings, size) for size in sizes}
        finally:
            stack.stop()
    with tempfile.TemporaryDirectory() as folder:
        registration = measure_registration(Path(folder), images=2_000 if quick else 100_000)
    save("catalogue", [*registration, *targets(costs, sizes), *(f for size in sizes for f in as_figures(costs[size], size))], quick=quick)


def measure(settings: Settings, size: int) -> dict[str, float]:
    """Seconds (and gigabytes) of each thing that is done to a dataset of that many rows."""
    catalogue, name = Catalogue.of(settings), f"rows-{size}"
    catalogue.database.create_tables()
    table = catalogue.tables.uri(TENANT, name)
    row = {"id": name, "uri": "s3://none", "format": "coco", "task": "detection", "classes": {str(k): v for k, v in CLASSES.items()}, "meta": {}}
    catalogue.database.insert(DATASETS, {**row, "table_uri": table, "latest": None, "serving": None})
    costs = {"stage": seconds(lambda: catalogue.tables.merge(table, rows(size, batch=SOURCE_BATCH), tenant=TENANT))}
    print(f"{size} rows staged in {costs['stage']:.1f} s")
    costs["index"] = seconds(lambda: catalogue.tables.index(table))
    started = time.perf_counter()
    parent = catalogue.publish(name, job="first", parent=None, batches=[SOURCE_BATCH], lance_version=catalogue.tables.index(table), note="")
    costs["first version"] = time.perf_counter() - started
    publishing, switching, cold, warm = [], [], [], []
    for round_ in range(ROUNDS):
        started = time.perf_counter()
        lance_version = catalogue.tables.merge(table, rows(ADDED, batch=f"batch-{round_}"), tenant=TENANT)
        parent = catalogue.publish(name, job=f"add-{round_}", parent=parent, batches=[f"batch-{round_}"], lance_version=lance_version, note="")
        publishing.append(time.perf_counter() - started)
        started = time.perf_counter()
        catalogue.database.update(DATASETS, name, latest=parent["number"])
        switching.append(time.perf_counter() - started)
        cold.append(seconds(lambda: page(Catalogue.of(settings), name)))
        warm.append(seconds(lambda: page(catalogue, name)))
    costs |= {"publish 1000": median(publishing), "switch": median(switching), "page, cold": median(cold), "page, warm": median(warm)}
    command = [sys.executable, "-m", "benchmarks.catalogue", "--export", name, settings.model_dump_json()]
    took, gigabytes = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return {**costs, "COCO export": took, "COCO export, resident GB": gigabytes}


def rows(count: int, *, batch: str) -> Iterator[Sample]:
    """Rows with three boxes each; one in RARE_EVERY has one of class 0."""
    for i in range(count):
        categories = (0 if i % RARE_EVERY == 0 else 1 + i % 19, 1 + i % 7, 1 + i % 11)
        annotations = tuple(Annotation(category_id=c, bbox_xywh=(10.0 * k, 20.0, 30.0, 40.5), extra={"iscrowd": 0}) for k, c in enumerate(categories))
        yield Sample(
            id=f"{batch}-{i:08d}", path=f"images/{batch}/{i:08d}.jpg", uri=f"s3://team-data/rows/images/{i:08d}.jpg", etag=f"{i:032x}", size_bytes=30_000,
            width=640, height=480, split=("train", "train", "train", "val", "test")[i % 5], annotations=annotations, batch=batch,
        )  # fmt: skip


def page(catalogue: Catalogue, name: str) -> None:
    found, _ = catalogue.page(name, catalogue.database.version(name), after=0, limit=100, class_name=CLASSES[0])
    assert found and all(any(a.category_id == 0 for a in s.annotations) for s in found)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def targets(costs: dict[int, dict[str, float]], sizes: tuple[int, ...]) -> list[Figure]:
    """The largest size against what is promised of it."""
    least, most = costs[sizes[0] if len(sizes) < 3 else 10_000], costs[sizes[-1]]
    ratio = most["publish 1000"] / least["publish 1000"]
    memory = most["COCO export, resident GB"]
    return [
        Figure(f"publish 1000 to {sizes[-1]:,} rows, against {sizes[0]:,}", ratio, "times", "<= 1.5", ratio <= 1.5),
        Figure(f"version switch at {sizes[-1]:,} rows", most["switch"], "s", "< 0.1", most["switch"] < 0.1),
        Figure(f"page of a class of 0.1 % at {sizes[-1]:,} rows, right after a publish", most["page, warm"], "s", "< 0.1", most["page, warm"] < 0.1),
        Figure(f"COCO export of {sizes[-1]:,} rows, resident", memory, "GB", "< 1", memory < 1),
    ]


def as_figures(costs: dict[str, float], size: int) -> list[Figure]:
    return [Figure(f"{size:,} rows: {name}", value, "GB" if name.endswith("GB") else "s") for name, value in costs.items()]


def export(name: str, settings: Settings) -> None:
    """Lays out a version as COCO, in a process of its own; prints seconds and peak resident gigabytes."""
    catalogue = Catalogue.of(settings)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        version = catalogue.database.version(name)
        entries = layout("coco", catalogue.samples(name, version), CLASSES, {}, task="detection", scratch=Path(scratch))
        count = sum(isinstance(content, Sample) for _, content in entries)
    assert count == catalogue.count(version)
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    if "--export" in sys.argv:
        export(sys.argv[2], Settings.model_validate_json(sys.argv[3]))
    else:
        main()
