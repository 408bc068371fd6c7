"""Makes samples from their records: fetches what a record names, renders, encodes as the background was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.formats.outlines import written
from infra.formats.segmentation import mask_in
from infra.images import CONTENT_TYPES, SUFFIXES, Codec, encode, stored_format
from longtail.boxes import BoxXyxy, xywh_to_xyxy, xyxy_to_xywh
from longtail.errors import InvalidRequest, SourceChanged
from longtail.policies import moves
from longtail.samples import Annotation, Provenance, Sample
from longtail.seeds import derive_seed
from trainers.classical import vary
from trainers.dataset import DatasetView, ObjectRef
from trainers.render import Order, Rendered, render
from trainers.windows import Instance, box_pixels

TRIES = 8
UNSEEN = 0.8
"""An object of which so much is painted over is no more to be found, and its label goes."""
PLACED = ("segmentation", "area", "yolo", "voc")
"""Fields of a source's annotation that say where it is."""


@dataclass(frozen=True)
class Made:
    """A finished sample: its objects as the renderer left them, the last one's pixels being the image's; its labels, its file."""

    objects: tuple[Rendered, ...]
    labels: tuple[Annotation, ...]
    """Every object that is seen in it: the background's own, then those that were made."""
    data: bytes
    suffix: str
    content_type: str

    @property
    def size_wh(self) -> tuple[int, int]:
        """Of the image, in pixels."""
        height, width = self.objects[-1].pixels.shape[:2]
        return width, height


def make(view: DatasetView, sample_id: str, record: Provenance) -> Made:
    """The sample of this record, the same pixels each time. Raises SourceChanged where a source is not what it was."""
    objects, codec = draw(view, record)
    hides = [o.hides for o in objects if o.hides is not None]
    labels = labels_of(view, record, [o.outline for o in objects], painted=np.logical_or.reduce(hides) if hides else None)
    if record.augment:
        objects, labels = varied(objects, labels, record.augment)
    data = encode(objects[-1].pixels, codec, provenance=record, sample_id=sample_id)
    kind = stored_format(codec)
    return Made(tuple(objects), labels, data, SUFFIXES[kind], CONTENT_TYPES[kind])


def labels_of(
    view: DatasetView, record: Provenance, outlines: Sequence[NDArray[np.bool_] | None], *, painted: NDArray[np.bool_] | None = None
) -> tuple[Annotation, ...]:
    """The background's own labels, cut where new objects cover them, then the new objects', each with its mask where it has one.

    A label goes where what it says can no longer be seen: `painted` [H,W] says where the background is not.
    Of an enlarged image all that the real one has, the object that it was enlarged for last.
    """
    if record.factor is not None and record.exemplar is not None:
        real, position = view.by_id[record.exemplar["sample"]], record.exemplar["position"]
        others = [a for i, a in enumerate(real.annotations) if i != position]
        return tuple(enlarged(a, real, record.factor) for a in (*others, real.annotations[position]))
    kept = view.by_id[record.background["sample"]].annotations if record.background else ()
    seen = [a for a in kept if painted is None or not gone(a, painted)]
    left = [replace(a, extra={k: v for k, v in a.extra.items() if k != "id"}) for a in seen]
    for layer, outline in zip(record.layers, outlines, strict=True):
        behind = (a if outline is None else covered(a, outline) for a in left)
        left = [*(a for a in behind if a is not None), label_of(view, layer, outline)]
    return tuple(left)


def gone(label: Annotation, painted: NDArray[np.bool_]) -> bool:
    """Whether of an object next to nothing is left: of its mask, or of the ellipse in its box. A crowd stays."""
    if label.bbox_xywh is None or label.extra.get("iscrowd"):
        return False
    left, top, right, bottom = box_pixels(xywh_to_xyxy(label.bbox_xywh))
    inside, (height, width) = painted[top:bottom, left:right], painted.shape
    if inside.mean() < 0.5:  # most of them, at no cost: what is seen no more fills more of its box than that
        return False
    shape = mask_in(label.extra, width, height)
    if shape is None:
        rows, columns = np.ogrid[-1 : 1 : inside.shape[0] * 1j, -1 : 1 : inside.shape[1] * 1j]
        return float(inside[rows**2 + columns**2 <= 1].mean()) >= UNSEEN
    return bool(shape.any()) and float(painted[shape].mean()) >= UNSEEN


def label_of(view: DatasetView, record: Provenance, outline: NDArray[np.bool_] | None) -> Annotation:
    """The label of the object that a record adds."""
    category = view.classes.id_of(record.class_name)
    whole = view.task == "classification"
    began = record.exemplar or record.outline
    like = view.by_id[began["sample"]].annotations[began["position"]].extra if began else {}
    drawn = {} if outline is None or whole else written(outline, like)
    if "segmentation" in drawn:
        drawn["iscrowd"] = 0
    return Annotation(category_id=category, bbox_xywh=None if whole else xyxy_to_xywh(record.box_xyxy), extra=drawn)


