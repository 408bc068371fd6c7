"""What an evaluation's arms are trained on: real images with their labels, varied copies of them, and batches made and filtered on the spot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.images import decode, encode
from longtail.boxes import BoxXyxy, xywh_to_xyxy
from longtail.policies import Step
from longtail.samples import Annotation, Provenance, Sample
from longtail.seeds import derive_seed
from trainers.classical import vary
from trainers.dataset import DatasetView
from trainers.judging import Finished, judge_made
from trainers.planning import Model, plan
from trainers.studio import Made, make
from trainers.uplift.images import Labelled, Pixels


@dataclass
class Batch:
    """The accepted images of a batch, how many were made for them, and how often each filter spoke against one."""

    images: list[Labelled] = field(default_factory=list)
    made: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def add(self, other: Batch) -> None:
        self.images += other.images
        self.made += other.made
        for reason, count in other.rejected.items():
            self.rejected[reason] = self.rejected.get(reason, 0) + count


def labelled(view: DatasetView, sample: Sample) -> Labelled:
    """A sample's pixels and labels; of one without any label, of a detection dataset, no box."""
    return with_labels(view, view.pixels(sample)[0], sample.annotations)


def with_labels(view: DatasetView, pixels: Pixels, annotations: Sequence[Annotation]) -> Labelled:
    if view.task == "classification":
        return Labelled(pixels, [], [view.classes.index_of(a.category_id) for a in annotations])
    boxed = [(xywh_to_xyxy(a.bbox_xywh), a.category_id) for a in seen_labels(view, annotations) if a.bbox_xywh is not None]
    return Labelled(pixels, [box for box, _ in boxed], [view.classes.index_of(category) for _, category in boxed])


def seen_labels(view: DatasetView, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Those that a model learns from: of a detection dataset what has a box and is no crowd."""
    return [a for a in annotations if view.task == "classification" or (a.bbox_xywh is not None and not a.extra.get("iscrowd"))]


def varied(view: DatasetView, samples: Sequence[Sample], classes: Mapping[str, int], policy: Sequence[Step], *, seed: tuple[object, ...]) -> list[Labelled]:
    """So many copies for each class after the policy, of the images that hold it, each as often as the others, encoded as it was.

    What is added to a class is so shared out as it is in a batch that is made: no arm gains by another balance of classes.
    The same for the same parts of a seed.
    """
    found = []
    for name, count in classes.items():
        wanted = view.classes.id_of(name)
        holding = [s for s in samples if any(a.category_id == wanted for a in seen_labels(view, s.annotations))]
        order = np.random.default_rng(derive_seed(*seed, name)).permutation(len(holding))
        found += [vary_one(view, holding[order[k % len(holding)]], policy, seed=derive_seed(*seed, name, k)) for k in range(count if holding else 0)]
    return found


def vary_one(view: DatasetView, sample: Sample, policy: Sequence[Step], *, seed: int) -> Labelled:
    real, codec = labelled(view, sample), view.pixels(sample)[1]
    boxes: list[BoxXyxy] = [(b[0], b[1], b[2], b[3]) for b in real.boxes_xyxy]
    moved = vary(real.pixels, boxes, list(policy), seed=seed)
    pixels, _ = decode(encode(moved.pixels, codec, provenance=None, sample_id=""), what=sample.path, max_pixels=view.max_pixels)
    if view.task == "classification":
        return Labelled(pixels, [], real.labels)
    left = [(b, label) for b, label in zip(moved.boxes_xyxy, real.labels, strict=True) if b is not None]
    return Labelled(pixels, [b for b, _ in left], [label for _, label in left])


def made(view: DatasetView, request: Mapping[str, Any], *, key: str, model: Model) -> Batch:
    """A batch as the product makes it, filters and file format included; nothing is stored."""
    finished = [(sample_id, record, make(view, sample_id, record)) for sample_id, record in plan(view, request, key=key, model=model)]
    verdicts = judge_made(view, [Finished(record, m.data, m.objects) for _, record, m in finished])
    if any(v.partly for v in verdicts):
        finished = [remade(view, one, v.objects) if v.partly else one for one, v in zip(finished, verdicts, strict=True)]
        verdicts = judge_made(view, [Finished(record, m.data, m.objects) for _, record, m in finished])
    batch = Batch(made=len(finished))
    for (_, record, m), verdict in zip(finished, verdicts, strict=True):
        for reason in verdict.reasons:
            batch.rejected[reason] = batch.rejected.get(reason, 0) + 1
        if verdict.accepted:
            pixels, _ = decode(m.data, what=record.class_name, max_pixels=view.max_pixels)
            batch.images.append(with_labels(view, pixels, m.labels))
    return batch


def remade(view: DatasetView, sample: tuple[str, Provenance, Made], kept: Sequence[bool]) -> tuple[str, Provenance, Made]:
    """The same image with those of its objects alone that may stay."""
    sample_id, record, _ = sample
    left = record.only(kept)
    assert left is not None
    return sample_id, left, make(view, sample_id, left)
