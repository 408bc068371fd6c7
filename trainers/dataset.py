"""A version's images and objects as arrays, for training, planning and judging."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infra.formats.segmentation import mask_in
from infra.images import Codec, decode
from longtail.boxes import UNCUT, BoxXyxy, Sides, area, on_border, xywh_to_xyxy, xyxy_to_xywh
from longtail.datasets import ClassMap
from longtail.samples import Annotation, Sample, Task
from trainers.cutout import estimated_outline
from trainers.render import Painter
from trainers.weights import served
from trainers.windows import Instance, box_pixels

if TYPE_CHECKING:
    from infra.catalogue import Catalogue
    from infra.database import Row

CACHED_BYTES = 256 << 20
LEAST_CUT_PX, MOST_CUT = 4, 0.5
"""What a border cuts off is laid against others if it is no narrower than this, and no larger than this share of its image."""


@dataclass(frozen=True)
class ObjectRef:
    """One labelled object: its sample, which annotation it is, its box in pixels, its class index."""

    sample: Sample
    position: int
    box_xyxy: BoxXyxy
    label: int

    @property
    def key(self) -> str:
        return f"{self.sample.id}#{self.position}"

    @property
    def beside(self) -> list[tuple[BoxXyxy, int]]:
        """The boxes of the other objects of its image, with their categories."""
        return boxed([a for i, a in enumerate(self.sample.annotations) if i != self.position])

    @property
    def cut(self) -> Sides:
        """The borders of the image that cut through it, as far as its box tells."""
        if self.sample.annotations[self.position].bbox_xywh is None:
            return UNCUT
        return on_border(self.box_xyxy, self.sample.width, self.sample.height)

    @property
    def cut_off(self) -> bool:
        """Whether any border does: laid away from it, it would end in a straight edge."""
        return any(self.cut)


def boxed(annotations: Sequence[Annotation]) -> list[tuple[BoxXyxy, int]]:
    """(box, category) of each that has a box."""
    return [(xywh_to_xyxy(a.bbox_xywh), a.category_id) for a in annotations if a.bbox_xywh is not None]


def outline_of(found: ObjectRef) -> NDArray[np.bool_] | None:
    """What the object's mask covers of its box's pixels, where its source has one that shows something."""
    mask = mask_in(found.sample.annotations[found.position].extra, found.sample.width, found.sample.height)
    if mask is None:
        return None
    left, top, right, bottom = box_pixels(found.box_xyxy)
    seen = mask[top:bottom, left:right].copy()
    return seen if seen.any() else None


def to_lay_on_borders(found: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Those that may be laid into other images, there where a border cuts them off if one does; all of them where none may.

    Of what is cut off no slivers, and nothing that fills its image: it would take the place of another.
    """
    seen = [o for o in found if not o.cut_off or worth_laying(o)]
    return seen or list(found)


def worth_laying(found: ObjectRef) -> bool:
    """Whether enough of it is seen, and of its image beside it."""
    sides, whole = xyxy_to_xywh(found.box_xyxy)[2:], found.sample.width * found.sample.height
    return min(sides) >= LEAST_CUT_PX and area(found.box_xyxy) <= MOST_CUT * whole


def to_lay_elsewhere(found: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Those that no border cuts off; all of them where every one is."""
    return [o for o in found if not o.cut_off] or list(found)


class DatasetView:
    """One version, its real samples, and their pixels through a small cache."""

    def __init__(self, catalogue: Catalogue, dataset: str, version: Row) -> None:
        self.catalogue, self.dataset, self.version = catalogue, dataset, version
        self.classes: ClassMap = catalogue.classes(dataset)
        self.task: Task = catalogue.task(dataset)
        self.samples: list[Sample] = list(catalogue.samples(dataset, version))
        self.by_id = {s.id: s for s in self.samples}
        self.max_pixels = catalogue.settings.max_image_pixels
        self._cache: OrderedDict[str, tuple[NDArray[np.uint8], Codec]] = OrderedDict()
        self._cached = 0
        self._estimates: dict[str, NDArray[np.bool_] | None] = {}
        self.looked: dict[tuple[int, str, bool, int], Any] = {}  # what trainers/bank.py has seen of it

    def painter(self, uri: str) -> Painter:
        """The generator stored at `uri`."""
        return served(self.catalogue.settings, uri)

    def read(self, sample: Sample) -> bytes:
        """The sample's file. Raises SourceChanged if it is no longer what was registered."""
        return self.catalogue.objects.read(sample.uri, etag=sample.etag)

    @property
    def names(self) -> list[str]:
        return [self.classes.names[c] for c in sorted(self.classes.names)]

    def instance(self, found: ObjectRef) -> Instance:
        """The object with its outline: its source's, or one estimated from box and pixels where that can be told."""
        pixels, _ = self.pixels(found.sample)
        outline = outline_of(found)
        if outline is not None or found.sample.annotations[found.position].bbox_xywh is None:
            return Instance(pixels, found.box_xyxy, found.label, outline=outline)
        if found.key not in self._estimates:
            self._estimates[found.key] = estimated_outline(pixels, found.box_xyxy, [b for b, _ in found.beside])
        return Instance(pixels, found.box_xyxy, found.label, outline=self._estimates[found.key], estimated=True)

    def real(self, split: str) -> list[Sample]:
        return [s for s in self.samples if s.split == split and s.origin == "real"]

    def pixels(self, sample: Sample) -> tuple[NDArray[np.uint8], Codec]:
        """The sample's image and how it was stored. Raises SourceChanged if it is no longer what was registered."""
        if sample.id in self._cache:
            self._cache.move_to_end(sample.id)
            return self._cache[sample.id]
        found = decode(self.read(sample), what=sample.uri, max_pixels=self.max_pixels)
        self._cache[sample.id] = found
        self._cached += found[0].nbytes
        while self._cached > CACHED_BYTES and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1][0].nbytes
        return found

    def objects(self, split: str, *, classes: Sequence[str] | None = None) -> Iterator[ObjectRef]:
        """Every real labelled object of the split; a whole image where a class has no box. Crowds are left out."""
        wanted = None if classes is None else {self.classes.id_of(c) for c in classes}
        for sample in self.real(split):
            for position, a in enumerate(sample.annotations):
                if (wanted is not None and a.category_id not in wanted) or a.extra.get("iscrowd"):
                    continue
                whole = (0.0, 0.0, float(sample.width), float(sample.height))
                box = xywh_to_xyxy(a.bbox_xywh) if a.bbox_xywh is not None else whole
                yield ObjectRef(sample, position, box, self.classes.index_of(a.category_id))
