"""The runs of one draw: every arm with every training seed, each written down as it lands, and not run again.

A run is known by what it rests on: the row's configuration, and the code that made and trained it, its comments and docstrings aside.
Generators are kept beside the checkout's other output; one that is trained anew has other weights, and its arms are run again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.additions import OUT, foundation_path, generator_of, grow, picture, record_of, vary
from benchmarks.evidence.code import JUDGES, MAKING, VARYING, code
from benchmarks.evidence.folder import FolderView
from benchmarks.evidence.rows import Row
from benchmarks.report import RESULTS
from longtail.samples import Mode
from trainers.device import best_device
from trainers.render import Painter
from trainers.uplift.bench import Bench
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled

KEPT = RESULTS / "evidence"
REAL, CLASSICAL, PASTED, SOME, LONGTAIL, BOTH = "real", "classical", "copy_paste", "longtail_less", "longtail", "both"
TWICE, WITH_PASTED = "classical_twice", "classical_and_copy_paste"
"""As many images as `BOTH` adds, unless filters leave one of them short: varied copies alone, or with pasted instances in the place of Longtail's.

They tell two kinds of images from twice as many, and painted from pasted. They were thought of when the rows had been measured; a row is whole without them.
"""
ARMS = (REAL, CLASSICAL, PASTED, LONGTAIL, BOTH, SOME, TWICE, WITH_PASTED)
VARIED = frozenset({CLASSICAL, TWICE})
LATER = frozenset({TWICE, WITH_PASTED})
GENERATED = frozenset({LONGTAIL, BOTH, SOME})
SUMS = {BOTH: (LONGTAIL, CLASSICAL), WITH_PASTED: (PASTED, CLASSICAL)}
"""Arms that add what two others add."""


def arms_of(row: Row) -> list[str]:
    """Where the class is the whole image there is nothing to paste."""
    return [a for a in ARMS if a not in (PASTED, WITH_PASTED) or row.setting.model == "detector"]


def needed(row: Row) -> list[str]:
    """Without which a row says nothing."""
    return [a for a in arms_of(row) if a not in LATER]


def key_of(row: Row, arm: str, images: str, generator: str) -> str:
    """What a run rests on, in twelve letters: configuration, code, the draw's `images`, and the weights that made what was added."""
    made = arm in GENERATED or arm in (PASTED, WITH_PASTED)
    said = asdict(row) | {"draw": None, "title": "", "seeds": 0, "draws": 0, "objects": row.objects if made and row.setting.model == "detector" else 1}
    parts = [json.dumps(said, default=str, sort_keys=True), code(JUDGES[row.setting.model]), images]
    if arm != REAL:
        parts.append(code(VARYING if arm in VARIED else (*MAKING, *VARYING) if arm in SUMS else MAKING))
    if arm in GENERATED:
        parts.append(generator)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def file_of(row: str, draw: int) -> Path:
    return KEPT / row / f"{draw}.json"


def kept(row: str, draw: int) -> dict[str, Any]:
    path = file_of(row, draw)
    body: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    return body


def keep(row: str, draw: int, body: dict[str, Any]) -> None:
    path = file_of(row, draw)
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_suffix(".part")
    working.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    working.replace(path)


def keys_of(row: Row, body: dict[str, Any], arms: Sequence[str]) -> dict[str, str]:
    return {arm: key_of(row, arm, body["images"], body["generator"]) for arm in arms}


def missing_runs(row: Row, body: dict[str, Any], arms: Sequence[str]) -> list[tuple[str, int]]:
    """Arm and seed of each run that is not there, or rests on other code, images or weights than `body` names."""
    keys = keys_of(row, body, arms)
    return [(arm, seed) for seed in range(row.seeds) for arm in arms if body["runs"].get(f"{arm}-{seed}", {}).get("key") != keys[arm]]


