"""What a look at a source keeps between its steps: its samples in parts, below a prefix of the job's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from infra.tables import batched, pack, unpack
from longtail.errors import BrokenDataset
from longtail.jobs import TENANT
from longtail.samples import Sample
from workflows.stack import Stack

PART = 2000
"""Images a step: what is read again at most when a worker is killed."""


def parts_uri(stack: Stack, job: str, name: str) -> str:
    return stack.catalogue.settings.place(name, "registrations", job)


def part_uri(stack: Stack, job: str, name: str, what: str, part: int) -> str:
    return f"{parts_uri(stack, job, name)}/{what}-{part:06d}.arrow"


def keep(stack: Stack, job: str, name: str, what: str, samples: Iterable[Sample]) -> int:
    """Writes the samples in parts of PART; returns how many parts."""
    parts = 0
    for part in batched(samples, PART):
        keep_part(stack, job, name, what, parts, part)
        parts += 1
    return parts


def keep_part(stack: Stack, job: str, name: str, what: str, part: int, samples: Iterable[Sample]) -> None:
    stack.catalogue.objects.write(part_uri(stack, job, name, what, part), pack(samples, tenant=TENANT))


def kept_part(stack: Stack, job: str, name: str, what: str, part: int) -> list[Sample]:
    return unpack(stack.catalogue.objects.read(part_uri(stack, job, name, what, part)))


def kept(stack: Stack, job: str, name: str, what: str, parts: int) -> Iterator[Sample]:
    """The samples of all parts, one part in memory at a time."""
    for part in range(parts):
        yield from kept_part(stack, job, name, what, part)


def refuse(request: dict[str, Any], problems: list[str]) -> None:
    """Raises BrokenDataset with every problem, unless what has one is to be skipped."""
    if problems and request.get("on_problem") != "skip":
        shown = "; ".join(problems[:3])
        raise BrokenDataset(f"{request['uri']}: {len(problems)} problem(s): {shown}", problems)
