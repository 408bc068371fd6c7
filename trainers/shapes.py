"""Procedurally drawn objects on textured grounds: the part of the foundation's diet that belongs to nobody.

Each picture is drawn at twice its size and reduced, so that edges are smooth. Colours, light, noise and blur are random.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainers.windows import Instance, box_pixels

Points = list[tuple[float, float]]
Color = tuple[int, int, int]
SUPERSAMPLE = 2


def draw_instance(rng: np.random.Generator, *, size: int, first_label: int) -> Instance:
    """One picture with a labelled object near its middle, and now and then a neighbour of the same kind."""
    kind = int(rng.integers(len(KINDS)))
    big = size * SUPERSAMPLE
    canvas = ground(rng, big)
    color = tuple(int(v) for v in rng.integers(0, 256, 3))
    for _ in range(int(rng.integers(0, 4))):
        where = rng.uniform(0, big, 2)
        paste(canvas, rng, KINDS[kind], (where[0], where[1]), rng.uniform(0.1, 0.25) * big, jitter(color, rng))
    center = tuple(big * rng.uniform(0.42, 0.58, 2))
    bare = canvas.copy()
    outline = paste(canvas, rng, KINDS[kind], (center[0], center[1]), rng.uniform(0.18, 0.3) * big, color)
    blur = float(rng.uniform(0.3, 1.2)) if rng.random() < 0.4 else 0.0
    noise = rng.normal(0, rng.uniform(0, 6), (size, size, 1))
    x0, y0, x1, y1 = (min(max(v / SUPERSAMPLE, 0), size) for v in (*outline.min(0), *outline.max(0)))
    drawn = Image.new("L", (big, big))
    ImageDraw.Draw(drawn).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    covered = np.asarray(drawn.resize((size, size), Image.Resampling.BOX)) > 127
    box = (x0, y0, x1, y1)
    left, top, right, bottom = box_pixels(box)
    emptied = finished(bare, size, blur, noise[::-1]), box
    return Instance(finished(canvas, size, blur, noise), box, first_label + kind, outline=covered[top:bottom, left:right], ground=emptied)


def finished(canvas: Image.Image, size: int, blur: float, noise: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture reduced, blurred, with noise."""
    image = canvas.resize((size, size), Image.Resampling.LANCZOS)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8)


def ground(rng: np.random.Generator, size: int) -> Image.Image:
    """A smooth random texture between two colours, coarse or fine."""
    cells = int(rng.choice([2, 4, 8, 24]))
    field = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    weight = np.asarray(field, dtype=np.float32)[..., None] / 255 * rng.uniform(0.05, 0.7)
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    return Image.fromarray((first + (second - first) * weight).astype(np.uint8))


def paste(
    canvas: Image.Image, rng: np.random.Generator, kind: Callable[[np.random.Generator], Points], center: tuple[float, float],
    radius: float, color: Color | tuple[int, ...],
) -> NDArray[np.float64]:
    """Draws one object, shaded and perhaps with a rim or a core; returns its outline, [N, 2] as x and y."""
    points = np.array(kind(rng)) * radius * rng.uniform(0.6, 1.0, 2)
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    outline = points @ rotation.T + np.array(center)
    layer = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    alpha = int(rng.integers(140, 256))
    corners = [(float(x), float(y)) for x, y in outline]
    rim = jitter(color, rng, 60) if rng.random() < 0.5 else None
    pen.polygon(corners, fill=(*color, alpha), outline=None if rim is None else (*rim, alpha), width=max(1, int(radius * 0.12)))
    if rng.random() < 0.5:
        core = (outline - np.array(center)) * rng.uniform(0.25, 0.6) + np.array(center) + rng.normal(0, radius * 0.1, 2)
        pen.polygon([(float(x), float(y)) for x, y in core], fill=(*jitter(color, rng, 80), alpha))
    layer = layer.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3.0))))
    canvas.paste(layer, (0, 0), layer)
    return np.asarray(outline)


def jitter(color: Color | tuple[int, ...], rng: np.random.Generator, reach: int = 30) -> Color:
    r, g, b = np.clip(np.array(color) + rng.integers(-reach, reach + 1, 3), 0, 255)
    return int(r), int(g), int(b)


def ellipse(rng: np.random.Generator) -> Points:
    return [(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 40, endpoint=False)]


def blob(rng: np.random.Generator) -> Points:
    """A closed curve whose radius wanders: two to five lobes."""
    lobes, depth, phase = int(rng.integers(2, 6)), rng.uniform(0.1, 0.4), rng.uniform(0, 6.28)
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    return [((1 + depth * math.sin(lobes * t + phase)) * math.cos(t), (1 + depth * math.sin(lobes * t + phase)) * math.sin(t)) for t in angles]


def polygon(rng: np.random.Generator) -> Points:
    angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 8))))
    return [(math.cos(t), math.sin(t)) for t in angles]


def crack(rng: np.random.Generator) -> Points:
    """A thin wandering line with width."""
    x = np.linspace(-1.3, 1.3, 12)
    y = np.cumsum(rng.normal(0, 0.14, 12))
    y -= y.mean()
    width = rng.uniform(0.04, 0.12, 12)
    upper = list(zip(x.tolist(), (y + width).tolist(), strict=True))
    return upper + list(zip(x[::-1].tolist(), (y - width)[::-1].tolist(), strict=True))


def crescent(rng: np.random.Generator) -> Points:
    bite = rng.uniform(0.3, 0.8)
    outer = [(math.cos(t), math.sin(t)) for t in np.linspace(0.4, 2 * math.pi - 0.4, 30)]
    inner = [(math.cos(t) * bite + 1 - bite, math.sin(t) * bite) for t in np.linspace(2 * math.pi - 0.9, 0.9, 20)]
    return outer + inner


KINDS: tuple[Callable[[np.random.Generator], Points], ...] = (ellipse, blob, polygon, crack, crescent)
