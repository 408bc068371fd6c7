"""Fine-tuning as a job: data in, checkpoints as it goes, figures and pictures to MLflow, weights and gates out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.catalogue import Catalogue
from infra.images import to_png
from infra.progress import Progress
from infra.registry import Registry
from longtail.errors import NotFound
from longtail.gates import class_key
from longtail.recipes import NETWORK_OPTIONS, Recipe, Start
from trainers import checkpoints, weights
from trainers.dataset import DatasetView
from trainers.gating import Judge, Judged
from trainers.grids import grid
from trainers.held_out import hold_out
from trainers.loop import Progress as LoopProgress
from trainers.loop import train
from trainers.neighbours import beside_nearest
from trainers.quality.gates import unmeasured
from trainers.report import Curves, interpolations, training_report
from trainers.state import TrainState
from trainers.training_data import TrainingData, others_of
from trainers.upscale import sharpened
from trainers.windows import gray_labels

PHASES = {"warm": "restoring real objects", "catch_up": "the critic catches up", "adversarial": "inventing against the critic", "done": "done"}


def run_finetune(
    catalogue: Catalogue, view: DatasetView, *, job: str, classes: list[str], recipe: Recipe, start: Start, report: Progress
) -> dict[str, Any]:
    """Trains a generator on the classes for the recipe's time; where its weights lie, its gates and its MLflow run.

    Interrupted, it goes on from its last checkpoint under the same job. Raises InvalidRequest for a class of no instance.
    """
    report(0, "cutting windows")
    held_out = hold_out(view, classes, catalogue.looks(view.dataset).prints)
    data = TrainingData.of(view, classes, resolution=recipe.network.resolution_px, seed=recipe.seed)
    recipe = replace(recipe, network=replace(recipe.network, gray_labels=gray_labels(data.windows)))
    state, checkpoint = open_state(catalogue, view, job, recipe, start)
    registry = Registry(catalogue.settings.mlflow_url)
    run = registry.start_run(
        experiment=f"longtail-{view.dataset}",
        name=f"finetune {', '.join(classes)}",
        params={f"recipe.{k}": v for k, v in state.recipe.to_json().items()},
        tags={"longtail.job": job, "longtail.dataset": view.dataset, "longtail.dataset_version": str(view.version["number"]),
              "longtail.start": start, "longtail.held_out": json.dumps(held_out)},
    )  # fmt: skip
    if not state.step:
        state.strength = data.strength
    others = others_of(view, classes, resolution=recipe.network.resolution_px, seed=recipe.seed)
    mirrored = recipe.symmetries != "none"
    judge = Judge(
        data.singles, data.select, data.judging, data.names, mirrored=mirrored, counts=data.counts, others=others, aim=state.recipe.aim
    )  # fmt: skip
    curves = learn(catalogue, registry, run, state, data, judge, checkpoint, report)
    upscaler, gains = sharpened(
        data.crops, data.held_crops, seconds=state.recipe.upscaler_s, seed=state.recipe.seed, clock=time.monotonic,
        told=lambda done, figures: report(0.82 + 0.1 * done, "learning to enlarge", figures=figures),
    )  # fmt: skip
    registry.log_figures(run, {f"upscaler/gain_x{factor}": value for factor, value in gains.items()}, step=state.step)
    report(0.92, "measuring the gates")
    judged = judge.gates(state.ema.module)
    judged.gates.extend(unmeasured(judged.gates, data.names.values(), boxed=view.task == "detection"))
    data_bytes = weights.to_bytes(state.ema.module, classes=view.names, upscaler=upscaler, mirrored=mirrored)
    prefix = catalogue.settings.place(view.dataset, "generators")
    uri, _ = catalogue.objects.write_addressed(prefix, data_bytes, suffix=".safetensors", content_type="application/octet-stream")
    registry.log_file(run, "generator/generator.safetensors", data_bytes)
    title = f"{view.dataset}: a generator of {', '.join(classes)}"
    page, twin = file_evidence(registry, run, data, state, judge, judged, curves, title=title, held_out=held_out)
    catalogue.objects.write(catalogue.settings.report_of(view.dataset, job), page)
    catalogue.objects.write(catalogue.settings.report_of(view.dataset, job, kind="json"), twin)
    registry.finish_run(run)
    return {
        "uri": uri,
        "run": run,
        "gates": judged.told(),
        "held_out": held_out,
        "watchdogs": state.events,
        "augmentation": {"strength": state.strength, "steered": data.val is not None},
        "upscaler": {"used": upscaler is not None, **{f"gain_x{factor}": value for factor, value in gains.items()}},
        "images": state.images,
        "steps": state.step,
        "best_kid": None if not np.isfinite(state.best_score) else state.best_score,
        "best_kid_at": {name: judge.asked(label) for label, name in judge.names.items()},
        "recipe": state.recipe.to_json(),
    }


def learn(
    catalogue: Catalogue, registry: Registry, run: str, state: TrainState, data: TrainingData, judge: Judge, checkpoint: str, report: Progress
) -> Curves:
    """Trains to the end of the recipe, telling MLflow and the job how it goes, a checkpoint now and then; the figures of the way."""
    saved, curves = state.elapsed_s, Curves(state.curves)
    for at in train(state, data.windows, data.val, clock=time.monotonic, score=judge.score):
        log_progress(registry, run, state, data, at)
        curves.add(at)
        report(at.fraction * 0.82, f"{PHASES[at.phase]}: {at.images} images", phase=at.phase, figures=at.figures)
        if state.elapsed_s - saved >= state.recipe.checkpoint_every_s:
            saved = state.elapsed_s
            catalogue.objects.write(checkpoint, checkpoints.to_bytes(state))
    return curves


def file_evidence(
    registry: Registry, run: str, data: TrainingData, state: TrainState, judge: Judge, judged: Judged, curves: Curves, *, title: str,
    held_out: Mapping[str, int],
) -> tuple[bytes, bytes]:  # fmt: skip
    """Puts what speaks for and against the generator into its run: watchdogs, pictures, gates, and the report, whose page and twin are returned."""
    registry.log_file(run, "watchdogs.json", json.dumps(state.events, indent=1).encode())
    final = grid(state, data.shown)
    registry.log_file(run, "grids/final.png", to_png(final))
    for path, picture in judged.pictures.items():
        registry.log_file(run, path, to_png(picture))
    nearest = beside_nearest(state.ema.module, judge)
    for label, name in judge.names.items():
        registry.log_file(run, f"nearest/{label}-{class_key(name)}.png", to_png(nearest[name]))
    latent = interpolations(state.ema.module, data.singles, data.names)
    page, twin = training_report(
        title, judged, curves, recipe=state.recipe, watchdogs=state.events, grid=final, latent=latent, nearest=nearest, held_out=held_out
    )
    registry.log_file(run, "report.html", page.encode())
    registry.log_file(run, "report.json", twin.encode())
    measured = {f"gate/{g.name}/{class_key(g.class_name)}": g.figure for g in judged.gates if np.isfinite(g.figure)}
    measured |= {f"fid/{class_key(f.class_name)}": f.figure for f in judged.fids} | {f"fid_of_real/{class_key(f.class_name)}": f.real for f in judged.fids}
    measured |= {f"gate/novelty/{class_key(name)}": novelty for name, novelty in judged.novelties.items()}
    registry.log_figures(run, measured, step=state.step)
    return page.encode(), twin.encode()


def open_state(catalogue: Catalogue, view: DatasetView, job: str, recipe: Recipe, start: Start) -> tuple[TrainState, str]:
    """(state, where its checkpoints go): the job's own last checkpoint, or what the recipe starts from, a foundation with new class embeddings."""
    checkpoint = catalogue.settings.place(view.dataset, "checkpoints", f"{job}.safetensors")
    try:
        return checkpoints.from_bytes(catalogue.objects.read(checkpoint)), checkpoint
    except NotFound:
        return begun(recipe, start, num_classes=len(view.names)), checkpoint


def begun(recipe: Recipe, start: Start, *, num_classes: int, foundation: Path = weights.FOUNDATION) -> TrainState:
    """A state with random weights, or with the foundation's, whose network the recipe then takes, save for what it asks of the critic."""
    if start == "random":
        return TrainState.fresh(recipe, num_classes=num_classes)
    tensors, meta = weights.foundation(foundation)
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
