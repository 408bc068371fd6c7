"""Detections matched to objects image by image, so that average precision can be asked of any resample of the images.

Average precision of a whole split is faster-coco-eval's (`average_precision`); this gives the same figure for any weights of the
images, thousands of times, for the bootstrap. Rules are COCO's: detections by descending score, each to the best free object at
that IoU, 101 points of recall.
Shape legend: I images, D detections of a class, T IoU thresholds, W weightings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.uplift.average_precision import Detections
from trainers.uplift.packing import packed, unpacked

Floats = NDArray[np.float64]
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of an image that count, over all of its classes' own: COCO's limit, per class."""
Truth = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True)
class Matches:
    """One class over all images: detections by descending score, the image of each [D], which found an object [T,D]; objects an image [I]."""

    image: NDArray[np.intp]
    found: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def average_precision(self, weights_WI: NDArray[np.floating], *, thresholds: int = len(IOUS)) -> Floats:
        """[W,T] at the first so many thresholds: average precision where image i counts `weights_WI[w, i]` times; nan where no object counts."""
        each = weights_WI[:, self.image]
        wanted = weights_WI @ self.objects
        values = np.full((len(weights_WI), thresholds), np.nan)
        seen = np.cumsum(each, axis=1)
        for t, hit in enumerate(self.found[:thresholds]):
            right = np.cumsum(each * hit, axis=1)
            for w in np.flatnonzero(wanted > 0):
                values[w, t] = area(right[w], seen[w], float(wanted[w]))
        return values


def figures_of(names: Sequence[str], rare: Sequence[str] = ()) -> dict[str, Callable[[Sequence[Matches], NDArray[np.floating]], Floats]]:
    """What is asked of a run, from its matches of every class and weights [W,I], each [W].

    AP and AP50 over the classes; AP over the rare ones, where they are named; AP50 of each.
    """

    known: dict[tuple[int, int], tuple[Matches, NDArray[np.floating], Floats]] = {}

    def taken(one: Matches, weights: NDArray[np.floating]) -> Floats:
        """A class's average precision [W,T], taken once for the same weights; both are kept, so that their ids stay theirs."""
        key = id(one), id(weights)
        if key not in known:
            known[key] = one, weights, one.average_precision(weights)
        return known[key][2]

    def mean(run: Sequence[Matches], weights: NDArray[np.floating], labels: Sequence[int], thresholds: int) -> Floats:
        values = np.stack([taken(run[k], weights)[:, :thresholds].mean(1) for k in labels])
        seen = np.isfinite(values)
        found: Floats = np.where(seen.any(0), np.where(seen, values, 0).sum(0) / np.maximum(seen.sum(0), 1), np.nan)
        return found

    def of(labels: Sequence[int], thresholds: int) -> Callable[[Sequence[Matches], NDArray[np.floating]], Floats]:
        return functools.partial(mean, labels=labels, thresholds=thresholds)

    every = range(len(names))
    starved = {"AP/rare": of([names.index(n) for n in rare], len(IOUS))} if rare else {}
    return {"AP": of(every, len(IOUS)), **starved, "AP50": of(every, 1), **{f"AP50/{name}": of([k], 1) for k, name in enumerate(names)}}


def area(right_D: Floats, seen_D: Floats, wanted: float) -> float:
    """Mean precision at 101 recalls, from how many detections were right and how many there were, best first."""
    if not len(seen_D):
        return 0.0
    precision = right_D / np.maximum(seen_D, np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right_D / wanted, RECALLS, side="left")
    return float(np.where(at < len(envelope), envelope[np.minimum(at, len(envelope) - 1)], 0.0).mean())


def match(truth: Sequence[Truth], found: Sequence[Detections], *, classes: int) -> list[Matches]:
    """Of each class, over the same images: `truth` is (boxes [K,4] xyxy, labels [K]), `found` (boxes, scores, labels), an image each."""
    every = []
    for label in range(classes):
        images, scores, hits, objects = [], [], [], []
        for i, ((boxes, labels), (seen, score, said)) in enumerate(zip(truth, found, strict=True)):
            mine, order = boxes[labels == label], np.argsort(-score[said == label], kind="stable")[:MOST]
            candidates = seen[said == label][order]
            objects.append(len(mine))
            images.append(np.full(len(order), i))
            scores.append(score[said == label][order])
            hits.append(matched(overlaps(candidates, mine)))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        every.append(Matches(np.concatenate(images)[order], np.concatenate(hits, 1)[:, order], np.array(objects)))
    return every


def matched(overlap_DK: Floats) -> NDArray[np.bool_]:
    """[T,D]: whether each detection, best first, finds a free object at each threshold."""
    hits = np.zeros((len(IOUS), len(overlap_DK)), dtype=bool)
    for t, least in enumerate(IOUS):
        free = np.ones(overlap_DK.shape[1], dtype=bool)
        for d, row in enumerate(overlap_DK):
            open_row = np.where(free, row, -1.0)
            if len(row) and open_row.max() >= least - 1e-10:
                free[int(open_row.argmax())] = False
                hits[t, d] = True
    return hits


def overlaps(a_D4: Floats, b_K4: Floats) -> Floats:
    """IoU [D,K] of boxes xyxy."""
    low, high = np.maximum(a_D4[:, None, :2], b_K4[None, :, :2]), np.minimum(a_D4[:, None, 2:], b_K4[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    sizes = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a_D4, b_K4)]
    found: Floats = shared / np.maximum(sizes[0][:, None] + sizes[1][None] - shared, 1e-12)
    return found


def pack(run: Sequence[Matches]) -> str:
    """The matches as text, a few kilobytes a hundred images: a compressed archive in base64."""
    arrays: dict[str, NDArray[Any]] = {}
    for k, m in enumerate(run):
        arrays |= {f"image{k}": m.image.astype(np.uint16), f"found{k}": np.packbits(m.found, axis=0), f"objects{k}": m.objects.astype(np.uint16)}
    return packed(arrays)


def unpack(text: str) -> list[Matches]:
    arrays = unpacked(text)
    found = []
    for k in range(len(arrays) // 3):
        hits = np.unpackbits(arrays[f"found{k}"], axis=0, count=len(IOUS)).astype(bool)
        found.append(Matches(arrays[f"image{k}"].astype(np.intp), hits, arrays[f"objects{k}"].astype(np.int64)))
    return found
