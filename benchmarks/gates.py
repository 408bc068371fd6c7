"""The gates themselves, measured: how often real images pass and cheats fail, at 20, 50 and 200 real images.

    python -m benchmarks.gates [--draws 100] [--quick]

Red cells of the shipped blood-cell images. A draw takes n of them as training objects and n others as held-out ones; 100 "samples" are
other real cells, or what a cheat would return. A gate is right where real cells pass it and its cheat fails; "unknown" is counted apart.
The draws share their pool of cells, so the shares are of this pool. Writes the table in docs/evidence.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.packs import Part, objects
from benchmarks.report import Figure, save, write_between
from services.demo.packs import PACKS
from trainers import device
from trainers.gating import SAMPLES, object_crops
from trainers.quality.consistency import cross_fit, cross_fitted_agreement
from trainers.quality.copying import looks
from trainers.quality.features import features
from trainers.quality.gates import Evidence, gates_of
from trainers.quality.parts import Repeated, Repeats, likeness
from trainers.render import visibility
from trainers.windows import Instance, Windows, cut_windows

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
COUNTS = (20, 50, 200)
POOL = 700
OTHERS = 100
JITTER = 6
Floats = NDArray[np.float32]
Crops = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Material:
    """Features of red cells [P,D], of the first L, which may be learned from, other looks and copies by kind [L,D], of cells without an inside or without
    detail [P,D], of other classes, of noise [F,D].

    `likeness` [P,L] is what pixels of cells have in common with those that are learned from, `repeats` [L,L] what those of copies have.
    `overlaps` [P] are IoUs of a laid cell's change with its label, `beside` [P] with a label that was put beside it.
    """

    cells: Floats
    views: list[Floats]
    copies: dict[str, Floats]
    plain: dict[str, Floats]
    others: dict[str, Floats]
    noise: Floats
    likeness: Floats
    repeats: dict[str, Floats]
    overlaps: Floats
    beside: Floats


def gather(pool: int, *, learned: int, beyond: bool = True) -> Material:
    """Of so many cells, of which the first `learned` may be learned from; `beyond` has copies made that the gate was not made to find, too."""
    root = PACKS / "bccd"
    found: dict[str, list[Instance]] = {}
    for split in ("train", "val", "test"):
        part = Part(root / "annotations" / f"coco_{split}.json", root, lambda _: True, lambda _, annotation: str(annotation["name"]))
        for _, name, instance in objects(part):
            found.setdefault(name, []).append(instance)
    rng = np.random.default_rng(0)
    windows = {name: windows_of([mine[i] for i in rng.permutation(len(mine))[:pool]]) for name, mine in found.items()}
    cells = crops_of(windows["RBC"])
    known = cells[:learned]
    views = looks(known)
    copies = {what: [jittered(crop, rng) for crop in some] for what, some in copied(known, views, rng).items() if beyond or what in CASES}
    plain = {what: features([less(crop) for crop in cells]) for what, less in PLAIN.items()}
    others = {name: features(crops_of(w)[:OTHERS]) for name, w in windows.items() if name != "RBC"}
    noise = features([rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(SAMPLES)])
    overlaps, beside = (overlaps_of(windows["RBC"], beside=b) for b in (False, True))
    return Material(
        features(cells), [features(v) for v in views], {what: features(c) for what, c in copies.items()}, plain, others, noise,
        likeness(cells, known), {what: likeness(c, known) for what, c in copies.items()}, overlaps, beside,
    )  # fmt: skip


def copied(cells: Crops, views: Sequence[Crops], rng: np.random.Generator) -> dict[str, Crops]:
    """What a generator that has learned nothing but its training images returns, by kind."""
    parts = {share: [cut_out(crop, (share, share), rng) for crop in cells] for share in (0.8, 0.6, 0.5, 0.4)}
    mirrored, upside_down, middles, mirrored_middles = views
    return {
        "training images": cells,
        "training images, mirrored": mirrored,
        "training images, upside down": upside_down,
        "the middles of training images": middles,
        "their middles, mirrored": mirrored_middles,
        "training images, turned and with other contrast": [turned(crop, rng) for crop in cells],
        "parts of training images, four fifths": parts[0.8],
        "parts of training images, three fifths": parts[0.6],
        "parts of training images, halves": parts[0.5],
        "parts of training images, of different shares": [cut_out(crop, (rng.uniform(0.5, 1), rng.uniform(0.5, 1)), rng) for crop in cells],
        "parts of training images, two fifths": parts[0.4],
        "parts of training images, three fifths, turned and with other contrast": [turned(crop, rng) for crop in parts[0.6]],
    }


def windows_of(found: list[Instance]) -> Windows:
    return cut_windows(found, resolution=64, per_instance=1, seed=0, fixed=True)


def crops_of(windows: Windows) -> Crops:
    index = torch.arange(len(windows))
    return object_crops(windows.floats(index), windows.boxes)


def jittered(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crop a little brighter or darker, with a little noise: what a memorised picture looks like."""
    return (crop.astype(np.float32) + rng.uniform(-JITTER, JITTER) + rng.normal(0, 2, crop.shape)).clip(0, 255).astype(np.uint8)


