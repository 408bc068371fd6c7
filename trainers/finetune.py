"""Fine-tuning as a job: data in, checkpoints as it goes, figures and pictures to MLflow, weights and gates out."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from infra.catalogue import Catalogue
from infra.images import to_png
from infra.progress import Progress
from infra.registry import Registry
from longtail.boxes import xywh_to_xyxy
from longtail.errors import InvalidRequest, NotFound
from longtail.gates import MIN_TO_JUDGE, class_key
from longtail.recipes import NETWORK_OPTIONS, Recipe, Start
from trainers import checkpoints, weights
from trainers.dataset import DatasetView, ObjectRef, to_lay_elsewhere
from trainers.device import as_tensor
from trainers.gating import Judge, Judged
from trainers.grids import grid
from trainers.loop import Progress as LoopProgress
from trainers.loop import train
from trainers.render import SERVED_MARGIN
from trainers.report import Curves, interpolations, training_report
from trainers.state import TrainState
from trainers.upscale import CROP_PX, FACTORS, WORTH, Upscaler, UpscalerConfig, crops, gain, train_upscaler
from trainers.windows import Instance, Windows, cut_windows, gray_labels, on_grounds, resize

WINDOWS_PER_INSTANCE = 6
MOST_INSTANCES = 400
MOST_EMPTY = 40
MOST_CROPS, HELD_CROPS = 256, 48
LEAST_TO_STEER, UNJUDGED_STRENGTH = 8, 0.3
"""Held-out objects that steer the augmentation's strength; with fewer it stays where runs that are steered mostly end."""
PHASES = {"warm": "restoring real objects", "catch_up": "the critic catches up", "adversarial": "inventing against the critic", "done": "done"}


def run_finetune(
    catalogue: Catalogue, view: DatasetView, *, job: str, classes: list[str], recipe: Recipe, start: Start, report: Progress
) -> dict[str, Any]:
    """Trains a generator on the classes for the recipe's time; where its weights lie, its gates and its MLflow run.

    Interrupted, it goes on from its last checkpoint under the same job. Raises InvalidRequest for a class of no instance.
    """
    report(0, "cutting windows")
    data = TrainingData.of(view, classes, resolution=recipe.network.resolution_px, seed=recipe.seed)
    recipe = replace(recipe, network=replace(recipe.network, gray_labels=gray_labels(data.windows)))
    state, checkpoint = open_state(catalogue, view, job, recipe, start)
    registry = Registry(catalogue.settings.mlflow_url)
    run = registry.start_run(
        experiment=f"longtail-{view.dataset}",
        name=f"finetune {', '.join(classes)}",
        params={f"recipe.{k}": v for k, v in state.recipe.to_json().items()},
        tags={"longtail.job": job, "longtail.dataset": view.dataset, "longtail.dataset_version": str(view.version["number"]),
              "longtail.start": start},
    )  # fmt: skip
    if data.val is None and not state.step:
        state.strength = UNJUDGED_STRENGTH
    judge = Judge(data.singles, data.select, data.judging, data.names, mirrored=recipe.symmetries != "none")
    saved, curves = state.elapsed_s, Curves(state.curves)
    for at in train(state, data.windows, data.val, clock=time.monotonic, score=judge.score):
        log_progress(registry, run, state, data, at)
        curves.add(at)
        report(at.fraction * 0.82, f"{PHASES[at.phase]}: {at.images} images", phase=at.phase, figures=at.figures)
        if state.elapsed_s - saved >= state.recipe.checkpoint_every_s:
            saved = state.elapsed_s
            catalogue.objects.write(checkpoint, checkpoints.to_bytes(state))
    upscaler, gains = sharpened(data, state.recipe, report)
    registry.log_figures(run, {f"upscaler/gain_x{factor}": value for factor, value in gains.items()}, step=state.step)
    report(0.92, "measuring the gates")
    judged = judge.gates(state.ema.module)
    data_bytes = weights.to_bytes(state.ema.module, classes=view.names, upscaler=upscaler, mirrored=recipe.symmetries != "none")
    prefix = catalogue.settings.place(view.dataset, "generators")
    uri, _ = catalogue.objects.write_addressed(prefix, data_bytes, suffix=".safetensors", content_type="application/octet-stream")
    registry.log_file(run, "generator/generator.safetensors", data_bytes)
    page, twin = file_evidence(registry, run, data, state, judged, curves, title=f"{view.dataset}: a generator of {', '.join(classes)}")
    catalogue.objects.write(catalogue.settings.report_of(view.dataset, job), page)
    catalogue.objects.write(catalogue.settings.report_of(view.dataset, job, kind="json"), twin)
    registry.finish_run(run)
    return {
        "uri": uri,
        "run": run,
        "gates": [g.to_json() for g in judged.gates],
        "watchdogs": state.events,
        "augmentation": {"strength": state.strength, "steered": data.val is not None},
        "upscaler": {"used": upscaler is not None, **{f"gain_x{factor}": value for factor, value in gains.items()}},
        "images": state.images,
        "steps": state.step,
        "best_kid": None if not np.isfinite(state.best_score) else state.best_score,
        "recipe": state.recipe.to_json(),
    }


