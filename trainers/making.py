"""A batch that an evaluation makes on the spot: planned, painted and filtered as the service's batches are; nothing is stored.

`trainers.additions.made` does the same without the filter of repeated pixels: the rows of docs/evidence.md were measured with it, and it goes when they
are measured anew (docs/decisions/033).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.images import decode
from trainers.additions import Batch, remade, with_labels
from trainers.dataset import DatasetView
from trainers.judging import Finished
from trainers.planning import Model, plan
from trainers.repeats import judged
from trainers.studio import make


def made(view: DatasetView, request: Mapping[str, Any], *, key: str, model: Model) -> Batch:
    """The accepted images of a request's batch, and what became of the others."""
    finished = [(sample_id, record, make(view, sample_id, record)) for sample_id, record in plan(view, request, key=key, model=model)]
    verdicts = judged(view, [Finished(record, m.data, m.objects) for _, record, m in finished])
    if any(v.partly for v in verdicts):
        finished = [remade(view, one, v.objects) if v.partly else one for one, v in zip(finished, verdicts, strict=True)]
        verdicts = judged(view, [Finished(record, m.data, m.objects) for _, record, m in finished])
    batch = Batch(made=len(finished))
    for (_, record, m), verdict in zip(finished, verdicts, strict=True):
        batch.add(Batch(rejected=dict.fromkeys(verdict.reasons, 1)))
        if verdict.accepted:
            pixels, _ = decode(m.data, what=record.class_name, max_pixels=view.max_pixels)
            batch.images.append(with_labels(view, pixels, m.labels))
    return batch
