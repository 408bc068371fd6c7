"""Outlines of the procedurally drawn objects: each kind returns polygons about the origin, about 1 in radius, whose union it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]
"""Corners [N, 2], x and y."""
Silhouette = list[Polygon]
TURN = 2 * math.pi


def polar(radius: NDArray[np.float64] | float, angles: NDArray[np.float64]) -> Polygon:
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def round_about(count: int = 60) -> NDArray[np.float64]:
    return np.linspace(0, TURN, count, endpoint=False)


def ellipse(rng: np.random.Generator) -> Silhouette:
    return [polar(1.0, round_about())]


def blob(rng: np.random.Generator) -> Silhouette:
    """A closed curve whose radius is a short random Fourier series: lobes, dents, kidneys."""
    angles = round_about(72)
    radius = np.ones_like(angles)
    for frequency in range(2, 7):
        radius += rng.normal(0, 0.3 / frequency) * np.cos(frequency * angles + rng.uniform(0, TURN))
    return [polar(np.clip(radius, 0.3, 1.6), angles)]


def polygon(rng: np.random.Generator) -> Silhouette:
    return [polar(1.0, np.sort(rng.uniform(0, TURN, int(rng.integers(3, 8)))))]


def lobed(rng: np.random.Generator) -> Silhouette:
    """Two to five discs along a bent line, each touching the next."""
    place, heading = np.zeros(2), rng.uniform(0, TURN)
    discs = []
    for _ in range(int(rng.integers(2, 6))):
        radius = rng.uniform(0.3, 0.55)
        discs.append(polar(radius, round_about(30)) * rng.uniform(0.8, 1.2, 2) + place)
        heading += rng.normal(0, 0.9)
        place = place + radius * rng.uniform(1.1, 1.6) * np.array([math.cos(heading), math.sin(heading)])
    return centred(discs)


def cluster(rng: np.random.Generator) -> Silhouette:
    """Three to nine grains that lie close together."""
    return centred([blob(rng)[0] * rng.uniform(0.15, 0.4) + rng.normal(0, 0.45, 2) for _ in range(int(rng.integers(3, 10)))])


def crack(rng: np.random.Generator) -> Silhouette:
    """A thin line that wanders, with up to three branches."""
    spine, width = wandering(rng, np.zeros(2), rng.uniform(0, TURN), length=2.4), rng.uniform(0.05, 0.14)
    strokes = [stroke(rng, spine, width)]
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(2, len(spine) - 2))
        along = spine[at + 1] - spine[at]
        heading = math.atan2(along[1], along[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        strokes.append(stroke(rng, wandering(rng, spine[at], heading, length=rng.uniform(0.5, 1.2)), width * 0.7))
    return centred(strokes)


def scratch(rng: np.random.Generator) -> Silhouette:
    """One to three straight, thin strokes side by side."""
    strokes = []
    for _ in range(int(rng.integers(1, 4))):
        x, y = np.linspace(-1.3, 1.3, 8) * rng.uniform(0.6, 1), rng.normal(0, 0.25)
        strokes.append(stroke(rng, np.stack([x, np.full(8, y) + x * rng.normal(0, 0.05)], 1), rng.uniform(0.03, 0.09)))
    return centred(strokes)


def crescent(rng: np.random.Generator) -> Silhouette:
    bite = rng.uniform(0.3, 0.8)
    outer = polar(1.0, np.linspace(0.4, TURN - 0.4, 30))
    inner = polar(bite, np.linspace(TURN - 0.9, 0.9, 20)) + np.array([1 - bite, 0.0])
    return [np.concatenate([outer, inner])]


def wandering(rng: np.random.Generator, start: Polygon, heading: float, *, length: float) -> Polygon:
    """A line of 14 points from `start` that keeps its heading loosely."""
    steps = heading + np.cumsum(rng.normal(0, 0.25, 13))
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(polar(length / 13, steps), 0)])


def stroke(rng: np.random.Generator, line: Polygon, width: float) -> Polygon:
    """A line with a width that varies along it and narrows to its ends."""
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    half = (width * rng.uniform(0.5, 1.5, len(line)) * np.sin(np.linspace(0.3, math.pi - 0.3, len(line))))[:, None]
    return np.concatenate([line + across * half, (line - across * half)[::-1]])


def centred(polygons: Silhouette) -> Silhouette:
    """Moved to the origin and brought to a radius of about 1."""
    points = np.concatenate(polygons)
    middle, reach = (points.min(0) + points.max(0)) / 2, (points.max(0) - points.min(0)).max() / 2
    return [(p - middle) / max(reach, 1e-6) for p in polygons]


KINDS: tuple[Callable[[np.random.Generator], Silhouette], ...] = (ellipse, blob, polygon, lobed, cluster, crack, scratch, crescent)
