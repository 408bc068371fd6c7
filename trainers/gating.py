"""A generator's gates: measured on samples made in held-out contexts, per class, against held-out real objects, and what to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtail.gates import DERIVED_BELOW, MIN_INSTANCES_TO_INVENT, Gate, class_key, usual_novelty
from longtail.recipes import Aim
from longtail.samples import INVENTS_FROM
from trainers.compose import composite
from trainers.device import random_stream
from trainers.grids import tile, to_uint8
from trainers.networks import Generator
from trainers.quality.consistency import cross_fit, cross_fitted_agreement
from trainers.quality.copying import looks
from trainers.quality.features import features
from trainers.quality.gates import Evidence, copies_of, gates_of, worst
from trainers.quality.inception import Fid, fid_of
from trainers.quality.kid import kid
from trainers.quality.parts import Repeated, Repeats, likeness
from trainers.render import visibility
from trainers.scenes import complete_in_parts, served_scene
from trainers.windows import Windows

Floats = NDArray[np.float32]
Crops = list[NDArray[np.uint8]]
SAMPLES = 100
"""Those that a gate looks at."""
INVENTED = 0.8
"""The novelty at which copying of any training object counts: by then next to nothing of an exemplar is left."""
MOST = 150
COLUMNS = 12
SERVED_MIXED_FROM, SERVED_MIXED_SHARE = 0.3, 0.5
"""From which novelty on, below 1, how many of the product's samples take parts of a second instance: as trainers/planning.py has it, which sees datasets."""


@dataclass(frozen=True)
class Made:
    """Samples of one class: images [N,3,R,R] in [-1, 1], their boxes [N,4], the training instance each began from [N], what was there before;
    the boxes of what was to be painted [N,4], which may be less than a box that was drawn wide about its object; the instance that parts of
    each were taken from [N], where none were the same that it began from. What would be there if the generator painted nothing, what is cut away
    `filled` with the colours about it, and if nothing were cut away, the exemplar `pasted` in the same place and shape [N,3,R,R]."""

    images: Tensor
    boxes: Tensor
    owners: Tensor
    before: Tensor
    painted: Tensor
    mixed: Tensor
    filled: Tensor
    pasted: Tensor


@torch.no_grad()
def samples_of(
    generator: Generator, train: Windows, contexts: Windows, label: int, *, count: int, novelty: float, seed: int, bare: bool = False,
    mirrored: bool | None = None, mixed: bool = False,
) -> Made:  # fmt: skip
    """The class painted into contexts of its own, held-out ones if there are any; `bare` says that no object lies in them.

    `mixed` takes parts of a second instance as often as the product does.
    """
    random = random_stream(seed)
    mine = train.by_class()[label]
    source = contexts if label in contexts.by_class() else train
    places = source.by_class()[label]
    at = places[torch.randint(len(places), (count,), generator=random)]
    first = torch.randint(len(mine), (count,), generator=random)
    chosen, second = mine[first], mine[second_of(first, len(mine), novelty, seed)] if mixed else None
    scene = served_scene(train, chosen, source, at, novelty, random, occupied=not bare, mirrored=mirrored, second=second)
    latent = torch.randn(count, generator.config.latent, generator=random)
    beside = train.instances[chosen if second is None else second]
    image, soft = scene.image_B3RR, scene.soft_B1RR
    return Made(
        complete_in_parts(generator, scene, latent), source.boxes[at], train.instances[chosen], image, extents(scene.box_B1RR), beside,
        filled=composite(image, scene.base(), torch.zeros(()), soft), pasted=composite(image, scene.exemplar_B3RR, torch.zeros(()), soft),
    )  # fmt: skip


def second_of(first: Tensor, known: int, novelty: float, seed: int) -> Tensor:
    """Of so many instances of a class one for each of the first to take parts from: another for some, the same for those that none are taken for."""
    random = random_stream(seed + 1)
    mixes = (torch.rand(len(first), generator=random) < SERVED_MIXED_SHARE) & (SERVED_MIXED_FROM <= novelty < 1) & (known > 1)
    return torch.where(mixes, (first + torch.randint(1, max(2, known), first.shape, generator=random)) % known, first)