def file_evidence(
    registry: Registry, run: str, data: TrainingData, state: TrainState, judged: Judged, curves: Curves, *, title: str
) -> tuple[bytes, bytes]:
    """Puts what speaks for and against the generator into its run: watchdogs, pictures, gates, and the report, whose page and twin are returned."""
    registry.log_file(run, "watchdogs.json", json.dumps(state.events, indent=1).encode())
    final = grid(state, data.shown)
    registry.log_file(run, "grids/final.png", to_png(final))
    for path, picture in judged.pictures.items():
        registry.log_file(run, path, to_png(picture))
    latent = interpolations(state.ema.module, data.singles, data.names)
    page, twin = training_report(title, judged, curves, recipe=state.recipe, watchdogs=state.events, grid=final, latent=latent)
    registry.log_file(run, "report.html", page.encode())
    registry.log_file(run, "report.json", twin.encode())
    measured = {f"gate/{g.name}/{class_key(g.class_name)}": g.figure for g in judged.gates if np.isfinite(g.figure)}
    measured |= {f"fid/{class_key(f.class_name)}": f.figure for f in judged.fids} | {f"fid_of_real/{class_key(f.class_name)}": f.real for f in judged.fids}
    registry.log_figures(run, measured, step=state.step)
    return page.encode(), twin.encode()


def sharpened(data: TrainingData, recipe: Recipe, report: Progress) -> tuple[Upscaler | None, dict[int, float]]:
    """(upsampler, its gain over bicubic on held-out crops for each factor): trained where windows are large, kept where it is better.

    None where nothing is held out to tell.
    """
    if not len(data.crops) or not len(data.held_crops) or not recipe.upscaler_s:
        return None, {}
    torch.manual_seed(recipe.seed)
    upscaler = Upscaler(UpscalerConfig())
    for done, figures in train_upscaler(upscaler, data.crops, seconds=recipe.upscaler_s, seed=recipe.seed, clock=time.monotonic):
        report(0.82 + 0.1 * done, "learning to enlarge", figures=figures)
    gains = {factor: gain(upscaler, data.held_crops, factor) for factor in FACTORS}
    return (upscaler if min(gains.values()) > 0 else None), gains


