"""A batch before its filters: each object that was made is cut from the file as it is stored, and judged among the version's real objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.images import decode
from longtail.boxes import BoxXyxy
from longtail.samples import Provenance
from trainers.bank import build_bank, crop
from trainers.dataset import DatasetView
from trainers.filters import Candidate, Verdict, judge_batch, together
from trainers.quality.features import features


class Measured(Protocol):
    """An object that was made: its label's box xyxy, how visible it is, and its seam."""

    @property
    def box_xyxy(self) -> BoxXyxy: ...
    @property
    def change(self) -> float: ...
    @property
    def overlap(self) -> float: ...
    @property
    def seam(self) -> float: ...


@dataclass(frozen=True)
class Seen:
    """What was measured of an object, where the image is at hand no more."""

    box_xyxy: BoxXyxy
    change: float
    overlap: float
    seam: float


@dataclass(frozen=True)
class Finished:
    """A sample as it was stored: its record, its file, and its objects in the order of the record's layers."""

    record: Provenance
    data: bytes
    objects: Sequence[Measured]


def judge_made(view: DatasetView, samples: Sequence[Finished]) -> list[Verdict]:
    """A verdict for each, in order: of all its objects."""
    labels = [view.classes.index_of(view.classes.id_of(s.record.class_name)) for s in samples]
    bank = build_bank(view, whole=frozenset(labels))
    candidates = []
    for sample, label in zip(samples, labels, strict=True):
        pixels, _ = decode(sample.data, what=sample.record.class_name, max_pixels=view.max_pixels)
        vectors = features([crop(pixels, o.box_xyxy) for o in sample.objects])
        for layer, vector, o in zip(sample.record.layers, vectors, sample.objects, strict=True):
            candidates.append(Candidate(layer, label, vector, o.change, o.overlap, o.seam))
    each = iter(judge_batch(bank, candidates))
    return [together([next(each) for _ in sample.objects]) for sample in samples]