@dataclass
class Added:
    """What the arms of a draw add to its real images: made when a run first asks for it, and prepared for the judge as it is made."""

    row: Row
    view: FolderView
    draw: int
    painter: Painter | None
    bench: Bench
    records: dict[str, Any] = field(default_factory=dict)
    """Of each arm that filters look at, how many were made and refused."""
    shown_in: Path | None = None
    """A folder for a picture of what was added."""
    prepared: dict[str, list[Any]] = field(default_factory=dict)

    def of(self, arm: str) -> list[Any]:
        """The arm's images as the judge takes them."""
        if arm == REAL:
            return []
        if arm in SUMS:
            return [image for part in SUMS[arm] for image in self.of(part)]
        if arm == SOME:
            return self.of(LONGTAIL)[: self.count(self.row.ratios[0])]
        if arm not in self.prepared:
            images = self.made(arm)
            if self.shown_in:
                picture(images, self.shown_in / f"{self.row.name}-{self.draw}-{arm}.png")
            self.prepared[arm] = self.bench.prepare(images)
        return self.prepared[arm]

    def count(self, ratio: float) -> int:
        return round(len(self.view.real("train")) * ratio)

    def made(self, arm: str) -> list[Labelled]:
        most = self.count(self.row.ratios[1])
        if arm in VARIED:
            return vary(self.row, self.view, 2 * most if arm == TWICE else most, draw=self.draw)
        mode: Mode = "copy_paste" if arm == PASTED else "inpaint"
        batch = grow(self.row, self.view, most, mode=mode, draw=self.draw, painter=None if arm == PASTED else self.painter)
        self.records[arm] = record_of(batch)
        return batch.images


def bench_of(row: Row, view: FolderView) -> Bench:
    """The row's judge, on a canvas for the draw's training images."""
    canvas = Canvas.of([(s.width, s.height) for s in view.real("train")], long_side_px=row.setting.side_px)
    return Bench(row.setting, list(view.names), canvas)


def run(row: Row, data: Path, draw: int, *, arms: Sequence[str]) -> None:
    """A draw's runs, on a GPU where there is one; a process of its own finds it here, and would not in the package's __main__."""
    with best_device():
        run_draw(row, data, draw, arms=arms)


def run_draw(row: Row, data: Path, draw: int, *, arms: Sequence[str] = ARMS, threads: int = 1) -> None:
    """Every run of the draw and of these arms that is not there yet; a draw that is whole needs no generator, whose weights are not kept in the repository."""
    torch.set_num_threads(threads)
    say = functools.partial(print, f"{row.name} {draw}:", flush=True)
    view = row.draw(data, draw)
    body = kept(row.name, draw) | {"images": view.fingerprint()}
    body.setdefault("generator", "")
    asked = [a for a in arms_of(row) if a in arms]
    lacking = {arm for arm, _ in missing_runs(row, body, asked)}
    if not lacking:
        return
    painter, body["generator"] = generator_of(row, view, draw, say) if GENERATED & lacking else (None, body["generator"])
    keys, missing = keys_of(row, body, asked), missing_runs(row, body, asked)
    bench, names = bench_of(row, view), list(view.names)
    held = {split: view.labelled(split) for split in ("val", "test")}
    prepared = bench.prepare(view.labelled("train"))
    measured = {split: (images, bench.prepare(images)) for split, images in held.items()}
    added = Added(row, view, draw, painter, bench, shown_in=OUT / "pictures")
    parent = os.getppid()
    for arm, seed in missing:
        if os.getppid() != parent:
            raise SystemExit("what started this worker has ended")
        training = prepared + added.of(arm)
        began = time.process_time()
        outcome = bench.run(training, measured, seed=seed)
        spent = time.process_time() - began
        body["runs"][f"{arm}-{seed}"] = {"key": keys[arm], "images": len(training), "core_seconds": round(spent, 1), **outcome}
        body["additions"] = body.get("additions", {}) | {a: record for a, record in added.records.items() if (a, seed) in missing}
        body |= {"names": names, "grown": list(row.grown) or names}
        if painter is not None:
            body["foundation"] = hashlib.sha256(foundation_path(row).read_bytes()).hexdigest()[:12]
        keep(row.name, draw, body)
        say(f"{arm} seed {seed}: {spent:.0f} s on {len(training)} images")


def seeds_done(row: Row, draw: int) -> list[int]:
    """Seeds of which every arm has a run that rests on today's code and configuration, and on the same images and generator as the others."""
    body = kept(row.name, draw)
    if not body["runs"]:
        return []
    lacking = {seed for _, seed in missing_runs(row, body, needed(row))}
    return [s for s in range(row.seeds) if s not in lacking]


def seeds_formerly_done(row: Row, draw: int) -> list[int]:
    """Seeds of which every arm has a run, those of one arm all resting on one and the same code, if not today's."""
    runs = kept(row.name, draw)["runs"]
    whole = [s for s in range(row.seeds) if all(f"{arm}-{s}" in runs for arm in needed(row))]
    return whole if all(len({runs[f"{arm}-{s}"]["key"] for s in whole}) == 1 for arm in needed(row)) else []
