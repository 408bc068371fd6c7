"""An evaluation as Ray workers do it: each run on its own, from a version's images; what is shared between runs is kept by the process."""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.catalogue import Catalogue
from infra.settings import Settings
from infra.tables import batched
from longtail.errors import InvalidRequest
from longtail.samples import Sample
from longtail.seeds import derive_seed
from longtail.uplift import BOTH, CLASSICAL, COPY_PASTE, LONGTAIL, REAL, share_of
from trainers.additions import Batch, labelled, varied
from trainers.dataset import DatasetView
from trainers.making import made
from trainers.planning import Model
from trainers.uplift.arms import figures_of, measure, outcome_of, primary_of, table
from trainers.uplift.bench import Bench, Setting
from trainers.uplift.bench import Model as ModelName
from trainers.uplift.changes import most_changed
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled
from trainers.uplift.plugged import run_command
from trainers.uplift.policy import choose

MOST_RATIO = 8
"""Of an addition to be made on the spot: images for each real one at most."""
ROUNDS = 3
CHUNK = 64
"""Whole images in memory at once while they are prepared."""
NOTHING = np.zeros((0, 0, 3), dtype=np.uint8)
Run = dict[str, Any]


@dataclass(frozen=True)
class Addition:
    """What Longtail adds, in the order in which shares of it are taken; the ids of its samples where it is published."""

    images: list[Labelled]
    classes: dict[str, int]
    ids: list[str]
    objects: int = 1
    """How many new objects its images have, most often."""


