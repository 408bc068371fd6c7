"""Makes samples from their records: fetches what a record names, renders, encodes as the background was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.images import CONTENT_TYPES, SUFFIXES, Codec, encode, stored_format
from longtail.errors import SourceChanged
from longtail.samples import Provenance
from trainers.dataset import DatasetView
from trainers.render import Order, Rendered, render
from trainers.weights import served


@dataclass(frozen=True)
class Made:
    """A finished sample: its pixels, its file, and what the renderer measured."""

    rendered: Rendered
    data: bytes
    suffix: str
    content_type: str


def make(view: DatasetView, sample_id: str, record: Provenance) -> Made:
    """The sample of this record, the same pixels each time. Raises SourceChanged where a source is not what it was."""
    rendered, codec = draw(view, record)
    data = encode(rendered.pixels, codec, provenance=record, sample_id=sample_id)
    kind = stored_format(codec)
    return Made(rendered, data, SUFFIXES[kind], CONTENT_TYPES[kind])


def draw(view: DatasetView, record: Provenance) -> tuple[Rendered, Codec]:
    background, codec = fetch(view, record.background["sample"]) if record.background else (None, None)
    exemplar, exemplar_codec = fetch(view, record.exemplar["sample"]) if record.exemplar else (None, None)
    box = record.exemplar["box_xyxy"] if record.exemplar else None
    order = Order(
        mode=record.mode,
        label=view.classes.index_of(view.classes.id_of(record.class_name)),
        seed=record.seed,
        novelty=record.novelty,
        box_xyxy=record.box_xyxy,
        background=background,
        exemplar=exemplar,
        exemplar_box_xyxy=(box[0], box[1], box[2], box[3]) if box else None,
    )
    generator = served(view.catalogue.settings, record.model_uri) if record.model_uri else None
    rendered = render(generator, order)
    return rendered, codec or exemplar_codec or Codec("PNG", "RGB")


def fetch(view: DatasetView, sample: str) -> tuple[NDArray[np.uint8], Codec]:
    known = view.by_id.get(sample)
    if known is None:
        raise SourceChanged(f"sample {sample!r} is not in this version of {view.dataset!r} any more")
    return view.pixels(known)