def enlarged(label: Annotation, sample: Sample, factor: int) -> Annotation:
    """A label of a real image where it lies in the enlarged one."""
    extra = {k: v for k, v in label.extra.items() if k not in (*PLACED, "id")}
    mask = mask_in(label.extra, sample.width, sample.height)
    if mask is not None and mask.any():
        extra |= written(mask.repeat(factor, 0).repeat(factor, 1), label.extra)
    if label.bbox_xywh is None:
        return replace(label, extra=extra)
    x, y, w, h = (factor * v for v in label.bbox_xywh)
    return replace(label, bbox_xywh=(x, y, w, h), extra=extra)


def covered(label: Annotation, outline: NDArray[np.bool_]) -> Annotation | None:
    """What is still seen of a masked object behind the new one; None if nothing is."""
    height, width = outline.shape
    mask = mask_in(label.extra, width, height)
    if mask is None or not (mask & outline).any():
        return label
    mask = mask & ~outline
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = float(columns[0]), float(rows[0]), float(columns[-1] + 1 - columns[0]), float(rows[-1] + 1 - rows[0])
    extra = {k: v for k, v in label.extra.items() if k not in PLACED}
    return replace(label, bbox_xywh=box, extra=extra | written(mask, label.extra))


def varied(objects: Sequence[Rendered], labels: tuple[Annotation, ...], augment: Mapping[str, Any]) -> tuple[list[Rendered], tuple[Annotation, ...]]:
    """Image and labels after the record's policy; drawn again where an object that was made would leave the image. The last object shows it."""
    policy, boxed, pixels = augment["policy"], [a for a in labels if a.bbox_xywh is not None], objects[-1].pixels
    height, width = pixels.shape[:2]
    boxes = [xywh_to_xyxy(a.bbox_xywh) for a in boxed if a.bbox_xywh is not None]
    masks = [mask_in(a.extra, width, height) for a in boxed] if moves(policy) else None
    for attempt in range(TRIES):
        found = vary(pixels, boxes, policy, seed=derive_seed(augment["seed"], attempt), masks=masks)
        if not boxes:
            high, wide = found.pixels.shape[:2]
            return [replace(objects[-1], pixels=found.pixels, box_xyxy=(0.0, 0.0, float(wide), float(high)))], labels
        own = [b for b in found.boxes_xyxy[-len(objects) :] if b is not None]
        if len(own) == len(objects):
            moved = tuple(after(a, b, m) for a, b, m in zip(boxed, found.boxes_xyxy, found.masks, strict=True) if b is not None)
            return [replace(o, pixels=found.pixels, box_xyxy=b) for o, b in zip(objects, own, strict=True)], moved if moves(policy) else labels
    raise InvalidRequest(f"augment: in {TRIES} draws an object left the image each time; use a gentler policy")


def after(label: Annotation, box: BoxXyxy, mask: NDArray[np.bool_] | None) -> Annotation:
    """A label that has moved: what its source said of its old place is dropped."""
    extra = {k: v for k, v in label.extra.items() if k not in PLACED}
    if mask is not None and mask.any():
        extra |= written(mask, label.extra)
    return replace(label, bbox_xywh=xyxy_to_xywh(box), extra=extra)


def draw(view: DatasetView, record: Provenance) -> tuple[list[Rendered], Codec]:
    """(what each added object made of the image, in their order; how the background was stored)."""
    before: list[Rendered] = []
    background, codec = fetch(view, record.background["sample"]) if record.background else (None, None)
    if record.beneath is not None:
        before, codec = draw(view, record.beneath)
        background = before[-1].pixels
    exemplar, exemplar_codec = instance_of(view, record.exemplar or record.outline)
    order = Order(
        mode=record.mode,
        label=view.classes.index_of(view.classes.id_of(record.class_name)),
        seed=record.seed,
        novelty=record.novelty,
        box_xyxy=record.box_xyxy,
        background=background,
        exemplar=exemplar,
        mixed=instance_of(view, record.mixed)[0],
        truncation=record.truncation,
        factor=record.factor,
        towards=(record.towards["seed"], record.towards["share"]) if record.towards else None,
    )
    painter = view.painter(record.model_uri) if record.model_uri else None
    if record.factor is not None and exemplar is not None:
        check_size(exemplar.image, record, view.max_pixels)
    return [*before, render(painter, order)], codec or exemplar_codec or Codec("PNG", "RGB")


def check_size(pixels: NDArray[np.uint8], record: Provenance, most: int) -> None:
    """Raises InvalidRequest where an enlarged image would be larger than Longtail reads."""
    height, width = (side * (record.factor or 1) for side in pixels.shape[:2])
    if width * height > most:
        raise InvalidRequest(f"mode 'enlarge': {width}x{height} pixels would be more than the {most} that are read; use factor 2, or smaller images")


def instance_of(view: DatasetView, part: Mapping[str, Any] | None) -> tuple[Instance | None, Codec | None]:
    """A real object that a record names, with its outline, and how its image was stored."""
    if part is None:
        return None, None
    _, codec = fetch(view, part["sample"])
    x0, y0, x1, y1 = part["box_xyxy"]
    return view.instance(ObjectRef(view.by_id[part["sample"]], part["position"], (x0, y0, x1, y1), 0)), codec


def fetch(view: DatasetView, sample: str) -> tuple[NDArray[np.uint8], Codec]:
    known = view.by_id.get(sample)
    if known is None:
        raise SourceChanged(f"sample {sample!r} is not in this version of {view.dataset!r} any more")
    return view.pixels(known)
