"""What a generator learns from, what chooses its best moment and what judges it: windows of a view's objects, no image in two of the three."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from longtail.boxes import xywh_to_xyxy
from longtail.errors import InvalidRequest
from longtail.gates import MIN_TO_JUDGE
from longtail.samples import Split
from trainers.dataset import DatasetView, ObjectRef, to_lay_elsewhere
from trainers.device import as_tensor
from trainers.render import SERVED_MARGIN
from trainers.upscale import CROP_PX, WORTH, crops
from trainers.windows import Instance, Windows, cut_windows, join, on_grounds, resize

WINDOWS_PER_INSTANCE = 6
MOST_INSTANCES = 400
"""Of each class and part; fewer where there are so many classes that memory would not hold their windows."""
MOST_EMPTY = 40
MOST_OTHERS, LEAST_OF_ANOTHER = 300, 2
"""Objects of the classes that are not learned, in all and of each class that is looked at, half of all of one: by them a label is told from
what it might be taken for."""
OTHERS_AT_ONCE = 16
"""Whole images of them in memory."""
MOST_CROPS, HELD_CROPS = 256, 48
LEAST_TO_STEER = 8
"""Held-out objects that steer the augmentation's strength; with fewer it stays at `UNJUDGED_STRENGTH`."""
UNJUDGED_STRENGTH = 0.3
"""Where runs that are steered mostly end."""


