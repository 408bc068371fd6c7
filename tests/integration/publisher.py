"""One of many publishers or readers of a dataset, as a process: `python publisher.py publish|read SETTINGS DATASET WHO ROUNDS`.

Publishers stage rows of a batch of their own, each with an object whose name is its hash, and publish it onto the latest version.
Readers look at the latest version again and again, and at every object that it names; they say what is not whole.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time

from infra.catalogue import Catalogue
from infra.settings import Settings
from longtail.datasets import Tally
from longtail.jobs import TENANT
from longtail.samples import Annotation, Provenance, Sample

ROWS = 5


def main() -> None:
    what, settings, dataset, who, rounds = sys.argv[1:]
    catalogue = Catalogue.of(Settings.model_validate_json(settings))
    if what == "publish":
        for n in range(int(rounds)):
            publish(catalogue, dataset, f"{who}-{n}")
    else:
        print(json.dumps(read(catalogue, dataset, int(rounds))))


def publish(catalogue: Catalogue, dataset: str, batch: str) -> None:
    version = catalogue.tables.merge(catalogue.tables.uri(TENANT, dataset), [row(catalogue, dataset, batch, i) for i in range(ROWS)], tenant=TENANT)
    catalogue.publish(
        dataset, job=batch, parent=None, follow=True, batches=[batch], lance_version=version, note=batch, make_latest=True, accepted_unproven=True
    )


def row(catalogue: Catalogue, dataset: str, batch: str, i: int) -> Sample:
    data = f"{dataset} {batch} {i}".encode() * 50
    uri, etag = catalogue.objects.write_addressed(catalogue.settings.place(dataset, "samples"), data, suffix=".bin", content_type="x/y")
    record = Provenance(
        mode="copy_paste", class_name="c", seed=i, novelty=0, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0, 0, 1, 1),
    )  # fmt: skip
    return Sample(
        id=f"{batch}-{i}", path=f"{batch}/{i}.bin", uri=uri, etag=etag, size_bytes=len(data), width=9, height=9, split="train",
        annotations=(Annotation(category_id=1, bbox_xywh=(0, 0, 4, 4)),), origin="synthetic", batch=batch, provenance=record,
    )  # fmt: skip


def read(catalogue: Catalogue, dataset: str, looks: int) -> dict[str, object]:
    """{"seen": numbers, "wrong": what was not whole}: until so many versions have been seen, or all 240 batches are there."""
    seen: list[int] = []
    wrong: list[str] = []
    held: set[str] = set()
    while len(seen) < looks:
        version = catalogue.database.version(dataset)
        if seen and version["number"] == seen[-1]:
            if len(version["batches"]) >= 241:
                break
            time.sleep(0.1)
            continue
        if seen and version["number"] < seen[-1]:
            wrong.append(f"latest went back from {seen[-1]} to {version['number']}")
        seen.append(version["number"])
        wrong += not_whole(catalogue, dataset, version, held, objects=3)
        held = set(version["batches"])
    return {"seen": seen, "wrong": wrong}


def not_whole(catalogue: Catalogue, dataset: str, version: dict, held: set[str], *, objects: int | None) -> list[str]:
    """What a version lacks, or has twice."""
    rows, wrong = list(catalogue.samples(dataset, version)), []
    ids = [r.id for r in rows]
    if len(ids) != len(set(ids)):
        wrong.append(f"version {version['number']} has rows twice")
    if not held <= set(version["batches"]):
        wrong.append(f"version {version['number']} lost {sorted(held - set(version['batches']))[:3]}")
    if {r.batch for r in rows} != set(version["batches"]) or Tally.of(rows) != Tally.from_json(version["tally"]):
        wrong.append(f"version {version['number']} says {catalogue.count(version)} rows and has {len(rows)}")
    chosen = rows if objects is None else random.sample(rows, min(objects, len(rows)))
    for r in chosen:
        if hashlib.sha256(catalogue.objects.read(r.uri, etag=r.etag)).hexdigest() not in r.uri:
            wrong.append(f"{r.uri} is not what its name says")
    return wrong


if __name__ == "__main__":
    main()
