"""Real objects as feature vectors: what samples are compared with. Crops of train and val, by class, and of bare ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy, intersection, xywh_to_xyxy
from longtail.gates import SEAM_FLOOR, SEAM_SHARE
from trainers.dataset import DatasetView
from trainers.quality.consistency import Classifier, fit
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

    `views` are other looks at the training crops of some classes, mirrored and cropped, each in the order of `of(label, train=True)`;
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

    def classifier(self) -> Classifier:
        """Fitted on the training crops alone, at most `PER_CLASS` of a class, so that none outweighs the others."""
        index = np.concatenate([np.flatnonzero(self.is_train & (self.labels == c))[:PER_CLASS] for c in range(self.num_classes + 1)])
        return fit(self.vectors[index], self.labels[index], classes=self.num_classes + 1)

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


def build_bank(view: DatasetView, *, whole: frozenset[int] = frozenset(), seed: int = 0) -> Bank:
    """Up to `PER_CLASS` objects of each class and split, and crops of ground where no object is.

    Of the classes in `whole` every training object, up to `MOST_COMPARED`, mirrored and cropped as well: a copy must not escape by luck.
    """
    rng = np.random.default_rng(seed)
    crops: list[Pixels] = []
    keys: list[str] = []
    labels: list[int] = []
    is_train: list[bool] = []
    steps: list[float] = []
    for split in ("train", "val"):
        found = list(view.objects(split))
        for label in range(len(view.names)):
            mine = [o for o in found if o.label == label]
            most = MOST_COMPARED if split == "train" and label in whole else PER_CLASS
            for i in sorted(rng.permutation(len(mine))[:most]):
                pixels, _ = view.pixels(mine[i].sample)
                crops.append(crop(pixels, mine[i].box_xyxy))
                steps.append(real_step(pixels, mine[i].box_xyxy))
                keys.append(mine[i].key)
                labels.append(label)
                is_train.append(split == "train")
    ground = ground_crops(view, rng)
    crops += ground
    keys += [f"ground#{i}" for i in range(len(ground))]
    labels += [len(view.names)] * len(ground)
    is_train += [True] * len(ground)
    views = {label: [features(look) for look in looks([c for c, n, t in zip(crops, labels, is_train, strict=True) if n == label and t])] for label in whole}
    steps += [0.0] * len(ground)
    vectors = features(crops)
    return Bank(vectors, tuple(keys), np.array(labels, dtype=np.int64), np.array(is_train), len(view.names), views, np.array(steps, dtype=np.float32))


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