class TrainingData:
    """Windows of the classes: several an instance to train on, one an instance to compare with, and those held out.

    Of the held-out images some choose (checkpoint, augmentation strength) and the others judge. `val` is None where they are too few to
    tell what the critic memorises; `shown` are the windows that pictures are made of. `counts` are all training objects of each class,
    those that a border cuts off as well.
    """

    def __init__(
        self, train: list[Instance], select: list[Instance], judging: list[Instance], names: dict[int, str], *, resolution: int, whole: bool, seed: int,
        counts: Mapping[int, int],
    ) -> None:  # fmt: skip
        self.names, self.counts = names, counts
        count = 1 if whole else max(1, min(WINDOWS_PER_INSTANCE, most_windows(resolution) // max(1, len(train))))
        self.windows = cut(train, resolution, count, seed, whole)
        self.singles = cut(train, resolution, 1, seed, whole, fixed=True)
        none = self.singles.subset(torch.zeros(0, dtype=torch.long))
        self.select, self.judging = (cut(part, resolution, 1, seed, whole, fixed=True) if part else none for part in (select, judging))
        self.val = cut(select, resolution, 1, seed, whole) if len(select) >= LEAST_TO_STEER else None
        self.shown = self.singles if self.val is None else self.val
        sides = [max(x1 - x0, y1 - y0) * (1 if whole else SERVED_MARGIN) for x0, y0, x1, y1 in (i.box_xyxy for i in train)]
        large = float(np.median(sides)) > WORTH * resolution
        sharp, held = (train, judging) if judging else apart(train)
        self.crops, self.held_crops = (
            crops([i.image for i in part], [i.box_xyxy for i in part], size=CROP_PX, count=count, seed=seed)
            for part, count in ((sharp if large else [], MOST_CROPS), (held if large else [], HELD_CROPS))
        )

    @property
    def strength(self) -> float:
        """Of the augmentation, as a run begins."""
        return UNJUDGED_STRENGTH if self.val is None else 0.0

    @classmethod
    def of(cls, view: DatasetView, classes: list[str], *, resolution: int, seed: int) -> TrainingData:
        names = {view.classes.index_of(view.classes.id_of(c)): c for c in classes}
        held = halve(list(view.objects("val", classes=classes)), seed=seed)
        parts: dict[str, list[ObjectRef]] = {"train": list(view.objects("train", classes=classes)), "select": held[0], "judging": held[1]}
        counts = Counter(o.label for o in parts["train"])
        cutouts: dict[str, list[Instance]] = {}
        rng = np.random.default_rng(seed)
        whole = False
        for part, found in parts.items():
            whole = whole or any(o.sample.annotations[o.position].bbox_xywh is None for o in found)
            most = max(1, min(MOST_INSTANCES, most_windows(resolution) // len(names)))
            keep = []
            for label in names:
                keep += drawn([o for o in found if o.label == label], most, rng)
            cutouts[part] = [view.instance(o) for o in keep]
            if part != "select" and not whole:
                cutouts[part] = on_own_grounds(view, keep, cutouts[part], rng, split="train" if part == "train" else "val")
        for label, name in names.items():
            if not any(i.label == label for i in cutouts["train"]):
                raise InvalidRequest(f"class {name!r} has no training instance in {view.dataset!r}; there is nothing to learn from")
        return cls(cutouts["train"], cutouts["select"], cutouts["judging"], names, resolution=resolution, whole=whole, seed=seed, counts=counts)


def others_of(view: DatasetView, classes: Sequence[str], *, resolution: int, seed: int) -> Windows | None:
    """One window each of training objects of the classes that are not learned, as many of each, of some of them where there are very many; None of none."""
    found = of_other_classes(view, classes, np.random.default_rng(seed))
    whole = any(o.sample.annotations[o.position].bbox_xywh is None for o in found)
    parts = []
    for i in range(0, len(found), OTHERS_AT_ONCE):
        some = [Instance(view.pixels(o.sample)[0], o.box_xyxy, o.label) for o in found[i : i + OTHERS_AT_ONCE]]
        parts.append(cut(some, resolution, 1, seed, whole, fixed=True))
    return functools.reduce(join, parts) if parts else None


def of_other_classes(view: DatasetView, classes: Sequence[str], rng: np.random.Generator) -> list[ObjectRef]:
    by_label: dict[int, list[ObjectRef]] = {}
    names = [name for name in view.names if name not in classes]
    for o in view.objects("train", classes=names) if names else ():
        by_label.setdefault(o.label, []).append(o)
    labels = sorted(by_label)
    shown = [labels[i] for i in sorted(rng.permutation(len(labels))[: MOST_OTHERS // LEAST_OF_ANOTHER])]
    return [o for label in shown for o in drawn(by_label[label], MOST_OTHERS // max(2, len(shown)), rng)]


def drawn(found: list[ObjectRef], most: int, rng: np.random.Generator) -> list[ObjectRef]:
    """So many of them at most, none that a border cuts off where there are others."""
    mine = to_lay_elsewhere(found)
    return [mine[i] for i in sorted(rng.permutation(len(mine))[:most])]


def apart(found: list[Instance]) -> tuple[list[Instance], list[Instance]]:
    """The instances without those of every tenth image, and those: where no split is held out, something has to be."""
    images = list(dict.fromkeys(id(i.image) for i in found))
    held = set(images[::10]) if len(images) > 1 else set()
    return [i for i in found if id(i.image) not in held], [i for i in found if id(i.image) in held]


def on_own_grounds(view: DatasetView, found: list[ObjectRef], instances: list[Instance], rng: np.random.Generator, *, split: Split) -> list[Instance]:
    """The instances with places of their size in the images that they come from, or in images of the split without any label."""
    empty = [s for s in view.real(split) if not s.annotations]
    samples = list({o.sample.id: o.sample for o in found}.values()) + [empty[i] for i in rng.permutation(len(empty))[:MOST_EMPTY]]
    occupied = [[xywh_to_xyxy(a.bbox_xywh) for a in s.annotations if a.bbox_xywh is not None] for s in samples]
    return on_grounds(instances, [view.pixels(s)[0] for s in samples], occupied, rng)


def most_windows(resolution: int) -> int:
    """How many windows are held in memory: 4,000 of 64 px, fewer of larger ones."""
    return max(400, 4000 * 64**2 // max(64, resolution) ** 2)


def halve(found: list[ObjectRef], *, seed: int) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """(objects that choose, objects that judge), no image in both: half of the images judge, or more where a class needs it.

    A class that is too small to be halved judges whole; what chooses is then compared with training objects.
    """
    ids = sorted({o.sample.id for o in found})
    left = Counter({label: min(MIN_TO_JUDGE, count) for label, count in Counter(o.label for o in found).items()})
    judging: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(ids)):
        if len(judging) >= (len(ids) + 1) // 2 and not +left:
            break
        judging.add(ids[i])
        left.subtract(o.label for o in found if o.sample.id == ids[i])
    return [o for o in found if o.sample.id not in judging], [o for o in found if o.sample.id in judging]


def cut(instances: list[Instance], resolution: int, count: int, seed: int, whole: bool, *, fixed: bool = False) -> Windows:
    """Windows around boxes, or each whole image squeezed to a square where the image itself is the object."""
    if not whole:
        return cut_windows(instances, resolution=resolution, per_instance=count, seed=seed, fixed=fixed)
    images = as_tensor(np.stack([resize(i.image, resolution) for i in instances])).permute(0, 3, 1, 2).contiguous()
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(instances), 1)
    return Windows.plain(images, boxes, torch.tensor([i.label for i in instances]), torch.arange(len(instances)))
