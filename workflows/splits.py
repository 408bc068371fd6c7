"""Splits on request, for a source that has none: near-duplicates are found first, so that they stay on one side."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

from infra.durable import step
from infra.formats.source import READERS
from infra.images import fingerprint, small
from longtail.duplicates import Fingerprint, near_groups
from longtail.errors import LongtailError
from longtail.samples import Sample
from longtail.splitting import deal, shares_of
from workflows.parts import PART, keep_part, kept, kept_part, part_uri, refuse
from workflows.stack import Stack


def deal_splits(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], problems: list[str]) -> list[str]:
    """Gives every checked sample its split; returns problems that looking at whole images brought."""
    found: list[str] = []
    if request["splits"]["grouped"]:
        for part in range(read["parts"]):
            found += step(f"fingerprint images {part}", fingerprint_part, stack, job, request, read, part)
    step("deal splits", lambda: deal_all(stack, job, request, read, [*problems, *found]))
    return found


def fingerprint_part(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], part: int) -> list[str]:
    """Looks at the images of a part, keeps how they look, and keeps those samples alone that can be decoded; returns the problems."""
    catalogue, name = stack.catalogue, request["name"]
    progress = stack.progress(job, low=0.8, high=0.95)

    def look(sample: Sample) -> Fingerprint | str:
        try:
            data = catalogue.objects.read(sample.uri, etag=sample.etag)
            return fingerprint(data, small(data, what=sample.path, max_pixels=catalogue.settings.max_image_pixels))
        except LongtailError as error:
            return str(error)

    good: list[Sample] = []
    prints: list[Fingerprint] = []
    problems: list[str] = []
    samples = kept_part(stack, job, name, "checked", part)
    with ThreadPoolExecutor(READERS) as pool:
        for i, (sample, seen) in enumerate(zip(samples, pool.map(look, samples), strict=True)):
            if isinstance(seen, str):
                problems.append(seen)
            else:
                good.append(sample)
                prints.append(seen)
            done = part * PART + i + 1
            progress(done / read["images"], f"looked for near-duplicates in {done} of {read['images']} images")
    body = [{k: v.hex() if isinstance(v, bytes) else v for k, v in asdict(p).items()} for p in prints]
    catalogue.objects.write(part_uri(stack, job, name, "prints", part), json.dumps(body).encode())
    keep_part(stack, job, name, "checked", part, good)
    return problems


def deal_all(stack: Stack, job: str, request: dict[str, Any], read: dict[str, Any], problems: list[str]) -> None:
    """Writes the checked parts again, each sample with its split. Doing it twice changes nothing."""
    name, asked, parts = request["name"], request["splits"], read["parts"]
    refuse(request, problems)
    labels = [[a.category_id for a in s.annotations] for s in kept(stack, job, name, "checked", parts)]
    groups = near_groups(prints_of(stack, job, name, parts)) if asked["grouped"] else []
    dealt = iter(deal(labels, groups, shares_of(asked["val"], asked["test"]), seed=asked["seed"]))
    for part in range(parts):
        keep_part(stack, job, name, "checked", part, [replace(s, split=next(dealt)) for s in kept_part(stack, job, name, "checked", part)])


def prints_of(stack: Stack, job: str, name: str, parts: int) -> list[Fingerprint]:
    found = []
    for part in range(parts):
        for row in json.loads(stack.catalogue.objects.read(part_uri(stack, job, name, "prints", part))):
            found.append(Fingerprint(row["sha256"], bytes.fromhex(row["gradients"]), bytes.fromhex(row["colours"])))
    return found
