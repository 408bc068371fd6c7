"""How much of an object's contrast is left where it is laid, and what laying objects only where they are seen refuses.

    python -m benchmarks.contrast --data DATA [--packs bccd,magnetic_tile,nuclei]

Of each pack, objects of each class at random places in images that show each class. Of each row of the evidence, every place that its plans find for
what is added, and how many of them are refused: a row of which none is has the plans, and so the images, that it had before places were
refused (docs/decisions/034). Minutes of a core.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from benchmarks.evidence.additions import ROUNDS, SPARE, grown_classes, novelty_of
from benchmarks.evidence.rows import ROWS, Row
from benchmarks.packs import PACKS, Pack, read_pack
from benchmarks.report import Figure, markdown, save, write_between
from longtail.boxes import BoxXyxy
from longtail.contrast import LEAST_KEPT, kept_contrast
from longtail.samples import Mode, Sample
from longtail.seeds import derive_seed
from trainers.dataset import ObjectRef
from trainers.planning import Model, Planner, seed_at

PAGE = Path(__file__).parents[1] / "docs" / "decisions" / "034-objects-are-laid-where-they-are-seen.md"
SHOWN = "nuclei"
"""The pack whose images are of several kinds."""
PLACES = 300
MODES: tuple[Mode, ...] = ("inpaint", "copy_paste")


def in_pack(pack: Pack) -> list[Figure]:
    """Median, and share under the least that is asked for, of each class in images that show each."""
    rng, figures = np.random.default_rng(0), []
    of_class = {c: [i for i in pack.train if i.label == c] for c in pack.classes}
    for label, name in pack.classes.items():
        for other, where in pack.classes.items():
            kept = []
            for _ in range(PLACES):
                thing, image = (found[rng.integers(len(found))] for found in (of_class[label], of_class[other]))
                x0, y0, x1, y1 = thing.box_xyxy
                wide, high = image.image.shape[1] - (x1 - x0), image.image.shape[0] - (y1 - y0)
                if min(wide, high) > 0:
                    x, y = rng.uniform(0, wide), rng.uniform(0, high)
                    kept.append(kept_contrast(thing.image, thing.box_xyxy, image.image, (x, y, x + x1 - x0, y + y1 - y0)))
            figures.append(Figure(f"{pack.name}/{name} on images of {where}/median", float(np.median(kept)), "of 1"))
            figures.append(Figure(f"{pack.name}/{name} on images of {where}/unseen", float(np.mean(np.array(kept) < LEAST_KEPT)), "share"))
    return figures


def table(figures: list[Figure]) -> str:
    """What is left, and how often it is too little, of the classes of one pack in images that show each."""
    rows: dict[str, dict[str, float]] = {}
    for f in figures:
        pack, places, kind = f.name.split("/")
        if pack == SHOWN:
            of, where = places.split(" on images of ")
            rows.setdefault(f"{of}, {kind}", {})[f"in {where}"] = f.value
    return markdown(rows, "", lambda _, value: f"{value:.2f}")


def in_row(row: Row, data: Path) -> list[Figure]:
    """Places that the row's plans find, and how many are refused."""
    found = [value for draw in range(row.draws) for value in places(row, data, draw)]
    return [
        Figure(f"evidence/{row.name}/places", len(found), "places"),
        Figure(f"evidence/{row.name}/refused", sum(v < LEAST_KEPT for v in found), "places"),
        Figure(f"evidence/{row.name}/least", min(found), "of 1"),
    ]


def places(row: Row, data: Path, draw: int) -> list[float]:
    """What is left of the contrast at each place of a draw's plans, none of them refused: of as many images as its arms could ask for."""
    view = row.draw(data, draw)
    classes, most = grown_classes(row, view), round(len(view.real("train")) * row.ratios[1])
    count = math.ceil(math.ceil(most / len(classes)) * SPARE)
    painter: Any = SimpleNamespace(mirrored=True)
    Watched.kept.clear()
    for name in classes:
        among = (view.of_class(name) if row.own_grounds else view).with_painter(painter)
        for mode, attempt in ((m, a) for m in MODES for a in range(ROUNDS)):
            seed = derive_seed(row.name, draw, attempt)
            request = {"class_name": name, "mode": mode, "novelty": novelty_of(view, [name]), "count": count, "seed": seed, "objects": row.objects}
            planner = Watched.of(among, request, Model("evidence", 1, "evidence"))
            for position in range(count):
                planner.image(request, seed_at(request, f"evidence-{seed}", position), position)
    return list(Watched.kept)


class Watched(Planner):
    """Plans as the product does, refuses no place, and keeps what would be left of the contrast in each."""

    kept: ClassVar[list[float]] = []

    def seen(self, chosen: ObjectRef, background: Sample, box: BoxXyxy) -> bool:
        self.kept.append(kept_contrast(self.view.pixels(chosen.sample)[0], chosen.box_xyxy, self.view.pixels(background)[0], box))
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--packs", default=",".join(PACKS))
    arguments = parser.parse_args()
    figures = [figure for name in arguments.packs.split(",") for figure in in_pack(read_pack(name, arguments.data))]
    for row in ROWS.values():
        if row.setting.model == "detector":
            figures += in_row(row, arguments.data)
            print(", ".join(f"{f.name} {f.value:.3g}" for f in figures[-3:]), flush=True)
    save("contrast", figures, quick=False)
    if SHOWN in arguments.packs.split(","):
        write_between(PAGE, "contrast", table(figures))


if __name__ == "__main__":
    main()
