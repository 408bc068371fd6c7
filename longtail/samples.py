"""A sample is an image with its annotations; a synthetic one also carries where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from longtail.boxes import BoxXywh
from longtail.errors import Conflict

Split = Literal["train", "val", "test"]
Origin = Literal["real", "synthetic"]
Mode = Literal["synthesis", "inpaint", "copy_paste", "enlarge"]
Task = Literal["detection", "classification"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SOURCE_BATCH = "source"
"""The batch of a dataset's first registration; looking at the source again brings `source-JOB`."""


def is_source(batch: str) -> bool:
    """Whether a batch holds what lies at the source, rather than what was made."""
    return batch == SOURCE_BATCH or batch.startswith(f"{SOURCE_BATCH}-")


DIGITAL_SOURCE_TYPES: dict[Mode, str] = {
    "synthesis": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    "inpaint": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
    "copy_paste": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeCapture",
    "enlarge": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced",
}


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One label. `category_id` is the source's own; `bbox_xywh` in pixels, None for a whole-image class.

    `extra` holds every other field of the source record, unchanged, so that an export gives it back.
    """

    category_id: int
    bbox_xywh: BoxXywh | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"category_id": self.category_id, "bbox": self.bbox_xywh, "extra": dict(self.extra)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        return cls(category_id=body["category_id"], bbox_xywh=tuple(body["bbox"]) if body["bbox"] else None, extra=body["extra"])


RENDERING = 3
"""Raised whenever the same record would be painted otherwise: 2 since exemplars keep their detail (docs/decisions/020), 3 since what is cut out
of them begins as what is about it (026)."""
INVENTS_FROM = 0.25
"""Up to this novelty a real instance is bent, relit and joined to its new ground, and a latent changes nothing of it; beyond, parts are invented."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is needed to make a synthetic image again. Boxes in pixels of the background, xyxy.

    `novelty` in [0, 1]; `exemplar` names the real instance it starts from, `mixed` a second one of the class that parts of it were
    taken from, `outline` one whose outline alone it was given, `background` the real image it lies in; `augment` is the classical
    policy that the finished image then went through, with its seed. `truncation` bounds the latent's entries; with `towards` (a seed
    and a share) it lies on the arc to another. An enlarged image is `factor` times the exemplar's, in whose pixels its box then is.
    Where several objects were added to one image, each is painted on what the record `beneath` it made, all on one background.
    `rendering` says how: records of another number than today's cannot be made again.
    """

    mode: Mode
    class_name: str
    seed: int
    novelty: float
    model: str | None
    model_version: int | None
    model_uri: str | None
    background: Mapping[str, Any] | None
    exemplar: Mapping[str, Any] | None
    box_xyxy: tuple[float, float, float, float]
    mixed: Mapping[str, Any] | None = None
    outline: Mapping[str, Any] | None = None
    truncation: float | None = None
    towards: Mapping[str, Any] | None = None
    factor: int | None = None
    augment: Mapping[str, Any] | None = None
    beneath: Provenance | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    rendering: int = RENDERING

    @property
    def layers(self) -> tuple[Provenance, ...]:
        """The records of every object that was added, in the order in which they were painted; this one is the last."""
        return (*(self.beneath.layers if self.beneath else ()), self)

    def only(self, kept: Sequence[bool]) -> Provenance | None:
        """The record of the same image with those of its objects alone; None with none of them."""
        found: Provenance | None = None
        for layer, keep in zip(self.layers, kept, strict=True):
            found = replace(layer, beneath=found, augment=None) if keep else found
        return None if found is None else replace(found, augment=self.augment, rendering=RENDERING)

    def check_rendering(self) -> None:
        """Raises Conflict where today's code would paint it otherwise."""
        if self.rendering != RENDERING:
            raise Conflict(f"the sample was painted by rendering {self.rendering}, and this version of Longtail has {RENDERING}: it cannot be made again")

    @property
    def sources(self) -> frozenset[str]:
        """Ids of the real samples that the image is made from."""
        parts = [part for r in self.layers for part in (r.background, r.exemplar, r.mixed, r.outline)]
        return frozenset(str(part["sample"]) for part in parts if part)

    @property
    def instances(self) -> tuple[str, ...]:
        """Keys (`sample#position`) of the real instances that this object starts from."""
        return tuple(f"{part['sample']}#{part['position']}" for part in (self.exemplar, self.mixed) if part)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        box, beneath = body["box_xyxy"], body.get("beneath")
        return cls(**{"rendering": 1, **body, "box_xyxy": (box[0], box[1], box[2], box[3]), "beneath": cls.from_json(beneath) if beneath else None})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a dataset. `path` is relative to the source prefix, `uri` is where the bytes are."""

    id: str
    path: str
    uri: str
    etag: str
    size_bytes: int
    width: int
    height: int
    split: Split
    annotations: tuple[Annotation, ...]
    origin: Origin = "real"
    batch: str = SOURCE_BATCH
    provenance: Provenance | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