class TrainingData:
    """Windows of the classes: several an instance to train on, one an instance to compare with, and those held out.

    Of the held-out images some choose (checkpoint, augmentation strength) and the others judge. `val` is None where they are too few to
    tell what the critic memorises; `shown` are the windows that pictures are made of.
    """

    def __init__(
        self, train: list[Instance], select: list[Instance], judging: list[Instance], names: dict[int, str], *, resolution: int, whole: bool, seed: int
    ) -> None:
        self.names = names
        count = 1 if whole else max(1, min(WINDOWS_PER_INSTANCE, most_windows(resolution) // max(1, len(train))))
        self.windows = cut(train, resolution, count, seed, whole)
        self.singles = cut(train, resolution, 1, seed, whole, fixed=True)
        none = self.singles.subset(torch.zeros(0, dtype=torch.long))
        self.select, self.judging = (cut(part, resolution, 1, seed, whole, fixed=True) if part else none for part in (select, judging))
        self.val = cut(select, resolution, 1, seed, whole) if len(select) >= LEAST_TO_STEER else None
        self.shown = self.singles if self.val is None else self.val
        sides = [max(x1 - x0, y1 - y0) * (1 if whole else SERVED_MARGIN) for x0, y0, x1, y1 in (i.box_xyxy for i in train)]
        large = float(np.median(sides)) > WORTH * resolution
        sharp, held = (train, judging) if judging else apart(train)
        self.crops, self.held_crops = (
            crops([i.image for i in part], [i.box_xyxy for i in part], size=CROP_PX, count=count, seed=seed)
            for part, count in ((sharp if large else [], MOST_CROPS), (held if large else [], HELD_CROPS))
        )

    @classmethod
    def of(cls, view: DatasetView, classes: list[str], *, resolution: int, seed: int) -> TrainingData:
        names = {view.classes.index_of(view.classes.id_of(c)): c for c in classes}
        held = halve(list(view.objects("val", classes=classes)), seed=seed)
        parts: dict[str, list[ObjectRef]] = {"train": list(view.objects("train", classes=classes)), "select": held[0], "judging": held[1]}
        cutouts: dict[str, list[Instance]] = {}
        rng = np.random.default_rng(seed)
        whole = False
        for part, found in parts.items():
            whole = whole or any(o.sample.annotations[o.position].bbox_xywh is None for o in found)
            found = [o for label in names for o in to_lay_elsewhere([f for f in found if f.label == label])]
            keep = [found[i] for i in sorted(rng.permutation(len(found))[:MOST_INSTANCES])]
            cutouts[part] = [view.instance(o) for o in keep]
            if part != "select" and not whole:
                cutouts[part] = on_own_grounds(view, keep, cutouts[part], rng)
        for label, name in names.items():
            if not any(i.label == label for i in cutouts["train"]):
                raise InvalidRequest(f"class {name!r} has no training instance in {view.dataset!r}; there is nothing to learn from")
        return cls(cutouts["train"], cutouts["select"], cutouts["judging"], names, resolution=resolution, whole=whole, seed=seed)


def apart(found: list[Instance]) -> tuple[list[Instance], list[Instance]]:
    """The instances without those of every tenth image, and those: where no split is held out, something has to be."""
    images = list(dict.fromkeys(id(i.image) for i in found))
    held = set(images[::10]) if len(images) > 1 else set()
    return [i for i in found if id(i.image) not in held], [i for i in found if id(i.image) in held]


def on_own_grounds(view: DatasetView, found: list[ObjectRef], instances: list[Instance], rng: np.random.Generator) -> list[Instance]:
    """The instances with places of their size in the images that they come from, or in images without any label."""
    empty = [s for s in view.real("train") if not s.annotations]
    samples = list({o.sample.id: o.sample for o in found}.values()) + [empty[i] for i in rng.permutation(len(empty))[:MOST_EMPTY]]
    occupied = [[xywh_to_xyxy(a.bbox_xywh) for a in s.annotations if a.bbox_xywh is not None] for s in samples]
    return on_grounds(instances, [view.pixels(s)[0] for s in samples], occupied, rng)


def most_windows(resolution: int) -> int:
    """How many windows are held in memory: 4,000 of 64 px, fewer of larger ones."""
    return max(400, 4000 * 64**2 // max(64, resolution) ** 2)


def halve(found: list[ObjectRef], *, seed: int) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """(objects that choose, objects that judge), no image in both: half of the images judge, or more where a class needs it.

    A class that is too small to be halved judges whole; what chooses is then compared with training objects.
    """
    ids = sorted({o.sample.id for o in found})
    left = Counter({label: min(MIN_TO_JUDGE, count) for label, count in Counter(o.label for o in found).items()})
    judging: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(ids)):
        if len(judging) >= (len(ids) + 1) // 2 and not +left:
            break
        judging.add(ids[i])
        left.subtract(o.label for o in found if o.sample.id == ids[i])
    return [o for o in found if o.sample.id not in judging], [o for o in found if o.sample.id in judging]


def cut(instances: list[Instance], resolution: int, count: int, seed: int, whole: bool, *, fixed: bool = False) -> Windows:
    """Windows around boxes, or each whole image squeezed to a square where the image itself is the object."""
    if not whole:
        return cut_windows(instances, resolution=resolution, per_instance=count, seed=seed, fixed=fixed)
    images = as_tensor(np.stack([resize(i.image, resolution) for i in instances])).permute(0, 3, 1, 2).contiguous()
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(instances), 1)
    return Windows.plain(images, boxes, torch.tensor([i.label for i in instances]), torch.arange(len(instances)))


def open_state(catalogue: Catalogue, view: DatasetView, job: str, recipe: Recipe, start: Start) -> tuple[TrainState, str]:
    """(state, where its checkpoints go): the job's own last checkpoint, or what the recipe starts from, a foundation with new class embeddings."""
    checkpoint = catalogue.settings.place(view.dataset, "checkpoints", f"{job}.safetensors")
    try:
        return checkpoints.from_bytes(catalogue.objects.read(checkpoint)), checkpoint
    except NotFound:
        return begun(recipe, start, num_classes=len(view.names)), checkpoint


def begun(recipe: Recipe, start: Start, *, num_classes: int) -> TrainState:
    """A state with random weights, or with the foundation's, whose network the recipe then takes, save for what it asks of the critic."""
    if start == "random":
        return TrainState.fresh(recipe, num_classes=num_classes)
    tensors, meta = weights.foundation()
    asked = {k: getattr(recipe.network, k) for k in (*NETWORK_OPTIONS, "gray_labels")}
    state = TrainState.fresh(replace(recipe, network=replace(checkpoints.recipe_of(meta).network, **asked)), num_classes=num_classes)
    state.adopt(tensors)
    return state


def log_progress(registry: Registry, run: str, state: TrainState, data: TrainingData, at: LoopProgress) -> None:
    figures = {f"train/{k}": v for k, v in at.figures.items()} | {"images": float(at.images)}
    if at.score is not None:
        figures["val/kid"] = at.score
    for finding in at.findings:
        figures[f"watchdog/{finding.name}"] = finding.figure
        figures[f"watchdog/{finding.name}_barks"] = float(finding.bad)
    registry.log_figures(run, {k: v for k, v in figures.items() if np.isfinite(v)}, step=at.step)
    if at.findings:
        registry.log_file(run, f"grids/{at.images:08d}.png", to_png(grid(state, data.shown)))
