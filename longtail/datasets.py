"""Class maps and the health of a version: who is there, and who is rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from longtail.boxes import BoxXywh
from longtail.errors import InvalidRequest
from longtail.samples import SPLITS, Sample

RARE_SHARE = 0.34
"""A class is rare when it has fewer than this share of the largest class's training instances."""
TINY_PX = 8
"""A box whose longer side is smaller than this has too few pixels to learn from."""
TRAINABLE = 5
"""With fewer training instances than this there is little to learn of a class: it is laid in new places as it is."""
THIN_PX = 2
"""A box whose shorter side is smaller, or that reaches further than SLACK_PX out of its image, is degenerate."""
SLACK_PX = 1
NUMBERS = ("unlabelled", "synthetic_images")
LISTS = ("instances", "images", "sides", "centres", "repeated", "degenerate")
GRID = 8
"""Box centres are counted on a grid of GRID x GRID cells of the image."""


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


@dataclass
class Tally:
    """Counts that add up: what a version holds is what its parent holds and what its batches bring.

    `instances`, `images` and `repeated` are keyed by (class id, split); `sides` by (class id, longer side of the box in whole pixels);
    `centres` by (class id, row, column) of a grid over the image; `degenerate` by (class id,).
    """

    samples: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)
    """Objects that were made, by class; `synthetic_images` show one or more of them each."""
    synthetic_images: int = 0
    unlabelled: int = 0
    instances: Counter[tuple[int, str]] = field(default_factory=Counter)
    images: Counter[tuple[int, str]] = field(default_factory=Counter)
    sides: Counter[tuple[int, int]] = field(default_factory=Counter)
    centres: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    repeated: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Instances that an inpainted image shows again because its background has them; its own come last."""
    degenerate: Counter[tuple[int]] = field(default_factory=Counter)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        """One pass of the samples."""
        tally = cls()
        for sample in samples:
            tally.add(sample)
        return tally

    def add(self, sample: Sample) -> None:
        split = sample.split
        self.samples[split] += 1
        self.unlabelled += not sample.annotations
        for a in sample.annotations:
            self.instances[a.category_id, split] += 1
            if a.bbox_xywh is not None and sample.width:
                x, y, w, h = a.bbox_xywh
                self.sides[a.category_id, round(max(w, h))] += 1
                self.degenerate[(a.category_id,)] += min(w, h) < THIN_PX or reach(a.bbox_xywh, sample.width, sample.height) > SLACK_PX
                row, column = ((y + h / 2) / sample.height, (x + w / 2) / sample.width)
                self.centres[a.category_id, cell(row), cell(column)] += 1
        for category_id in {a.category_id for a in sample.annotations}:
            self.images[category_id, split] += 1
        if sample.provenance is not None:
            made = len(sample.provenance.layers)
            self.synthetic[sample.provenance.class_name] += made
            self.synthetic_images += 1
            for a in sample.annotations[:-made]:
                self.repeated[a.category_id, split] += 1

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{n: getattr(self, n) + getattr(other, n) for n in (*NUMBERS, "samples", "synthetic", *LISTS)})

    def __sub__(self, other: Tally) -> Tally:
        """What is left when samples that were counted are taken away."""
        return Tally(**{n: getattr(self, n) - getattr(other, n) for n in (*NUMBERS, "samples", "synthetic", *LISTS)})

    def to_json(self) -> dict[str, Any]:
        """Counters with keys of several parts become lists of [part, ..., count]."""
        lists = {n: [[*key, count] for key, count in sorted(getattr(self, n).items())] for n in LISTS}
        return {"samples": dict(self.samples), "synthetic": dict(self.synthetic), **{n: getattr(self, n) for n in NUMBERS}, **lists}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        lists = {n: Counter({tuple(row[:-1]): row[-1] for row in body.get(n, [])}) for n in LISTS}
        made = body.get("synthetic_images", sum(body["synthetic"].values()))  # before an image had several, objects were images
        return cls(samples=Counter(body["samples"]), synthetic=Counter(body["synthetic"]), synthetic_images=made, unlabelled=body["unlabelled"], **lists)


def reach(box: BoxXywh, width: int, height: int) -> float:
    """How far a box reaches out of its image, in pixels; negative where it lies inside."""
    x, y, w, h = box
    return max(-x, -y, x + w - width, y + h - height)


def cell(share: float) -> int:
    return min(GRID - 1, max(0, int(share * GRID)))


@dataclass(frozen=True)
class ClassHealth:
    """Counts of one class. Sizes are of boxes, longer side in whole pixels; None where there are no boxes.

    `own` is the training instances less those that inpainted images repeat from their backgrounds: what rarity, targets
    and the floor for invention count. `lacking` is how many an expansion to the threshold of rarity would add.
    """

    name: str
    instances: Mapping[str, int]
    own: int
    images: Mapping[str, int]
    synthetic: int
    rare: bool
    trainable: bool
    lacking: int
    median_side_px: float | None
    smallest_side_px: float | None
    largest_side_px: float | None
    tiny: int
    degenerate: int
    sides_px: Mapping[int, int]
    centres: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Health:
    """What a version holds, per class and split. `imbalance` is the largest class's training instances over the smallest's."""

    images: Mapping[str, int]
    synthetic_images: int
    unlabelled_images: int
    imbalance: float | None
    classes: tuple[ClassHealth, ...]

    @property
    def rare(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes if c.rare)


def health(tally: Tally, classes: ClassMap) -> Health:
    """What a person wants to know of the counts."""
    train = {c: own(tally, c) for c in classes.names}
    largest, smallest = max(train.values(), default=0), min(train.values(), default=0)
    return Health(
        images={split: tally.samples[split] for split in SPLITS},
        synthetic_images=tally.synthetic_images,
        unlabelled_images=tally.unlabelled,
        imbalance=largest / smallest if smallest else None,
        classes=tuple(class_health(tally, c, name, largest) for c, name in sorted(classes.names.items())),
    )


def own(tally: Tally, category_id: int) -> int:
    """Training instances that are not shown again from another image."""
    return tally.instances[category_id, "train"] - tally.repeated[category_id, "train"]


def class_health(tally: Tally, category_id: int, name: str, largest: int) -> ClassHealth:
    sides = {side: count for (c, side), count in sorted(tally.sides.items()) if c == category_id}
    train = own(tally, category_id)
    wanted = -int(-RARE_SHARE * largest // 1)
    return ClassHealth(
        name=name,
        instances={split: tally.instances[category_id, split] for split in SPLITS},
        own=train,
        images={split: tally.images[category_id, split] for split in SPLITS},
        synthetic=tally.synthetic[name],
        rare=train < RARE_SHARE * largest,
        trainable=train >= TRAINABLE,
        lacking=max(0, wanted - train),
        median_side_px=median_of(sides),
        smallest_side_px=min(sides, default=None),
        largest_side_px=max(sides, default=None),
        tiny=sum(count for side, count in sides.items() if side < TINY_PX),
        degenerate=tally.degenerate[(category_id,)],
        sides_px=sides,
        centres=tuple(tuple(tally.centres[category_id, row, column] for column in range(GRID)) for row in range(GRID)),
    )


def median_of(counts: Mapping[int, int]) -> float | None:
    """The median of values counted in ascending order of value; None of none."""
    total = sum(counts.values())
    middle = [(total - 1) // 2, total // 2]
    found, seen = [], 0
    for value, count in counts.items():
        found += [value for m in middle if seen <= m < seen + count]
        seen += count
    return sum(found) / 2 if found else None
