"""Whether a generator of 64 px blurs objects many times as large: fine detail of objects 240 px and more across, painted at each novelty.

    python -m benchmarks.detail --data DATA [--packs bccd] [--budget 300]

Takes the dial's generators (trained here where they are not kept) with an upsampler for windows larger than they paint, as the product has,
lays large training objects over large held-out ones, and divides the detail in each by what the same object has where it is pasted: 1 keeps
all of it. `64 px` is the pasted window reduced to the network's size and enlarged again, the most that a generator without an exemplar at the
image's own resolution could show. Of the three packs the blood cells alone have objects so large that no border cuts off. Rows of
out/detail/PACK.png: the real place, pasted, reduced and enlarged, then the five settings of novelty; the figures say of each what it keeps
where what is painted is enlarged plainly, too.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from benchmarks.dial import NOVELTIES
from benchmarks.packs import Pack, read_pack
from benchmarks.report import Figure, save
from benchmarks.tuning import asked_for, parser_of, tuned
from longtail.boxes import BoxXyxy
from longtail.recipes import preset_recipe
from trainers import device
from trainers.render import Order, Painter, render
from trainers.training_data import HELD_CROPS, MOST_CROPS
from trainers.upscale import CROP_PX, Upscaler, crops, sharpened
from trainers.windows import Instance

OUT = Path("out") / "detail"
LARGE_PX = 240
PLACES = 24
COLUMNS, SHOWN_PX = 6, 320
FINE_PX = 5
INSIDE = 0.6
"""Share of the box's sides that is looked at, about its middle: no edge of what was changed lies in it."""
Pixels = NDArray[np.uint8]


def detail(pixels: Pixels, box: BoxXyxy) -> float:
    """Mean absolute difference from the mean of `FINE_PX` x `FINE_PX` pixels, of 255, in the middle of the box."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) * (1 - INSIDE) / 2, (y1 - y0) * (1 - INSIDE) / 2
    inner = pixels[round(y0 + dy) : round(y1 - dy), round(x0 + dx) : round(x1 - dx)]
    image = torch.from_numpy(inner.astype(np.float32)).permute(2, 0, 1)[None]
    mean = F.avg_pool2d(image, FINE_PX, 1, FINE_PX // 2, count_include_pad=False)
    return float((image - mean).abs().mean())


def reduced(pixels: Pixels, box: BoxXyxy, size_px: int) -> Pixels:
    """The square of 1.8 times the box at `size_px` and enlarged again, in its place."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 0.9 * side(box)
    left, top, right, bottom = max(0, round(x - half)), max(0, round(y - half)), round(x + half), round(y + half)
    window = Image.fromarray(pixels).crop((left, top, min(right, pixels.shape[1]), min(bottom, pixels.shape[0])))
    scale = size_px / (2 * half)
    small = window.resize((max(1, round(window.width * scale)), max(1, round(window.height * scale))), Image.Resampling.BOX)
    found = pixels.copy()
    found[top : top + window.height, left : left + window.width] = np.asarray(small.resize(window.size, Image.Resampling.BICUBIC))
    return found


def side(box: BoxXyxy) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def large(found: list[Instance]) -> list[Instance]:
    return [i for i in found if side(i.box_xyxy) >= LARGE_PX]


def orders_of(pack: Pack) -> list[Order]:
    """Large held-out objects by turns as places, each with a large training object of its class."""
    rng, sources = np.random.default_rng(0), large(pack.train)
    places = [p for p in large(pack.judge) if any(i.label == p.label for i in sources)]
    orders = []
    for seed, place in enumerate(itertools.islice(itertools.cycle(places), PLACES)):
        mine = [i for i in sources if i.label == place.label]
        orders.append(Order("copy_paste", place.label, seed, 0.0, place.box_xyxy, place.image, mine[int(rng.integers(len(mine)))]))
    return orders


def measure(pack: Pack, *, budget_s: float) -> list[Figure]:
    orders = orders_of(pack)
    if not orders:
        raise SystemExit(f"{pack.name}: no object of {LARGE_PX} px to paint from and over; leave it out with --packs")
    generator, upscaler = tuned(pack, budget_s=budget_s, name=f"{pack.name}-{budget_s:.0f}s"), upscaler_of(pack, budget_s=budget_s)
    pasted = [render(None, o).pixels for o in orders]
    rows = {"64 px": [reduced(p, o.box_xyxy, generator.config.resolution_px) for p, o in zip(pasted, orders, strict=True)]}
    for novelty in NOVELTIES:
        rows[f"{novelty:g}"] = painted(Painter(generator, upscaler), orders, novelty)
    whole = [detail(p, o.box_xyxy) for p, o in zip(pasted, orders, strict=True)]
    plainly = {f"{novelty:g}, enlarged plainly": painted(Painter(generator), orders, novelty) for novelty in NOVELTIES} if upscaler else {}
    figures = [Figure(f"{pack.name}/side", float(np.mean([side(o.box_xyxy) for o in orders])), "px")]
    for name, made in (rows | plainly).items():
        kept = [detail(p, o.box_xyxy) / w for p, o, w in zip(made, orders, whole, strict=True)]
        figures.append(Figure(f"{pack.name}/{name}", float(np.median(kept)), "share", spread=(float(np.quantile(kept, 0.1)), float(np.quantile(kept, 0.9)))))
    picture(pack.name, orders, [[o.background for o in orders if o.background is not None], pasted, *rows.values()])
    return figures


def painted(painter: Painter, orders: list[Order], novelty: float) -> list[Pixels]:
    return [render(painter, replace(o, mode="inpaint", novelty=novelty)).pixels for o in orders]


def upscaler_of(pack: Pack, *, budget_s: float) -> Upscaler | None:
    """Trained on the pack's training objects for the share of the budget that the product gives it; None where it gains nothing on objects held out."""
    sharp, held = (
        crops([i.image for i in part], [i.box_xyxy for i in part], size=CROP_PX, count=count, seed=0)
        for part, count in ((pack.train, MOST_CROPS), (pack.select, HELD_CROPS))
    )
    seconds = preset_recipe("tiny", "foundation", budget_s=budget_s).upscaler_s
    upscaler, gains = sharpened(sharp, held, seconds=seconds, seed=0, clock=time.process_time, told=lambda done, figures: None)
    print(f"{pack.name}: upsampler of {seconds:.0f} s, gain over bicubic {gains}", flush=True)
    return upscaler


def picture(name: str, orders: list[Order], rows: list[list[Pixels]]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    shown = [np.concatenate([window(p, o.box_xyxy) for p, o in zip(row[:COLUMNS], orders[:COLUMNS], strict=True)], 1) for row in rows]
    Image.fromarray(np.concatenate(shown, 0)).save(OUT / f"{name}.png")


def window(pixels: Pixels, box: BoxXyxy) -> Pixels:
    """`SHOWN_PX` square pixels about the middle of the box, none scaled; black beyond the image."""
    x, y = round((box[0] + box[2] - SHOWN_PX) / 2), round((box[1] + box[3] - SHOWN_PX) / 2)
    return np.asarray(Image.fromarray(pixels).crop((x, y, x + SHOWN_PX, y + SHOWN_PX)))


def main() -> None:
    arguments = parser_of(__doc__, packs="bccd", budget_s=300.0, quick="20 seconds a pack").parse_args()
    budget_s = 20.0 if arguments.quick else arguments.budget
    packs = asked_for(arguments.packs)
    with device.best_device():
        figures = [f for name in packs for f in measure(read_pack(name, arguments.data), budget_s=budget_s)]
    save("detail", figures, quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()
