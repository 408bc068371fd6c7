"""Procedurally drawn objects on textured grounds: the part of the foundation's diet that belongs to nobody.

What an object is made of matters as much as its outline: bodies have light, grain, rims and granules, and hold parts such as lobed
cores; a generator that is fed plain bodies invents plain bodies (docs/lab, 18). Each picture is drawn at twice its size and reduced,
so that edges are smooth. Shape legend: S side of the canvas in pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainers.silhouettes import KINDS, Polygon, Silhouette, blob, ellipse, lobed
from trainers.windows import Instance, box_pixels

Field = NDArray[np.float32]
"""[S, S], or [S, S, 3] in 0 to 255."""
SUPERSAMPLE = 2
LEAST_PX = 12
CORES = (ellipse, blob, lobed, lobed)


def draw_instance(rng: np.random.Generator, *, size: int, first_label: int) -> Instance:
    """One picture with a labelled object near its middle, now and then with neighbours of the same kind."""
    kind = int(rng.integers(len(KINDS)))
    big = size * SUPERSAMPLE
    canvas = ground(rng, big)
    color = tone(rng)
    for _ in range(int(rng.integers(0, 4))):
        neighbour = placed(rng, KINDS[kind](rng), rng.uniform(0, big, 2), rng.uniform(0.1, 0.25) * big)
        canvas, _ = painted(rng, canvas, neighbour, jitter(rng, color, 30))
    covered = np.zeros((size, size), dtype=np.bool_)
    while covered.sum() < LEAST_PX:  # a stroke may be too thin to be seen
        outline = placed(rng, KINDS[kind](rng), big * rng.uniform(0.42, 0.58, 2), rng.uniform(0.18, 0.3) * big)
        with_object, weight = painted(rng, canvas, outline, color)
        covered = reduced(weight, size) > 0.5
    blur = float(rng.uniform(0.3, 1.2)) if rng.random() < 0.4 else 0.0
    noise = rng.normal(0, rng.uniform(0, 6), (size, size, 1))
    box = bounds(covered)
    left, top, right, bottom = box_pixels(box)
    return Instance(
        finished(with_object, size, blur, noise), box, first_label + kind,
        outline=covered[top:bottom, left:right], ground=(finished(canvas, size, blur, noise[::-1]), box),
    )  # fmt: skip


def finished(canvas: Field, size: int, blur: float, noise: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture reduced, blurred, with noise."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.LANCZOS)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8)


def ground(rng: np.random.Generator, side: int) -> Field:
    """A texture between two colours: coarse or fine, at times with grain or brushed along one direction."""
    field = texture(rng, side, cells=int(rng.choice([2, 4, 8, 24]))) * rng.uniform(0.05, 0.7)
    if rng.random() < 0.4:
        field = field + texture(rng, side, cells=int(rng.choice([16, 32, 64])), stretch=int(rng.choice([1, 1, 8]))) * rng.uniform(0.05, 0.3)
    first, second = tone(rng).astype(np.float32), tone(rng).astype(np.float32)
    return first + (second - first) * np.clip(field, 0, 1)[..., None]


def texture(rng: np.random.Generator, side: int, *, cells: int, stretch: int = 1) -> Field:
    """Smooth noise about 0.5, mostly in 0 to 1, [S, S] with so many cells across, `stretch` times as long in one direction."""
    few = max(2, cells // stretch)
    cells_xy = (cells, few) if rng.random() < 0.5 else (few, cells)
    return np.asarray(Image.fromarray(rng.random(cells_xy, dtype=np.float32)).resize((side, side), Image.Resampling.BICUBIC))


def painted(rng: np.random.Generator, canvas: Field, outline: Silhouette, color: NDArray[np.float64]) -> tuple[Field, Field]:
    """(canvas with one object on it, what it covers [S, S] in 0 to 1): a body of some material, perhaps with a rim, cores and granules."""
    side = len(canvas)
    covered = filled(outline, side)
    middle, reach = np.concatenate(outline).mean(0), np.ptp(np.concatenate(outline), axis=0).max() / 2
    body = material(rng, side, color, middle, reach)
    if rng.random() < 0.5:
        inner = softened(covered, rng.uniform(0.03, 0.12) * reach)
        edge = np.clip(2 * (1 - inner), 0, 1) * rng.uniform(0.3, 1)
        body += (jitter(rng, color, 80) - body) * edge[..., None]
    for _ in range(int(rng.choice([0, 0, 1, 1, 1, 2, 3]))):
        part = placed(rng, CORES[int(rng.integers(len(CORES)))](rng), middle + rng.normal(0, 0.2, 2) * reach, rng.uniform(0.25, 0.65) * reach)
        weight = softened(filled(part, side), rng.uniform(0.5, 2.0)) * rng.uniform(0.6, 1)
        body += (material(rng, side, jitter(rng, color, 110), middle, reach) - body) * weight[..., None]
    if rng.random() < 0.4:
        grains = texture(rng, side, cells=int(np.clip(side / reach * rng.uniform(4, 9), 8, side // 2))) > rng.uniform(0.6, 0.8)
        body += (jitter(rng, color, 110) - body) * (softened(grains.astype(np.float32), 0.7) * rng.uniform(0.3, 0.9))[..., None]
    thickness = float(covered.sum()) / max(2 * reach, 1.0)
    weight = softened(covered, rng.uniform(0.4, min(3.0, 0.5 + 0.1 * thickness))) * rng.uniform(0.6, 1)
    return canvas + (body - canvas) * weight[..., None], covered


def material(rng: np.random.Generator, side: int, color: NDArray[np.float64], middle: Polygon, reach: float) -> Field:
    """What a body is filled with [S, S, 3]: its colour, lit from somewhere, domed or hollow, with coarse and fine grain."""
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5 - middle[::-1, None, None]) / max(reach, 1.0)
    towards = rng.uniform(0, 2 * math.pi)
    light = rng.normal(0, 18) * (x * math.cos(towards) + y * math.sin(towards)) + rng.normal(0, 18) * np.minimum(x * x + y * y, 1.5)
    coarse = (texture(rng, side, cells=int(np.clip(side / reach * rng.uniform(1, 3), 2, 64))) - 0.5) * abs(rng.normal(0, 70))
    fine = (texture(rng, side, cells=int(np.clip(side / reach * rng.uniform(4, 10), 8, side // 2))) - 0.5) * abs(rng.normal(0, 40))
    tint = rng.uniform(0.6, 1.4, 3)  # grain changes the hue as well as the light
    return (color + (light + coarse + fine)[..., None] * tint).astype(np.float32)


def placed(rng: np.random.Generator, silhouette: Silhouette, center: NDArray[np.float64], radius: float) -> Silhouette:
    """The silhouette at its place and size, turned and narrowed at random."""
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    narrow = radius * rng.uniform(0.6, 1.0, 2)
    return [polygon * narrow @ rotation.T + center for polygon in silhouette]


def filled(silhouette: Silhouette, side: int) -> Field:
    """The union of its polygons, 1 inside [S, S]."""
    drawn = Image.new("L", (side, side))
    pen = ImageDraw.Draw(drawn)
    for polygon in silhouette:
        pen.polygon([(float(x), float(y)) for x, y in polygon], fill=255)
    return shares(drawn)


def softened(weight: Field, radius: float) -> Field:
    blurred = Image.fromarray((weight * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(float(radius)))
    return shares(blurred)


def shares(image: Image.Image) -> Field:
    return (np.asarray(image) / 255).astype(np.float32)


def reduced(covered: Field, size: int) -> Field:
    return covered.reshape(size, len(covered) // size, size, -1).mean((1, 3))


def bounds(covered: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The box of what is covered, in pixels."""
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def tone(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour, more or less gray."""
    color = rng.uniform(0, 255, 3)
    return np.asarray(color.mean() + (color - color.mean()) * rng.uniform(0, 1))


def jitter(rng: np.random.Generator, color: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    return np.clip(color + rng.uniform(-reach, reach, 3), 0, 255)
