"""Real objects as feature vectors: what samples are compared with. Crops of train and val, by class, and of bare ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy, intersection, xywh_to_xyxy
from longtail.gates import SEAM_FLOOR, SEAM_SHARE
from trainers.dataset import DatasetView
from trainers.quality.consistency import CrossFitted, cross_fit
from trainers.quality.copying import copy_threshold, looks
from trainers.quality.coverage import distances
from trainers.quality.features import features
from trainers.quality.seams import real_step

PER_CLASS = 120
MOST_COMPARED = 3000
"""Training objects of a class that copies of it are looked for among."""
GROUND = 80
CROP_MARGIN = 1.1
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Bank:
    """Features [N,1280] of real crops with their keys, labels (the last class is bare ground) and splits.

    `views` are other looks at the training crops of some classes, mirrored, upside down and cropped, each in the order of `of(label, train=True)`;
    `steps` [N] is how large the step across a ring about each object is, 0 for what is no object.
    """

    vectors: NDArray[np.float32]
    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    is_train: NDArray[np.bool_]
    num_classes: int
    views: Mapping[int, Sequence[NDArray[np.float32]]] = field(default_factory=dict)
    steps: NDArray[np.float32] | None = None

    def of(self, label: int, *, train: bool) -> NDArray[np.float32]:
        return self.vectors[(self.labels == label) & (self.is_train == train)]

    def keys_of(self, label: int, *, train: bool) -> list[str]:
        chosen = (self.labels == label) & (self.is_train == train)
        return [k for k, keep in zip(self.keys, chosen, strict=True) if keep]

    def cross_fitted(self) -> tuple[CrossFitted, dict[str, int]]:
        """(classifiers of the training crops alone, at most `PER_CLASS` of a class, so that none outweighs the others; their rows by key)."""
        index = np.concatenate([np.flatnonzero(self.is_train & (self.labels == c))[:PER_CLASS] for c in range(self.num_classes + 1)])
        fitted = cross_fit(self.vectors[index], self.labels[index], classes=self.num_classes + 1)
        return fitted, {self.keys[i]: row for row, i in enumerate(index.tolist())}

    def seam_limit(self, label: int) -> float:
        """The largest seam, of 255, that the ground about real objects of the class hides."""
        mine = self.labels == label
        if self.steps is None or not mine.any():
            return np.inf
        return max(SEAM_FLOOR, float(np.quantile(self.steps[mine], SEAM_SHARE)))

    def copy_distance(self, label: int) -> float:
        return copy_threshold(self.of(label, train=True), self.of(label, train=False), views=self.views.get(label, ()))

    def nearest(self, vector: NDArray[np.float32], label: int, rows: NDArray[np.intp]) -> tuple[int, float]:
        """(which of the rows of the class's training crops is nearest in any of its views, its distance)."""
        looked_at = (self.of(label, train=True), *self.views.get(label, ()))
        apart = np.min([distances(vector[None], view[rows])[0] for view in looked_at], axis=0)
        return int(rows[apart.argmin()]), float(apart.min())


def crop(pixels: Pixels, box_xyxy: BoxXyxy) -> Pixels:
    """The object's pixels with a little of its surroundings, at least 2x2."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box_xyxy
    grow_x, grow_y = (x1 - x0) * (CROP_MARGIN - 1) / 2, (y1 - y0) * (CROP_MARGIN - 1) / 2
    left, top = max(0, int(x0 - grow_x)), max(0, int(y0 - grow_y))
    right, bottom = min(width, max(left + 2, round(x1 + grow_x))), min(height, max(top + 2, round(y1 + grow_y)))
    return pixels[top:bottom, left:right]


@dataclass(frozen=True)
class Looked:
    """Objects of one class and split as features: what a bank is put together from, kept by the view that they are of."""

    vectors: NDArray[np.float32]
    keys: tuple[str, ...]
    steps: tuple[float, ...]
    views: tuple[NDArray[np.float32], ...] = ()


def build_bank(view: DatasetView, *, whole: frozenset[int] = frozenset(), seed: int = 0) -> Bank:
    """Up to `PER_CLASS` objects of each class and split, and crops of ground where no object is.

    Of the classes in `whole` every training object, up to `MOST_COMPARED`, mirrored, upside down and cropped as well: a copy must not escape by luck.
    """
    every = [(label, train, looked_at(view, label, train=train, whole=train and label in whole, seed=seed))
             for train in (True, False) for label in range(len(view.names))]  # fmt: skip
    every.append((len(view.names), True, looked_ground(view, seed=seed)))
    sizes = [len(one.keys) for _, _, one in every]
    return Bank(
        np.concatenate([one.vectors for _, _, one in every]),
        tuple(key for _, _, one in every for key in one.keys),
        np.repeat(np.array([label for label, _, _ in every], dtype=np.int64), sizes),
        np.repeat(np.array([train for _, train, _ in every]), sizes),
        len(view.names),
        {label: one.views for label, train, one in every if train and label in whole},
        np.array([step for _, _, one in every for step in one.steps], dtype=np.float32),
    )


def looked_at(view: DatasetView, label: int, *, train: bool, whole: bool, seed: int) -> Looked:
    """Objects of a class in train or val: `PER_CLASS` of them, or `MOST_COMPARED` and their other looks."""
    split = "train" if train else "val"
    if (label, split, whole, seed) in view.looked:
        kept: Looked = view.looked[label, split, whole, seed]
        return kept
    mine = [o for o in view.objects(split) if o.label == label]
    chosen = [mine[i] for i in sorted(np.random.default_rng((seed, label, train)).permutation(len(mine))[: MOST_COMPARED if whole else PER_CLASS])]
    crops, steps = [], []
    for o in chosen:
        pixels, _ = view.pixels(o.sample)
        crops.append(crop(pixels, o.box_xyxy))
        steps.append(real_step(pixels, o.box_xyxy))
    views = tuple(features(look) for look in looks(crops)) if whole else ()
    found = Looked(features(crops), tuple(o.key for o in chosen), tuple(steps), views)
    view.looked[label, split, whole, seed] = found
    return found


def looked_ground(view: DatasetView, *, seed: int) -> Looked:
    """Places sized like objects that show none."""
    key = (len(view.names), "train", False, seed)
    if key not in view.looked:
        crops = ground_crops(view, np.random.default_rng(seed))
        view.looked[key] = Looked(features(crops), tuple(f"ground#{i}" for i in range(len(crops))), (0.0,) * len(crops))
    kept: Looked = view.looked[key]
    return kept


def ground_crops(view: DatasetView, rng: np.random.Generator) -> list[Pixels]:
    """Places sized like real objects that overlap none; empty for whole-image classes."""
    boxes = [o for o in view.objects("train") if o.sample.annotations[o.position].bbox_xywh is not None]
    found: list[Pixels] = []
    for _ in range(GROUND * 10 if boxes else 0):
        like = boxes[int(rng.integers(len(boxes)))]
        w, h = like.box_xyxy[2] - like.box_xyxy[0], like.box_xyxy[3] - like.box_xyxy[1]
        if w >= like.sample.width or h >= like.sample.height:
            continue
        x, y = rng.uniform(0, like.sample.width - w), rng.uniform(0, like.sample.height - h)
        box = (x, y, x + w, y + h)
        others = [xywh_to_xyxy(a.bbox_xywh) for a in like.sample.annotations if a.bbox_xywh is not None]
        if all(intersection(box, o) == 0 for o in others):
            found.append(crop(view.pixels(like.sample)[0], box))
        if len(found) == GROUND:
            break
    return found