def turned(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crop turned by up to 10 degrees, with up to a tenth more or less contrast: what a copy is after a change of its own."""
    pad = max(crop.shape) // 4
    wide = Image.fromarray(np.pad(crop, ((pad, pad), (pad, pad), (0, 0)), mode="reflect"))
    back = np.asarray(wide.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR))[pad:-pad, pad:-pad].astype(np.float32)
    return ((back - back.mean()) * rng.uniform(0.9, 1.1) + back.mean()).clip(0, 255).astype(np.uint8)


def cut_out(crop: NDArray[np.uint8], shares: tuple[float, float], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of the crop, of these shares of its height and width, from anywhere in it."""
    sides = [max(4, round(share * side)) for share, side in zip(shares, crop.shape[:2], strict=True)]
    y, x = (int(rng.integers(0, max(1, whole - side + 1))) for whole, side in zip(crop.shape[:2], sides, strict=True))
    return np.ascontiguousarray(crop[y : y + sides[0], x : x + sides[1]])


def flattened(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop with one colour inside its rim: what a generator paints that has learned outlines alone."""
    high, wide = crop.shape[:2]
    radius = np.hypot(np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)[None])[..., None]
    middle = np.median(crop[high // 3 : high - high // 3, wide // 3 : wide - wide // 3].reshape(-1, 3), 0)
    return np.asarray(crop + (middle - crop) * ((0.9 - radius) / 0.2).clip(0, 1)).astype(np.uint8)


def coarse(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop at 8 x 8 pixels, enlarged again: what a blurred generator paints."""
    high, wide = crop.shape[:2]
    return np.asarray(Image.fromarray(crop).resize((8, 8), Image.Resampling.BOX).resize((wide, high), Image.Resampling.BICUBIC))


PLAIN = {"cells with a flat inside": flattened, "cells without detail": coarse}


def overlaps_of(windows: Windows, *, beside: bool) -> Floats:
    """[P]: IoU of the changed region's box with the label's for cells cut away and laid back, or with a label most of a side further."""
    found = []
    for i in range(len(windows)):
        after = windows.images[i].permute(1, 2, 0).numpy()
        x0, y0, x1, y1 = (windows.boxes[i] * after.shape[0]).tolist()
        before = after.copy()
        before[int(y0) : round(y1), int(x0) : round(x1)] = np.median(after[:4].reshape(-1, 3), 0)
        away = (x1 - x0) * (-1.0 if x0 + x1 > after.shape[1] else 1.0) * 0.6 if beside else 0.0
        found.append(visibility(before, after, (x0 + away, y0, x1 + away, y1))[1])
    return np.array(found, dtype=np.float32)


REAL, PARTLY = "other real cells", "cells, and three times as much noise"
CASES = {
    "training images": "copying",
    "training images, mirrored": "copying",
    "training images, upside down": "copying",
    "the middles of training images": "copying",
    "their middles, mirrored": "copying",
    "training images, turned and with other contrast": "copying",
    "parts of training images, four fifths": "copying",
    "parts of training images, three fifths": "copying",
    "parts of training images, halves": "copying",
    "another class": "label_consistency",
    "one image": "coverage",
    "cells with a flat inside": "kid",
    "cells without detail": "kid",
    PARTLY: "density",
    "noise": "kid",
    "box beside its object": "overlap",
}
"""What a cheat returns, and the gate that must fail it."""
BEYOND = {
    "parts of training images, of different shares": "copying",
    "parts of training images, two fifths": "copying",
    "parts of training images, three fifths, turned and with other contrast": "copying",
}
"""Copies that the gate was not made to find."""
BESIDES = {(PARTLY, "coverage"), (PARTLY, "kid")}
"""What other gates make of a cheat, told beside: it is not theirs to fail it."""


def drawn(material: Material, count: int, rng: np.random.Generator) -> dict[str, Evidence]:
    """{what is returned: evidence of it} for one draw of n training and n held-out cells."""
    order = rng.permutation(len(material.cells))
    train = order[order < len(material.views[0])][:count]
    held, rest = np.split(order[~np.isin(order, train)][: count + SAMPLES], [count])
    parts = [material.cells[train], *(o[rng.permutation(len(o))[:count]] for o in material.others.values())]
    vectors, labels = np.concatenate(parts), np.concatenate([np.full(len(p), i, dtype=np.int64) for i, p in enumerate(parts)])
    fitted = cross_fit(vectors, labels, classes=len(parts))
    real = Evidence(
        name="RBC", train=parts[0], views=[v[train] for v in material.views], held=material.cells[held], fake=material.cells[rest],
        own=[None] * len(rest), real_agreed=cross_fitted_agreement(fitted, vectors, labels)[labels == 0],
    )  # fmt: skip
    seen = train[rng.integers(count, size=SAMPLES)]
    placed = held[rng.integers(count, size=SAMPLES)]  # samples lie on held-out places, more than once where those are few
    other = next(iter(material.others.values()))
    returned = {REAL: real.fake, **{what: found[seen] for what, found in material.copies.items()}}
    returned |= {what: found[rest] for what, found in material.plain.items()}
    returned |= {"another class": other[rng.integers(len(other), size=SAMPLES)], "one image": np.repeat(real.fake[:1], SAMPLES, 0), "noise": material.noise}
    returned[PARTLY] = np.concatenate([real.fake[: SAMPLES // 4], material.noise[SAMPLES // 4 :]])
    repeats = {REAL: Repeats.of(material.likeness[np.ix_(rest, train)])}
    repeats |= {what: Repeats.of(found[np.ix_(seen, train)]) for what, found in material.repeats.items()}
    unseen = Repeats.of(material.likeness[np.ix_(held, train)])
    pasted = material.overlaps[train[rng.integers(count, size=SAMPLES)]]
    cases = {
        what: replace(
            real, fake=fake, agreed=fitted.probabilities(fake, [[]] * len(fake))[:, 0], overlaps=material.overlaps[placed], pasted=pasted, grounds=count,
            repeated=Repeated(repeats[what], unseen) if what in repeats else None,
        )
        for what, fake in returned.items()
    }  # fmt: skip
    return cases | {"box beside its object": replace(cases[REAL], overlaps=material.beside[placed])}


def verdicts(material: Material, count: int, draws: int) -> dict[tuple[str, str], Counter[str]]:
    """{(what is returned, gate): how often it said what}."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for draw in range(draws):
        for what, seen in drawn(material, count, np.random.default_rng([count, draw])).items():
            asked = None if what == REAL else {(CASES | BEYOND)[what]} | {gate for case, gate in BESIDES if case == what}
            for gate in gates_of(seen, only=asked):
                found.setdefault((what, gate.name), Counter())[gate.verdict] += 1
    return found


def table(found: dict[int, dict[tuple[str, str], Counter[str]]]) -> str:
    """Of each case and gate, at each n: passed / unknown / failed in per cent, the right one in bold."""
    lines = ["| what is returned | gate | " + " | ".join(f"n = {n}" for n in found) + " |", "| --- | --- |" + " --- |" * len(found)]
    for case in next(iter(found.values())):
        cells = []
        for by_case in found.values():
            seen, right = by_case[case], "passed" if case[0] == REAL else "" if case in BESIDES else "failed"
            shares = {v: f"{100 * seen[v] / seen.total():.0f}" for v in ("passed", "unknown", "failed")}
            cells.append(" / ".join(f"**{share}**" if v == right else share for v, share in shares.items()))
        lines.append(f"| {case[0]} | {case[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="ten draws; docs/evidence.md stays as it is")
    arguments = parser.parse_args()
    with device.best_device():
        material = gather(POOL, learned=POOL)
        found = {}
        for count in COUNTS:
            found[count] = verdicts(material, count, 10 if arguments.quick else arguments.draws)
            print(f"n = {count}: done", flush=True)
    figures = []
    for count, by_case in found.items():
        for (what, gate), seen in by_case.items():
            figures += [Figure(f"{count}/{what}/{gate}/{v}", seen[v] / seen.total(), "share") for v in ("passed", "unknown", "failed")]
    save("gates", figures, quick=arguments.quick, gpu=device.name())
    print(table(found))
    if not arguments.quick:
        write_between(PAGE, "gates", table(found))


if __name__ == "__main__":
    main()
