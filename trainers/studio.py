"""Makes samples from their records: fetches what a record names, renders, encodes as the background was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.formats.segmentation import mask_of, run_lengths
from infra.images import CONTENT_TYPES, SUFFIXES, Codec, encode, stored_format
from longtail.boxes import BoxXyxy, xywh_to_xyxy, xyxy_to_xywh
from longtail.errors import InvalidRequest, SourceChanged
from longtail.policies import moves
from longtail.samples import Annotation, Provenance
from longtail.seeds import derive_seed
from trainers.classical import vary
from trainers.dataset import DatasetView
from trainers.render import Order, Rendered, render
from trainers.weights import served

TRIES = 8
PLACED = ("segmentation", "area", "yolo", "voc")
"""Fields of a source's annotation that say where it is."""


@dataclass(frozen=True)
class Made:
    """A finished sample: its pixels, its file, and what the renderer measured."""

    rendered: Rendered
    labels: tuple[Annotation, ...]
    """Every object that is seen in it: the background's own, then the one that was made."""
    data: bytes
    suffix: str
    content_type: str


def make(view: DatasetView, sample_id: str, record: Provenance) -> Made:
    """The sample of this record, the same pixels each time. Raises SourceChanged where a source is not what it was."""
    rendered, codec = draw(view, record)
    labels = labels_of(view, record)
    if record.augment:
        rendered, labels = varied(rendered, labels, record.augment)
    data = encode(rendered.pixels, codec, provenance=record, sample_id=sample_id)
    kind = stored_format(codec)
    return Made(rendered, labels, data, SUFFIXES[kind], CONTENT_TYPES[kind])


def labels_of(view: DatasetView, record: Provenance) -> tuple[Annotation, ...]:
    category = view.classes.id_of(record.class_name)
    whole = view.task == "classification"
    own = Annotation(category_id=category, bbox_xywh=None if whole else xyxy_to_xywh(record.box_xyxy))
    kept = view.by_id[record.background["sample"]].annotations if record.background else ()
    return (*(replace(a, extra={k: v for k, v in a.extra.items() if k != "id"}) for a in kept), own)


def varied(rendered: Rendered, labels: tuple[Annotation, ...], augment: Mapping[str, Any]) -> tuple[Rendered, tuple[Annotation, ...]]:
    """Image and labels after the record's policy; drawn again where the object that was made would leave the image."""
    policy, boxed = augment["policy"], [a for a in labels if a.bbox_xywh is not None]
    height, width = rendered.pixels.shape[:2]
    boxes = [xywh_to_xyxy(a.bbox_xywh) for a in boxed if a.bbox_xywh is not None]
    masks = [mask_of(a.extra.get("segmentation"), width, height) for a in boxed] if moves(policy) else None
    for attempt in range(TRIES):
        found = vary(rendered.pixels, boxes, policy, seed=derive_seed(augment["seed"], attempt), masks=masks)
        if not boxes:
            high, wide = found.pixels.shape[:2]
            return replace(rendered, pixels=found.pixels, box_xyxy=(0.0, 0.0, float(wide), float(high))), labels
        own = found.boxes_xyxy[-1]
        if own is not None:
            moved = tuple(after(a, b, m) for a, b, m in zip(boxed, found.boxes_xyxy, found.masks, strict=True) if b is not None)
            return replace(rendered, pixels=found.pixels, box_xyxy=own), moved if moves(policy) else labels
    raise InvalidRequest(f"augment: in {TRIES} draws the object left the image each time; use a gentler policy")


def after(label: Annotation, box: BoxXyxy, mask: NDArray[np.bool_] | None) -> Annotation:
    """A label that has moved: what its source said of its old place is dropped."""
    extra = {k: v for k, v in label.extra.items() if k not in PLACED}
    if mask is not None:
        extra |= {"segmentation": run_lengths(mask), "area": int(mask.sum())}
    return replace(label, bbox_xywh=xyxy_to_xywh(box), extra=extra)


def draw(view: DatasetView, record: Provenance) -> tuple[Rendered, Codec]:
    background, codec = fetch(view, record.background["sample"]) if record.background else (None, None)
    exemplar, exemplar_codec = fetch(view, record.exemplar["sample"]) if record.exemplar else (None, None)
    mixed, _ = fetch(view, record.mixed["sample"]) if record.mixed else (None, None)
    order = Order(
        mode=record.mode,
        label=view.classes.index_of(view.classes.id_of(record.class_name)),
        seed=record.seed,
        novelty=record.novelty,
        box_xyxy=record.box_xyxy,
        background=background,
        exemplar=exemplar,
        exemplar_box_xyxy=box_of(record.exemplar),
        mixed=mixed,
        mixed_box_xyxy=box_of(record.mixed),
        truncation=record.truncation,
        towards=(record.towards["seed"], record.towards["share"]) if record.towards else None,
    )
    generator = served(view.catalogue.settings, record.model_uri) if record.model_uri else None
    rendered = render(generator, order)
    return rendered, codec or exemplar_codec or Codec("PNG", "RGB")


def box_of(part: Mapping[str, Any] | None) -> BoxXyxy | None:
    return None if part is None else (part["box_xyxy"][0], part["box_xyxy"][1], part["box_xyxy"][2], part["box_xyxy"][3])


def fetch(view: DatasetView, sample: str) -> tuple[NDArray[np.uint8], Codec]:
    known = view.by_id.get(sample)
    if known is None:
        raise SourceChanged(f"sample {sample!r} is not in this version of {view.dataset!r} any more")
    return view.pixels(known)