class Evaluation:
    """The images of one request's arms. `request` is what the workflow asked: see `services.api.schemas.Evaluate`."""

    def __init__(self, catalogue: Catalogue, request: Mapping[str, Any]) -> None:
        self.request, dataset = request, request["dataset"]
        self.base = DatasetView(catalogue, dataset, catalogue.database.version(dataset, request["base"]))
        number = request.get("candidate")
        self.alone = number == request["base"]
        """Whether a version is measured against its own real images."""
        self.real = [s for s in self.base.samples if s.split == "train" and (s.origin == "real" or not self.alone)]
        self.candidate = None if number is None else DatasetView(catalogue, dataset, catalogue.database.version(dataset, number))
        self.bench = Bench(setting_of(request, self.base), self.base.names, self.canvas())
        self._prepared: dict[str, tuple[list[Labelled], list[Any]]] = {}
        self.filtered: dict[str, dict[str, Any]] = {}
        """What the filters left of each part that was made here; see `longtail.filtering.shortfall`."""

    def canvas(self) -> Canvas:
        return Canvas.of([(s.width, s.height) for s in self.real], long_side_px=self.request["side_px"])

    @functools.cached_property
    def addition(self) -> Addition:
        """The candidate's own synthetic samples, or as many as asked for that the generator makes now. Raises InvalidRequest where there is none."""
        if self.candidate is None:
            return self.asked_of_generator()
        known = set() if self.alone else set(self.base.by_id)
        added = [s for s in self.candidate.samples if s.split == "train" and s.origin == "synthetic" and s.id not in known]
        if not added:
            raise InvalidRequest(f"version {self.request['candidate']} has no synthetic image that version {self.request['base']} has not; nothing to measure")
        added.sort(key=lambda s: derive_seed("share", s.id))
        images = [labelled(self.candidate, s) for s in added]
        several = Counter(len(s.provenance.layers) for s in added if s.provenance).most_common(1)
        return Addition(images, counted(added, self.base), [s.id for s in added], several[0][0] if several else 1)

    def asked_of_generator(self) -> Addition:
        asked = self.request["generator"]
        model, wanted = Model(asked["name"], asked["version"], asked["uri"]), asked["count"]
        if wanted > MOST_RATIO * len(self.real):
            raise InvalidRequest(f"count: {wanted} images for {len(self.real)} real ones; at most {MOST_RATIO} for each are measured")
        whole, classes, each = Batch(), dict[str, int](), -(-wanted // len(asked["classes"]))
        self.filtered.pop(LONGTAIL, None)
        for name, novelty in asked["classes"].items():
            request = {**asked["request"], "class_name": name, "novelty": novelty}
            batch = self.accepted(LONGTAIL, request, each, key=asked["key"], model=model)
            whole.add(batch)
            classes |= {name: len(batch.images)} if batch.images else {}
        if not whole.images:
            raise InvalidRequest(f"none of {whole.made} images that the generator made passed the filters: {whole.rejected}; there is nothing to measure")
        order = sorted(range(len(whole.images)), key=lambda k: derive_seed("share", asked["key"], k))
        return Addition([whole.images[k] for k in order], classes, [], asked["request"]["objects"])

    def accepted(self, part: str, request: Mapping[str, Any], count: int, *, key: str, model: Model) -> Batch:
        """So many images of a part that pass the filters, or what a few rounds bring, counted in `filtered`."""
        found = Batch()
        for attempt in range(ROUNDS):
            wanted = -(-(count - len(found.images)) * 5 // 4)
            found.add(made(self.base, {**request, "count": wanted}, key=f"{key}-{attempt}", model=model))
            if len(found.images) >= count:
                break
        self.count(part, count, found)
        return Batch(found.images[:count], found.made, found.rejected)

    def count(self, part: str, wanted: int, found: Batch) -> None:
        here = {"wanted": wanted, "made": found.made, "accepted": len(found.images), "kept": min(wanted, len(found.images))}
        before = self.filtered.get(part, {})
        rejected = Counter(before.get("rejected", {})) + Counter(found.rejected)
        self.filtered[part] = {**{k: before.get(k, 0) + n for k, n in here.items()}, "rejected": dict(rejected)}

    def pasted(self) -> list[Labelled]:
        """As many images with pasted instances as the addition has, of its classes, as many in each."""
        found = Batch()
        self.filtered.pop(COPY_PASTE, None)
        for name, count in self.addition.classes.items():
            request = {"class_name": name, "mode": "copy_paste", "novelty": None, "objects": self.addition.objects}
            found.add(self.accepted(COPY_PASTE, request, count, key=f"pasted-{name}", model=Model()))
        return found.images

    def copies(self) -> list[Labelled]:
        """As many varied copies as the addition has images of each class, of the images that hold the class."""
        originals = [s for s in self.real if s.origin == "real"]
        return varied(self.base, originals, self.addition.classes, self.request["augment"], seed=("uplift", self.request["dataset"]))

    def samples(self, part: str) -> list[Sample]:
        """The base's own images of a part."""
        return self.real if part == REAL else [s for s in self.base.samples if s.split == part and s.origin == "real"]

    def images(self, part: str) -> Iterable[Labelled]:
        """The part's images; those of the base one at a time."""
        if part in (REAL, "val", "test"):
            return (labelled(self.base, s) for s in self.samples(part))
        return {LONGTAIL: lambda: self.addition.images, COPY_PASTE: self.pasted, CLASSICAL: self.copies}[part]()

    def prepared(self, part: str) -> tuple[list[Labelled], list[Any]]:
        """(labels of the part's images without their pixels, the images as the reference model takes them), prepared once a process."""
        if part not in self._prepared:
            labels, taken = list[Labelled](), list[Any]()
            for images in batched(self.images(part), CHUNK):
                taken += self.bench.prepare(images)
                labels += [replace(i, pixels=NOTHING) for i in images]
            self._prepared[part] = labels, taken
        return self._prepared[part]

    def parts(self, arm: str) -> list[tuple[str, int | None]]:
        """(part, how many of its images) that the arm is trained on."""
        share = share_of(arm)
        added = [] if not share else [(LONGTAIL, max(1, round(share * len(self.addition.images))))]
        more = {CLASSICAL: CLASSICAL, COPY_PASTE: COPY_PASTE, BOTH: CLASSICAL}.get(arm)
        return [(REAL, None), *added, *([(more, None)] if more else [])]

    def run(self, arm: str, seed: int, *, command: Sequence[str] = (), figure: str | None = None) -> Run:
        """One run, as plain JSON. Raises InvalidRequest where a team's own trainer does not give the `figure` that decides."""
        began = time.process_time()
        parts = self.parts(arm)
        outcome: dict[str, Any]
        if command:
            training = (i for part, most in parts for i in itertools.islice(self.images(part), most))
            images = {"train": training, **{split: self.images(split) for split in ("val", "test")}}
            outcome, written = run_command(command, images, self.base.names, task=self.base.task, seed=seed)
            if figure is not None and any(figure not in found for found in outcome.values()):
                raise InvalidRequest(f"figure {figure!r}: the trainer gives {sorted(outcome['test'])}")
            count = written["train"]
        else:
            taken = [i for part, most in parts for i in self.prepared(part)[1][:most]]
            outcome = dict(self.bench.run(taken, {s: self.prepared(s) for s in ("val", "test") if self.samples(s)}, seed=seed))
            count = len(taken)
        told: Run = {"classes": self.addition.classes, "added": len(self.addition.images), "ids": self.addition.ids} if share_of(arm) else {}
        told |= {"filtered": {part: self.filtered[part] for part, _ in parts if part in self.filtered}}
        return {"arm": arm, "seed": seed, "images": count, "core_seconds": round(time.process_time() - began, 1), **told, **outcome}


def counted(added: Sequence[Sample], view: DatasetView) -> dict[str, int]:
    """How many samples were added for each class: the one that they were made for, or all that they show where nobody says."""
    counts: dict[str, int] = {}
    for sample in added:
        said = [sample.provenance.class_name] if sample.provenance else sorted({view.classes.names[a.category_id] for a in sample.annotations})
        for name in said:
            counts[name] = counts.get(name, 0) + 1
    return counts


def setting_of(request: Mapping[str, Any], view: DatasetView) -> Setting:
    model: ModelName = request["model"] or ("detector" if view.task == "detection" else "classifier")
    if (model == "detector") != (view.task == "detection"):
        raise InvalidRequest(f"model {model!r} does not fit {view.dataset!r}, a dataset of {view.task}")
    return Setting(model, request["steps"], request["weights"], request["side_px"])


@functools.lru_cache(maxsize=1)
def evaluation_of(job: str, request: str) -> Evaluation:
    """The request's (JSON, so that it can be kept by), as the runs of one job share it in this process."""
    catalogue = Catalogue.of(Settings())
    found = Evaluation(catalogue, json.loads(request))
    catalogue.database.engine.dispose()
    return found


def tables_of(runs: Sequence[Run], *, model: ModelName, names: Sequence[str], figure: str | None = None) -> dict[str, Any]:
    """What all runs say: figures of each run, every arm against real images, against classical copies and pasted ones, and the policy's choice."""
    grown = next(r["classes"] for r in runs if share_of(r["arm"]))
    rare = [n for n in names if n in grown] if len(grown) < len(names) else []
    outcomes = {split: {(r["arm"], r["seed"]): outcome_of(model, r[split]) for r in runs if split in r} for split in ("val", "test")}
    first = next(iter(outcomes["test"].values()))
    figures = figures_of(model, names, rare, example=first)
    primary = figure or primary_of(model, rare, figures)
    if primary not in figures:
        raise InvalidRequest(f"figure {primary!r} was not measured; there are {sorted(figures)}")
    arms, seeds = list(dict.fromkeys(r["arm"] for r in runs)), list(dict.fromkeys(r["seed"] for r in runs))
    test = {arm: [outcomes["test"][arm, seed] for seed in seeds] for arm in arms}
    pairs = [(a, REAL) for a in arms if a != REAL] + [(LONGTAIL, a) for a in (CLASSICAL, COPY_PASTE) if a in arms]
    pairs += [(BOTH, CLASSICAL)] if {BOTH, CLASSICAL} <= set(arms) else []
    measured = [
        {"arm": r["arm"], "seed": r["seed"], "images": r["images"], "core_seconds": r["core_seconds"],
         "figures": measure(outcomes["test"][r["arm"], r["seed"]], figures),
         "on_val": measure(outcomes["val"][r["arm"], r["seed"]], figures) if "val" in r else None}
        for r in runs
    ]  # fmt: skip
    leads = {
        a: [r["on_val"][primary] for r in measured if r["arm"] == a and r["on_val"] and r["on_val"].get(primary) is not None]
        for a in arms if a == REAL or (share_of(a) and a != BOTH)
    }  # fmt: skip
    chosen = choose(leads, first=REAL) if all(len(v) == len(seeds) for v in leads.values()) else None
    return {
        "figure": primary, "rare": rare, "grown": grown, "runs": measured, "seeds": seeds, "added": next(r["added"] for r in runs if share_of(r["arm"])),
        "filtered": {part: found for r in reversed(runs) for part, found in r.get("filtered", {}).items()},
        "tables": {f"{a} - {b}": table(test[b], test[a], figures, draws=seeds) for a, b in pairs},
        "changed": most_changed(test[REAL], test[LONGTAIL], [names.index(n) for n in rare or names]) if {REAL, LONGTAIL} <= set(arms) else [],
        "policy": {"chosen": chosen, "share": None if chosen is None else share_of(chosen), "on_val": {a: sum(v) / len(v) for a, v in leads.items() if v}},
    }  # fmt: skip
