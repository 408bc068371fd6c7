"""The filter of repeated pixels: what it takes from honest samples beside what the other filters take, from unseen real objects, and from cuttings.

    python -m benchmarks.repeats --data DATA [--quick]

Generators of the evidence's rows, draw 0, fine-tuned anew where they are not kept, make samples at their usual novelty, which pass the filters as a batch does.
Real objects of the test split, which no generator has seen, and parts cut from training objects and shown in another size are held against the same
limit; and what sets it is told, how near to training objects the nearest 2 % of held-out ones lie, as a share of their median. Writes the table in
docs/evidence.md and docs/repeats.png, what was refused over what it repeats. Nuclei want `make foundation EXCLUDE=nuclei` first.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.evidence.additions import generator_of, grown_classes, novelty_of
from benchmarks.evidence.folder import FolderView
from benchmarks.evidence.rows import RANDOM, ROWS, Row
from benchmarks.gates import cut_out
from benchmarks.report import Figure, markdown, save, write_between
from longtail.samples import Mode
from trainers.bank import crop
from trainers.judging import Finished, judge_made
from trainers.planning import Model, plan
from trainers.quality.parts import QUANTILE, likeness
from trainers.repeats import Known, begun_from, known_of, likeness_but_excused, objects_made, without_repeats
from trainers.studio import make

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
PICTURE = PAGE.parent / "repeats.png"
MEASURED = tuple(name for name in ROWS if name not in RANDOM.values())
QUICK = ("bccd20",)
CLASSES = 3
"""So many of a row's classes, the first."""
SAMPLES, REAL, SHOWN, PX = 100, 200, 5, 96
SHARES = (0.8, 0.6, 0.5)
PLAIN = frozenset({"novelty", "nearest 2 % / median"})
Crop = NDArray[np.uint8]


def samples_of(row: Row, view: FolderView, name: str) -> list[Finished]:
    """Samples of a class as a batch of the product makes them, of one object each."""
    mode: Mode = "synthesis" if view.task == "classification" else "inpaint"
    request = {"class_name": name, "mode": mode, "novelty": novelty_of(view, [name]), "count": SAMPLES, "seed": 0, "objects": 1}
    orders = plan(view, request, key=f"repeats-{row.name}", model=Model("evidence", 1, "evidence"))
    found = [(record, make(view, sample_id, record)) for sample_id, record in orders]
    return [Finished(record, one.data, one.objects) for record, one in found]


def share_found(crops: Sequence[Crop], known: Known) -> float:
    """How many of these would be refused."""
    return float((apart_of(crops, known) < known.near).mean()) if crops else float("nan")


def apart_of(crops: Sequence[Crop], known: Known) -> NDArray[np.floating[Any]]:
    return 1 - likeness(crops, list(known.crops.values())).max(1)


def parts_of(view: FolderView, label: int, share: float) -> list[Crop]:
    """A part of each training object, so large a share of its sides, in half again its size."""
    rng, found = np.random.default_rng(0), []
    for o in [o for o in view.objects("train") if o.label == label][:REAL]:
        part = Image.fromarray(cut_out(crop(view.pixels(o.sample)[0], o.box_xyxy), (share, share), rng))
        found.append(np.asarray(part.resize((round(part.width * 1.5), round(part.height * 1.5)), Image.Resampling.BICUBIC)))
    return found


@dataclass(frozen=True)
class Found:
    """Figures of a class, and the first refused samples over what each repeats, if any were."""

    figures: dict[str, float]
    picture: Crop | None


def measured(row: Row, view: FolderView, name: str) -> Found:
    label = view.names.index(name)
    known, samples = known_of(view, label), samples_of(row, view, name)
    before = judge_made(view, samples)
    after = without_repeats(view, samples, before)
    held, unseen = (crops_of(view, label, split) for split in ("val", "test"))
    taken = [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if b.accepted and not a.accepted]
    apart = apart_of(held, known)
    figures = {
        "training objects": sum(o.label == label for o in view.objects("train")), "novelty": samples[0].record.novelty,
        "copies to features": float(np.mean(["copy" in v.reasons for v in before])), "passed": float(np.mean([v.accepted for v in before])),
        "of them repeats": len(taken) / max(1, sum(v.accepted for v in before)),
        "of what they began from": sum(after[i].nearest in samples[i].record.instances for i in taken) / len(taken) if taken else float("nan"),
        "unseen real ones": share_found(unseen, known), **{f"parts of {share:.0%}": share_found(parts_of(view, label, share), known) for share in SHARES},
        "nearest 2 % / median": float(np.quantile(apart, QUANTILE) / np.median(apart)),
    }  # fmt: skip
    return Found(figures, picture(view, samples, taken, known))


def crops_of(view: FolderView, label: int, split: str) -> list[Crop]:
    return [crop(view.pixels(o.sample)[0], o.box_xyxy) for o in view.objects(split) if o.label == label][:REAL]


def picture(view: FolderView, samples: Sequence[Finished], taken: Sequence[int], known: Known) -> Crop | None:
    """Some of what was refused, over what it repeats."""
    if not taken:
        return None
    made = [objects_made(view, samples[i])[0] for i in taken[:SHOWN]]
    like, keys = likeness_but_excused(view, made, known)
    nearest = [keys[int(i)] for i in like.argmax(1)]
    over = [(one.pixels, (known.crops | begun_from(view, one.record, known=()))[key]) for one, key in zip(made, nearest, strict=True)]
    return np.concatenate([np.concatenate([np.asarray(Image.fromarray(c).resize((PX, PX))) for c in pair]) for pair in over], 1)


def said(title: str, value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if title == "training objects" else f"{value:.2f}" if title in PLAIN else f"{100 * value:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one row alone")
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    pictures: list[Crop] = []
    for row in (ROWS[name] for name in (QUICK if args.quick else MEASURED)):
        view = row.draw(args.data, 0)
        painter, _ = generator_of(row, view, 0, functools.partial(print, f"{row.name}:", flush=True))
        for name in grown_classes(row, view)[:CLASSES]:
            among = view.of_class(name) if row.own_grounds else view
            told = measured(row, among.with_painter(painter), name)
            found[f"{row.title}: {name}"] = told.figures
            pictures += [] if told.picture is None else [told.picture]
            print(name, told.figures, flush=True)
    save("repeats", [Figure(f"{n}/{t}", v, "") for n, row in found.items() for t, v in row.items()], quick=args.quick)
    if not args.quick:
        write_between(PAGE, "repeats", markdown(found, "class", said))
        if pictures:
            Image.fromarray(np.concatenate(pictures, 1)).save(PICTURE)


if __name__ == "__main__":
    main()
