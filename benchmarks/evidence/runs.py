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
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.additions import OUT, foundation_path, generator_of, grow, picture, record_of, vary
from benchmarks.evidence.code import JUDGES, MAKING, VARYING, code
from benchmarks.evidence.rows import Row
from benchmarks.report import RESULTS
from trainers.additions import Batch
from trainers.uplift.bench import Bench
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled

KEPT = RESULTS / "evidence"
REAL, CLASSICAL, PASTED, SOME, LONGTAIL, BOTH = "real", "classical", "copy_paste", "longtail_less", "longtail", "both"
TWICE = "classical_twice"
"""As many varied copies as `BOTH` adds images, more where filters left Longtail's short: what tells two kinds of images from twice as many.

It was thought of when the rows had been measured; a row is whole without it.
"""
ARMS = (REAL, CLASSICAL, PASTED, LONGTAIL, BOTH, SOME, TWICE)
VARIED = frozenset({CLASSICAL, TWICE})
GENERATED = frozenset({LONGTAIL, BOTH, SOME})


def arms_of(row: Row) -> list[str]:
    """Where the class is the whole image there is nothing to paste."""
    return [a for a in ARMS if a != PASTED or row.setting.model == "detector"]


def needed(row: Row) -> list[str]:
    """Without which a row says nothing."""
    return [a for a in arms_of(row) if a != TWICE]


def key_of(row: Row, arm: str, images: str, generator: str) -> str:
    """What a run rests on, in twelve letters: configuration, code, the draw's `images`, and the weights that made what was added."""
    made = arm in GENERATED or arm == PASTED
    said = asdict(row) | {"draw": None, "title": "", "seeds": 0, "draws": 0, "objects": row.objects if made and row.setting.model == "detector" else 1}
    parts = [json.dumps(said, default=str, sort_keys=True), code(JUDGES[row.setting.model]), images]
    if arm != REAL:
        parts.append(code(VARYING if arm in VARIED else (*MAKING, *VARYING) if arm == BOTH else MAKING))
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


def run_draw(row: Row, data: Path, draw: int, *, arms: Sequence[str] = ARMS, threads: int = 1) -> None:
    """Every run of the draw and of these arms that is not there yet; a draw that is whole needs no generator, whose weights are not kept in the repository."""
    torch.set_num_threads(threads)
    say = functools.partial(print, f"{row.name} {draw}:", flush=True)
    view = row.draw(data, draw)
    body = kept(row.name, draw) | {"images": view.fingerprint()}
    body.setdefault("generator", "")
    asked = [a for a in arms_of(row) if a in arms]
    if not missing_runs(row, body, asked):
        return
    lacking = {arm for arm, _ in missing_runs(row, body, asked)}
    painter, body["generator"] = generator_of(row, view, draw, say) if GENERATED & lacking else (None, body["generator"])
    keys, missing = keys_of(row, body, asked), missing_runs(row, body, asked)
    names = list(view.names)
    canvas = Canvas.of([(s.width, s.height) for s in view.real("train")], long_side_px=row.setting.side_px)
    bench = Bench(row.setting, names, canvas)
    real, held = view.labelled("train"), {split: view.labelled(split) for split in ("val", "test")}
    prepared = bench.prepare(real)
    measured = {split: (images, bench.prepare(images)) for split, images in held.items()}
    most = round(len(real) * row.ratios[1])
    less = round(len(real) * row.ratios[0])
    seen: dict[str, list[Any]] = {}

    def of(name: str, images: Callable[[], list[Labelled]]) -> list[Any]:
        """Prepared once, when an arm first asks."""
        if name not in seen:
            found = images()
            picture(found, OUT / "pictures" / f"{row.name}-{draw}-{name}.png")
            seen[name] = bench.prepare(found)
        return seen[name]

    def counted(name: str, added: Batch) -> list[Labelled]:
        body.setdefault("additions", {})[name] = record_of(added)
        return added.images

    def longtail() -> list[Any]:
        return of(LONGTAIL, lambda: counted(LONGTAIL, grow(row, view, most, mode="inpaint", draw=draw, painter=painter)))

    def pasted() -> list[Any]:
        return of(PASTED, lambda: counted(PASTED, grow(row, view, most, mode="copy_paste", draw=draw, painter=None)))

    def classical() -> list[Any]:
        return of(CLASSICAL, lambda: vary(row, view, most, draw=draw))

    def twice() -> list[Any]:
        return of(TWICE, lambda: vary(row, view, 2 * most, draw=draw))

    added: dict[str, Callable[[], list[Any]]] = {
        REAL: list, CLASSICAL: classical, PASTED: pasted, LONGTAIL: longtail, BOTH: lambda: longtail() + classical(), SOME: lambda: longtail()[:less],
        TWICE: twice,
    }  # fmt: skip
    parent = os.getppid()
    for arm, seed in missing:
        if os.getppid() != parent:
            raise SystemExit("what started this worker has ended")
        training = prepared + added[arm]()
        began = time.process_time()
        outcome = bench.run(training, measured, seed=seed)
        spent = time.process_time() - began
        body["runs"][f"{arm}-{seed}"] = {"key": keys[arm], "images": len(training), "core_seconds": round(spent, 1), **outcome}
        body |= {"names": names, "grown": list(row.grown) or names, "foundation": hashlib.sha256(foundation_path(row).read_bytes()).hexdigest()[:12]}
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
