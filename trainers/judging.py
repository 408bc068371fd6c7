"""A batch before its filters: each sample's object is cut from the file as it is stored, and judged among the version's real objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.images import decode
from longtail.samples import Provenance
from trainers.bank import build_bank, crop
from trainers.dataset import DatasetView
from trainers.filters import Candidate, Verdict, judge_batch
from trainers.quality.features import features


@dataclass(frozen=True)
class Finished:
    """A sample as it was stored: its record, its file, the label's box xyxy, how visible it is, and its seam."""

    record: Provenance
    data: bytes
    box_xyxy: Sequence[float]
    change: float
    overlap: float
    seam: float


def judge_made(view: DatasetView, samples: Sequence[Finished]) -> list[Verdict]:
    """A verdict for each, in order."""
    labels = [view.classes.index_of(view.classes.id_of(s.record.class_name)) for s in samples]
    bank = build_bank(view, whole=frozenset(labels))
    candidates = []
    for sample, label in zip(samples, labels, strict=True):
        pixels, _ = decode(sample.data, what=sample.record.class_name, max_pixels=view.max_pixels)
        x0, y0, x1, y1 = sample.box_xyxy
        vector = features([crop(pixels, (x0, y0, x1, y1))])[0]
        candidates.append(Candidate(sample.record, label, vector, sample.change, sample.overlap, sample.seam))
    return judge_batch(bank, candidates)
