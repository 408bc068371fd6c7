"""COCO's outlines: polygons, and run lengths in the open or packed into text. Checked, drawn as masks, made of masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from longtail.errors import InvalidRequest

POLYGON = 6
"""Numbers of a polygon's three corners: a YOLO line with fewer is a box."""


def check_segmentation(found: Any, width: int, height: int, *, what: str) -> None:
    """Raises InvalidRequest, naming `what`, unless it is nothing, polygons, or run lengths that fill the image.

    A width of 0 means that the image's size is not known yet.
    """
    if found is None or found == []:
        return
    if isinstance(found, list):
        for polygon in found:
            if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) < 4 or not all(is_number(v) for v in polygon):
                raise InvalidRequest(f"{what}: expected a polygon as [x, y, x, y, ...] in pixels, found {str(polygon)[:60]}")
        return
    size, counts = (found.get("size"), found.get("counts")) if isinstance(found, dict) else (None, None)
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, list | str):
        raise InvalidRequest(f"{what}: expected a segmentation of polygons, or {{'size', 'counts'}}, found {str(found)[:60]}")
    if width and size != [height, width]:
        raise InvalidRequest(f"{what}: run lengths of {size[1]}x{size[0]} pixels, the image has {width}x{height}")
    runs = list(counts) if isinstance(counts, list) else list(unpacked(counts, what=what))
    if not all(isinstance(n, int) and n >= 0 for n in runs) or sum(runs) != size[0] * size[1]:
        raise InvalidRequest(f"{what}: run lengths do not add up to {size[1]}x{size[0]} pixels")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unpacked(text: str, *, what: str) -> Iterator[int]:
    """Run lengths of COCO's packed text: six bits a character from "0" on, five of value and one that says more follow.

    From the third on each is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise InvalidRequest(f"{what}: {character!r} is no character of packed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
        yield runs[-1]
    if shift:
        raise InvalidRequest(f"{what}: packed run lengths end in the middle of a number")


def mask_of(found: Any, width: int, height: int) -> NDArray[np.bool_] | None:
    """The outline drawn as a mask [height, width]; None of nothing."""
    if not found:
        return None
    if isinstance(found, list):
        canvas = Image.new("1", (width, height))
        for polygon in found:
            ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=1, outline=1)
        return np.asarray(canvas, dtype=bool)
    counts = found["counts"] if isinstance(found["counts"], list) else list(unpacked(found["counts"], what="segmentation"))
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def mask_in(extra: Mapping[str, Any], width: int, height: int) -> NDArray[np.bool_] | None:
    """The mask that a source's record has of its object, as COCO writes it or as a polygon in YOLO's fractions; None where it has none."""
    fractions = [float(v) for v in str(extra.get("yolo", "")).split()]
    if len(fractions) >= POLYGON:
        corners = [v * (height if i % 2 else width) for i, v in enumerate(fractions)]
        return mask_of([corners], width, height)
    return mask_of(extra.get("segmentation"), width, height)


def has_mask(extra: Mapping[str, Any]) -> bool:
    """Whether a source's record says more of its object than a box."""
    return bool(extra.get("segmentation")) or len(str(extra.get("yolo", "")).split()) >= POLYGON


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": list(mask.shape), "counts": [int(c) for c in (counts if counts[-1] else counts[:-1])]}
