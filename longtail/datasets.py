"""Class maps and the health of a version: who is there, and who is rare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from longtail.errors import InvalidRequest
from longtail.samples import SPLITS, Sample

RARE_SHARE = 0.34
"""A class is rare when it has fewer than this share of the largest class's training instances."""


@dataclass(frozen=True)
class ClassMap:
    """Category ids and names exactly as the source has them."""

    names: Mapping[int, str]

    def id_of(self, name: str) -> int:
        for category_id, known in self.names.items():
            if known == name:
                return category_id
        raise InvalidRequest(f"unknown class {name!r}; this dataset has {sorted(self.names.values())}")

    def index_of(self, category_id: int) -> int:
        """Position of the class in ascending order of id, as YOLO and the networks count."""
        return sorted(self.names).index(category_id)


@dataclass(frozen=True)
class ClassHealth:
    """Counts of one class. Sizes are of boxes, longer side in pixels; None where there are no boxes."""

    name: str
    instances: Mapping[str, int]
    images: Mapping[str, int]
    synthetic: int
    rare: bool
    median_side_px: float | None
    smallest_side_px: float | None


@dataclass(frozen=True)
class Health:
    """What a version holds, per class and split."""

    images: Mapping[str, int]
    synthetic_images: int
    unlabelled_images: int
    classes: tuple[ClassHealth, ...]

    @property
    def rare(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes if c.rare)


def health(samples: Iterable[Sample], classes: ClassMap) -> Health:
    """Counts over one pass of the samples."""
    images: dict[str, int] = dict.fromkeys(SPLITS, 0)
    instances: dict[int, dict[str, int]] = {c: dict.fromkeys(SPLITS, 0) for c in classes.names}
    holding: dict[int, dict[str, int]] = {c: dict.fromkeys(SPLITS, 0) for c in classes.names}
    synthetic = dict.fromkeys(classes.names, 0)
    sides: dict[int, list[float]] = {c: [] for c in classes.names}
    made = unlabelled = 0
    for sample in samples:
        images[sample.split] += 1
        made += sample.origin == "synthetic"
        unlabelled += not sample.annotations
        for annotation in sample.annotations:
            instances[annotation.category_id][sample.split] += 1
            if annotation.bbox_xywh is not None:
                sides[annotation.category_id].append(max(annotation.bbox_xywh[2:]))
        for category_id in {a.category_id for a in sample.annotations}:
            holding[category_id][sample.split] += 1
        if sample.provenance is not None:
            synthetic[classes.id_of(sample.provenance.class_name)] += 1
    largest = max((counts["train"] for counts in instances.values()), default=0)
    return Health(
        images=images,
        synthetic_images=made,
        unlabelled_images=unlabelled,
        classes=tuple(
            ClassHealth(
                name=name,
                instances=instances[c],
                images=holding[c],
                synthetic=synthetic[c],
                rare=instances[c]["train"] < RARE_SHARE * largest,
                median_side_px=median(sides[c]) if sides[c] else None,
                smallest_side_px=min(sides[c]) if sides[c] else None,
            )
            for c, name in sorted(classes.names.items())
        ),
    )
