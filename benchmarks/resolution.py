"""Is it resolution? What a 64 px window takes from real objects, as they are and as the judge of the evidence sees them.

    python -m benchmarks.resolution --data DATA

Real training objects are squeezed into the window that the network has for them and enlarged again, and held against other real ones (val)
beside those that were not: by KID at their own size, and at the size at which the evidence's detector is shown them. All of an object goes through the
window here; a sample of the product keeps its exemplar's own detail where the residual holds it. Writes the table in docs/evidence.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evidence.rows import ROWS
from benchmarks.packs import read_pack
from benchmarks.report import Figure, markdown, save, write_between
from trainers.quality.features import features
from trainers.quality.kid import kid
from trainers.render import SERVED_MARGIN
from trainers.windows import Instance, box_pixels

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
WINDOW_PX = 64
MOST, LEAST = 150, 5
JUDGED = {"bccd": "bccd20", "magnetic_tile": "magnetic_tile", "nuclei": "nuclei"}
"""The row of the evidence whose judge looks at a pack."""
Crop = NDArray[np.uint8]


def cropped(found: Instance) -> Crop:
    left, top, right, bottom = box_pixels(found.box_xyxy)
    return np.ascontiguousarray(found.image[top:bottom, left:right])


def scaled(crop: Crop, factor: float, back_to: tuple[int, int] | None = None) -> Crop:
    """The crop smaller by a factor, each of its pixels a mean; enlarged again to a size (width, height) where one is given."""
    size = tuple(max(2, round(side * factor)) for side in (crop.shape[1], crop.shape[0]))
    small = Image.fromarray(crop).resize(size, Image.Resampling.BOX) if factor < 1 else Image.fromarray(crop)
    return np.asarray(small if back_to is None else small.resize(back_to, Image.Resampling.BICUBIC))


def held_by_window(found: Instance) -> float:
    """What is left of each side in the network's window: 1 where the object fits."""
    x0, y0, x1, y1 = found.box_xyxy
    return min(1.0, WINDOW_PX / (SERVED_MARGIN * max(x1 - x0, y1 - y0)))


def shown_to_judge(found: Instance, side_px: int) -> float:
    return min(1.0, side_px / max(found.image.shape[:2]))


def measured(train: list[Instance], held: list[Instance], side_px: int) -> dict[str, float]:
    window, judge = ([f(i) for i in train] for f in (held_by_window, lambda i: shown_to_judge(i, side_px)))
    plain = [cropped(i) for i in train]
    squeezed = [scaled(c, f, (c.shape[1], c.shape[0])) for c, f in zip(plain, window, strict=True)]
    others = [cropped(i) for i in held]
    smaller = [scaled(c, shown_to_judge(i, side_px)) for c, i in zip(others, held, strict=True)]
    return {
        "objects": len(train), "larger than the window": float(np.mean([f < 1 for f in window])),
        "larger as the judge sees them": float(np.mean([w < j for w, j in zip(window, judge, strict=True)])),
        "KID of real": kid(features(others), features(plain)), "KID through the window": kid(features(others), features(squeezed)),
        "KID of real, as judged": kid(features(smaller), features([scaled(c, f) for c, f in zip(plain, judge, strict=True)])),
        "KID through the window, as judged": kid(features(smaller), features([scaled(c, f) for c, f in zip(squeezed, judge, strict=True)])),
    }  # fmt: skip


def said(title: str, value: float) -> str:
    return f"{value:.0f}" if title == "objects" else f"{100 * value:.0f} %" if title.startswith("larger") else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    found: dict[str, dict[str, float]] = {}
    data = parser.parse_args().data
    for name, row in JUDGED.items():
        pack, rng = read_pack(name, data), np.random.default_rng(0)
        for label, title in pack.classes.items():
            train, held = ([mine[i] for i in rng.permutation(len(mine))[:MOST]] for mine in of_class(pack.train, pack.select, label))
            if min(len(train), len(held)) >= LEAST:
                found[f"{name}: {title}"] = measured(train, held, ROWS[row].setting.side_px)
    save("resolution", [Figure(f"{n}/{t}", v, "") for n, row in found.items() for t, v in row.items()], quick=False)
    write_between(PAGE, "resolution", markdown(found, "class", said))


def of_class(train: list[Instance], held: list[Instance], label: int) -> tuple[list[Instance], list[Instance]]:
    return [i for i in train if i.label == label], [i for i in held if i.label == label]


if __name__ == "__main__":
    main()