def extents(map_B1RR: Tensor) -> Tensor:
    """The box about what is set in each map, [B,4] as fractions."""
    size, found = map_B1RR.shape[-1], []
    for one in map_B1RR[:, 0] > 0:
        rows, columns = torch.nonzero(one.any(1))[:, 0], torch.nonzero(one.any(0))[:, 0]
        ends = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [torch.zeros(())] * 4
        found.append(torch.stack([e.float() for e in ends]) / size)
    return torch.stack(found)


def overlaps_of(made: Made, images: Tensor) -> Floats:
    """[N]: the IoU of the box about what changed with the box of what was to be painted, were these what was made."""
    found = []
    for before, after, box in zip(made.before, images, (made.painted * images.shape[-1]).tolist(), strict=True):
        found.append(visibility(to_uint8(before), to_uint8(after), (box[0], box[1], box[2], box[3]))[1])
    return np.array(found, dtype=np.float32)


def object_crops(images: torch.Tensor, boxes: torch.Tensor) -> Crops:
    """The label's box of each image in [-1, 1], as uint8."""
    size = images.shape[-1]
    crops = []
    for image, box in zip(images, boxes, strict=True):
        x0, y0 = (int(v * size) for v in box[:2])
        x1, y1 = max(x0 + 4, round(float(box[2]) * size)), max(y0 + 4, round(float(box[3]) * size))
        crops.append(to_uint8(image[:, y0:y1, x0:x1]))
    return crops


def window_features(windows: Windows, label: int, *, most: int) -> tuple[Floats, torch.Tensor]:
    """(features of the objects of a class, which instance each is): one window an instance."""
    index = first_of(windows, label, most=most)
    return features(object_crops(windows.floats(index), windows.boxes[index])), windows.instances[index]


def window_crops(windows: Windows, label: int) -> Crops:
    index = first_of(windows, label, most=MOST)
    return object_crops(windows.floats(index), windows.boxes[index])


def first_of(windows: Windows, label: int, *, most: int) -> torch.Tensor:
    return windows.by_class().get(label, torch.zeros(0, dtype=torch.long))[:most]


@dataclass(frozen=True)
class Judged:
    """The gates of every class, the pictures that they name, FID where its features are installed, and the novelty that each class's gates looked at."""

    gates: list[Gate]
    pictures: dict[str, NDArray[np.uint8]]
    fids: list[Fid] = field(default_factory=list)
    novelties: dict[str, float] = field(default_factory=dict)

    def told(self) -> list[dict[str, Any]]:
        """The gates as JSON, each with its novelty."""
        return [g.to_json() | {"novelty": self.novelties[g.class_name]} for g in self.gates]


