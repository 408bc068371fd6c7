"""Every filter of a batch: those that look at features (trainers/judging.py), and one that looks for pixels of training objects, whole or in part."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from infra.images import decode
from infra.tables import batched
from longtail.gates import DERIVED_BELOW
from longtail.samples import Provenance
from trainers.bank import PER_CLASS, crop
from trainers.dataset import DatasetView
from trainers.filters import Verdict
from trainers.judging import Finished, judge_made
from trainers.quality.parts import Repeated, Repeats, likeness, squeezed

Crop = NDArray[np.uint8]
CHUNK = 32
"""Samples whose objects are compared at once."""
MOST = 300
"""So many of a class's training objects every sample is compared with, and beside them with those that it began from."""


@dataclass(frozen=True)
class Known:
    """Training objects of a class by their keys, and how near to one of them a sample repeats it: not at all where that cannot be told."""

    crops: dict[str, Crop]
    near: float


_known: WeakKeyDictionary[DatasetView, dict[int, Known]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Painted:
    """An object of a sample: which sample's, where among its objects, its record and its pixels."""

    sample: int
    position: int
    record: Provenance
    pixels: Crop


def judged(view: DatasetView, samples: Sequence[Finished]) -> list[Verdict]:
    """A verdict for each, in order, by all filters."""
    return without_repeats(view, samples, judge_made(view, samples))


def without_repeats(view: DatasetView, samples: Sequence[Finished], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts, in order, objects that repeat what the generator learned from refused; what each lacks of repeating is its figure `apart`.

    Its exemplars are excused where the filter of copies excuses them (`DERIVED_BELOW`).
    """
    found = list(verdicts)
    for chunk in batched(enumerate(samples), CHUNK):
        made = [one for i, sample in chunk for one in objects_made(view, sample, index=i)]
        for class_name in sorted({one.record.class_name for one in made}):
            painted = [one for one in made if one.record.class_name == class_name]
            known = known_of(view, view.classes.index_of(view.classes.id_of(class_name)))
            if known.near == 0:
                continue
            like, keys = likeness_but_excused(view, painted, known)
            repeats = Repeats.of(like)
            for one, apart, index in zip(painted, repeats.apart.tolist(), repeats.index.tolist(), strict=True):
                found[one.sample] = measured(found[one.sample], one, apart, known.near, keys[index])
    return found


def objects_made(view: DatasetView, sample: Finished, *, index: int = 0) -> list[Painted]:
    """The objects of the sample, which is the batch's `index`th."""
    pixels, _ = decode(sample.data, what=sample.record.class_name, max_pixels=view.max_pixels)
    each = zip(sample.record.layers, sample.objects, strict=True)
    return [Painted(index, position, layer, crop(pixels, seen.box_xyxy).copy()) for position, (layer, seen) in enumerate(each)]


def likeness_but_excused(view: DatasetView, painted: Sequence[Painted], known: Known) -> tuple[NDArray[np.floating[Any]], list[str]]:
    """(likeness [F,N] as `parts.likeness` says, the N objects' keys); -1 for what others alone began from, and for what a sample derives from by design."""
    objects = dict(known.crops)
    for one in painted:
        objects |= begun_from(view, one.record, known=objects)
    found = likeness([p.pixels for p in painted], list(objects.values()))
    for one, like in zip(painted, found, strict=True):
        derives = one.record.novelty < DERIVED_BELOW
        like[[(derives if key in one.record.instances else key not in known.crops) for key in objects]] = -1
    return found, list(objects)


def begun_from(view: DatasetView, record: Provenance, *, known: Container[str]) -> dict[str, Crop]:
    """The real objects that the record names, by key, but for those that are known."""
    named = zip(record.instances, [part for part in (record.exemplar, record.mixed) if part], strict=True)
    return {key: squeezed(crop(view.pixels(view.by_id[part["sample"]])[0], part["box_xyxy"])) for key, part in named if key not in known}


def measured(verdict: Verdict, one: Painted, apart: float, near: float, nearest: str) -> Verdict:
    """The verdict with what is known of one of its objects; where several repeat something, it names what is repeated most closely."""
    least = verdict.figures.get("apart", np.inf)
    figures = {**verdict.figures, "apart": min(apart, least)}
    if apart >= near:
        return replace(verdict, figures=figures)
    stay = tuple(stays and k != one.position for k, stays in enumerate(verdict.objects))
    reasons = tuple(dict.fromkeys((*verdict.reasons, "copy")))
    refused = replace(verdict, accepted=False, reasons=reasons, objects=stay, figures=figures)
    if apart > least or nearest == verdict.nearest:
        return refused
    figures.pop("nearest_distance", None)  # another object's, by its features
    return replace(refused, nearest=nearest)


def known_of(view: DatasetView, label: int) -> Known:
    """The training objects of a class, judged by held-out ones, or among themselves where fewer than two are; kept as long as the view."""
    mine = _known.setdefault(view, {})
    if label not in mine:
        crops = {key: squeezed(pixels) for key, pixels in some_objects(view, label, "train", MOST)}
        held = [pixels.copy() for _, pixels in some_objects(view, label, "val", PER_CLASS)]
        mine[label] = Known(crops, near_of(held, list(crops.values())))
    return mine[label]


def near_of(held: list[Crop], crops: list[Crop]) -> float:
    if not crops:
        return 0.0
    if len(held) >= 2:
        alike = Repeats.of(likeness(held, crops))
    else:
        rows = np.random.default_rng(0).permutation(len(crops))[:PER_CLASS].tolist()
        alike = Repeats.of(likeness([crops[row] for row in rows], crops), ignore=rows)
    return Repeated(alike, alike).near


def some_objects(view: DatasetView, label: int, split: str, most: int) -> Iterator[tuple[str, Crop]]:
    """Up to so many objects of the class, image by image: key and pixels of each."""
    mine = [o for o in view.objects(split) if o.label == label]
    for i in sorted(np.random.default_rng((0, label)).permutation(len(mine))[:most]):
        yield mine[i].key, crop(view.pixels(mine[i].sample)[0], mine[i].box_xyxy)