class Judge:
    """Scores a generator during training on `select`, and gates it at the end on `val`, which chose nothing.

    All have one window an instance; no image is in both `select` and `val`.
    """

    def __init__(
        self, train: Windows, select: Windows, val: Windows, names: dict[int, str], *, mirrored: bool | None = None, counts: Mapping[int, int] | None = None,
        others: Windows | None = None, aim: Aim = "restore",
    ) -> None:  # fmt: skip
        """`counts` are the training objects of each class, those that no window shows too: by them it is grown. As many as windows unless told.
        Gates look at each class's usual novelty, or at 1 where the `aim` is to invent (`novelty`).
        `others` are training objects of classes that are not learned, which samples might be taken for all the same."""
        self.train, self.select, self.val, self.names, self.mirrored, self.others = train, select, val, names, mirrored, others
        self.aim, self.smaller = aim, dict[int, Judge]()
        self.real = {c: window_features(train, c, most=MOST) for c in names}
        self.counts = {c: len(found) for c, (found, _) in self.real.items()} if counts is None else counts
        self.novelty = {c: 1.0 if self.invents(c) else usual_novelty(self.counts[c]) for c in names}
        self.chosen_by = {c: window_features(select, c, most=MOST)[0] for c in names}

    def at_size(self, size_px: int) -> Judge:
        """The same judge of windows of a smaller size."""
        if size_px == self.train.images.shape[-1]:
            return self
        if size_px not in self.smaller:
            train, select, val = (w.reduced(size_px) for w in (self.train, self.select, self.val))
            self.smaller[size_px] = Judge(train, select, val, self.names, mirrored=self.mirrored, counts=self.counts, aim=self.aim)
        return self.smaller[size_px]

    def score(self, generator: Generator, size_px: int) -> float:
        """Mean KID over the classes at the novelties that are asked of them, at the size that is trained, lower is better."""
        return self.at_size(size_px)._score(generator)

    def invents(self, label: int) -> bool:
        """Whether it is judged without an exemplar: a generator that is to invent, of a class of which so much is ever made."""
        return self.aim == "invent" and self.counts[label] >= MIN_INSTANCES_TO_INVENT

    def asked(self, label: int) -> tuple[float, float]:
        """The novelties that choose a checkpoint: the one at which the class's gates look, and `INVENTED`."""
        return (self.novelty[label], INVENTED)

    def _score(self, generator: Generator) -> float:
        values = []
        for c in self.names:
            made = [
                samples_of(generator, self.train, self.select, c, count=16, novelty=novelty, seed=7 + i, mirrored=self.mirrored)
                for i, novelty in enumerate(self.asked(c))
            ]
            reference = self.chosen_by[c] if len(self.chosen_by[c]) >= 8 else self.real[c][0]
            fake = features(object_crops(torch.cat([m.images for m in made]), torch.cat([m.boxes for m in made])))
            values.append(kid(reference, fake))
        told = [v for v in values if np.isfinite(v)]  # a class of one instance says nothing, and keeps no other from choosing
        return float(np.mean(told)) if told else math.nan

    def gates(self, generator: Generator) -> Judged:
        """Every gate of every class."""
        vectors, labels = self.known()
        classes = int(labels.max()) + 1
        fitted = cross_fit(vectors, labels, classes=classes) if classes > 1 else None
        agreed = np.zeros(0) if fitted is None else cross_fitted_agreement(fitted, vectors, labels)
        judged = Judged([], {}, novelties={name: self.novelty[c] for c, name in self.names.items()})
        for i, (c, name) in enumerate(self.names.items()):
            made = self.served(generator, self.val, c, novelty=self.novelty[c], seed=11)
            invented = self.invented(generator, c)
            seen = self.evidence(c, name, made, invented)
            if fitted is not None:
                first = int(np.flatnonzero(labels == i)[0])  # rows of a class are in the order of `self.real`
                began = zip(seen.own, self.rows(c, made.mixed), strict=True)
                owners = [[first + row for row in rows if row is not None] for rows in began]
                seen = replace(seen, agreed=fitted.probabilities(seen.fake, owners)[:, i], real_agreed=agreed[labels == i])
            on_ground, places = self.on_ground(generator, c)
            if on_ground is not None:
                overlaps, pasted = (overlaps_of(on_ground, images) for images in (on_ground.images, on_ground.pasted))
                seen = replace(seen, overlaps=overlaps, pasted=pasted, grounds=places)
            self._add(judged, seen, c, made, on_ground, invented)
            fid = fid_of(name, made=object_crops(made.images, made.boxes), train=window_crops(self.train, c), held=window_crops(self.val, c))
            judged.fids.extend([fid] if fid else [])
        return judged

    def known(self) -> tuple[Floats, NDArray[np.int64]]:
        """(features of the real training objects, their class): the classes in order, then those that are not learned, then bare ground where some is known."""
        parts = [self.real[c][0] for c in self.names]
        if self.others is not None:
            parts += [window_features(self.others, c, most=MOST)[0] for c in sorted(self.others.by_class())]
        grounds = self.train.emptied()
        some = torch.randperm(len(grounds), generator=random_stream(3))[:MOST]
        if len(some) >= 2:
            parts.append(features(object_crops(grounds.floats(some), grounds.boxes[some])))
        return np.concatenate(parts), np.concatenate([np.full(len(p), i, dtype=np.int64) for i, p in enumerate(parts)])

    def evidence(self, label: int, name: str, made: Made, invented: Made | None) -> Evidence:
        """What speaks of the class's samples and invented ones by themselves: all but what takes other classes or bare ground."""
        real, _ = self.real[label]
        index = first_of(self.train, label, most=MOST)
        learned = object_crops(self.train.floats(index), self.train.boxes[index])
        held, fake, novel = window_crops(self.val, label), object_crops(made.images, made.boxes), invented and object_crops(invented.images, invented.boxes)
        own = self.rows(label, made.owners)
        derived = self.novelty[label] < DERIVED_BELOW
        repeated = Repeated(
            fake=Repeats.of(likeness(fake, learned), ignore=own if derived else ()), held=Repeats.of(likeness(held, learned)),
            invented=Repeats.of(likeness(novel, learned)) if novel else None,
        )  # fmt: skip
        return Evidence(
            name=name, train=real, views=[features(crops) for crops in looks(learned)], held=features(held), fake=features(fake), own=own,
            invented=features(novel) if novel else None, repeated=repeated, derived=derived,
            filled=features(object_crops(made.filled, made.boxes)) if self.novelty[label] > INVENTS_FROM else None,
        )  # fmt: skip

    def served(self, generator: Generator, contexts: Windows, label: int, *, novelty: float, seed: int, count: int = SAMPLES, bare: bool = False) -> Made:
        """Samples as the product would make them: parts of a second instance taken as often."""
        return samples_of(
            generator, self.train, contexts, label, count=count, novelty=novelty, seed=seed, bare=bare, mirrored=self.mirrored, mixed=True
        )  # fmt: skip

    def rows(self, label: int, instances: Tensor) -> list[int | None]:
        """Which of the training objects that are looked at each is, if any."""
        row_of = {instance: row for row, instance in enumerate(self.real[label][1].tolist())}
        return [row_of.get(instance) for instance in instances.tolist()]

    def invented(self, generator: Generator, label: int) -> Made | None:
        """Samples with next to nothing of an exemplar in them; None of a class that is too small for the product to invent."""
        if self.counts[label] < MIN_INSTANCES_TO_INVENT:
            return None
        return self.served(generator, self.val, label, novelty=INVENTED, seed=13)

    def on_ground(self, generator: Generator, label: int) -> tuple[Made | None, int]:
        """(samples on bare ground, by which is seen where a change lies, on how many held-out places); None where no ground of the class is known.

        Where none is held out they lie on the training images', which counts for no place.
        """
        held = self.val.emptied()
        grounds = [w for w in (held, self.train.emptied()) if label in w.by_class()]
        if not grounds:
            return None, 0
        made = self.served(generator, grounds[0], label, novelty=self.novelty[label], seed=12, bare=True)
        return made, len(held.by_class().get(label, ()))

    def _add(self, judged: Judged, seen: Evidence, label: int, made: Made, on_ground: Made | None, invented: Made | None) -> None:
        for gate in gates_of(seen):
            path = f"gates/{label}-{class_key(seen.name)}/{gate.name}.png"
            shown = invented if invented is not None and gate.name == "copying" and copies_of(seen).invented else made
            rows = self._rows(seen, gate.name, label, shown, on_ground)
            if rows:
                judged.pictures[path] = tile(rows)
            judged.gates.append(replace(gate, pictures=path if rows else ""))

    def _rows(self, seen: Evidence, gate: str, label: int, made: Made, on_ground: Made | None) -> list[Tensor]:
        """What a gate's picture shows, worst first: samples over what they are compared with; of overlap, samples over their ground."""
        if gate == "overlap" and on_ground is not None and seen.overlaps is not None:
            order = torch.from_numpy(seen.overlaps.argsort()[:COLUMNS].copy())
            return [framed(on_ground.images[order], on_ground.boxes[order]), on_ground.before[order]]
        beside = self.train if gate == "copying" else self.val
        if label not in beside.by_class():
            return []
        first, second = (torch.from_numpy(index[:COLUMNS].copy()) for index in worst(seen, gate))
        shown = beside.by_class()[label][:MOST]
        if gate == "coverage":
            return [beside.floats(shown[first]), made.images[second]]
        return [made.images[first], beside.floats(shown[second])]


def framed(images: Tensor, boxes: Tensor) -> Tensor:
    """Images [N,3,R,R] with their boxes [N,4] drawn."""
    images, size = images.clone(), images.shape[-1]
    for image, box in zip(images, boxes, strict=True):
        x0, y0, x1, y1 = (min(size - 1, max(0, round(float(v) * size))) for v in box)
        image[:, y0 : y1 + 1, [x0, x1]] = 1.0
        image[:, [y0, y1], x0 : x1 + 1] = 1.0
    return images
