"""What Ray workers do: each function takes and returns plain JSON, and reads settings from its environment."""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

from infra.catalogue import Catalogue
from infra.images import decode, to_png
from infra.progress import Progress
from infra.settings import Settings
from longtail.boxes import xywh_to_xyxy
from longtail.errors import NotFound, StorageUnavailable
from longtail.policies import moves
from longtail.recipes import Preset, Start, finetune_recipe, options_for
from longtail.samples import Provenance
from longtail.seeds import derive_id
from trainers import captured, checkpoints, weights
from trainers.bank import crop
from trainers.dataset import DatasetView
from trainers.device import best_device
from trainers.evaluating import evaluation_of, tables_of
from trainers.finetune import run_finetune
from trainers.judging import Finished, Seen
from trainers.planning import Model, plan
from trainers.render import masked
from trainers.repeats import judged
from trainers.state import TrainState
from trainers.studio import Made, make
from trainers.uplift.bench import Model as ModelName

DETERMINISTIC_THREADS = 1


@contextmanager
def at_work(threads: int) -> Iterator[Catalogue]:
    """The catalogue, with torch on that many threads; database connections are closed afterwards."""
    torch.set_num_threads(threads)
    catalogue = Catalogue.of(Settings())
    try:
        yield catalogue
    finally:
        catalogue.database.engine.dispose()


@functools.lru_cache(maxsize=1)
def view_for(job: str, dataset: str, version: int) -> DatasetView:
    """The version as the parts of one job see it, kept by this process from part to part with the images that it has read."""
    catalogue = Catalogue.of(Settings())
    view = view_of(catalogue, dataset, version)
    catalogue.database.engine.dispose()
    return view


def view_of(catalogue: Catalogue, dataset: str, version: int) -> DatasetView:
    return DatasetView(catalogue, dataset, catalogue.database.version(dataset, version))


def foundation_weights(*, dataset: str, classes: list[str]) -> dict[str, Any]:
    """Stores the shipped foundation as a generator for these classes: {"uri": ...}."""
    with at_work(1) as catalogue:
        state = new_state(classes, seed=0)
        uri, _ = store_weights(catalogue, state, dataset, classes)
        return {"uri": uri}


def new_state(classes: list[str], *, seed: int) -> TrainState:
    tensors, meta = weights.foundation()
    recipe = checkpoints.recipe_of(meta)
    state = TrainState.fresh(recipe, num_classes=len(classes))
    state.adopt(tensors)
    return state


def store_weights(catalogue: Catalogue, state: TrainState, dataset: str, classes: list[str]) -> tuple[str, bytes]:
    data = weights.to_bytes(state.ema.module, classes=classes)
    prefix = catalogue.settings.place(dataset, "generators")
    uri, _ = catalogue.objects.write_addressed(prefix, data, suffix=".safetensors", content_type="application/octet-stream")
    return uri, data


def finetune(
    *, job: str, dataset: str, version: int, classes: list[str], preset: Preset, start: Start, budget_s: float, seed: int, recipe: dict[str, Any]
) -> dict[str, Any]:
    """Trains, resuming from the job's own checkpoint if there is one; see `trainers.finetune`."""
    with at_work(os.cpu_count() or 1) as catalogue, best_device():
        view = view_of(catalogue, dataset, version)
        report = Progress(catalogue.database, job, low=0.05, high=0.95)
        options = options_for(view.task, {"captured": captured.by_default(compiled=bool(recipe.get("compiled"))), **recipe})
        asked = finetune_recipe(preset=preset, start=start, budget_s=budget_s, seed=seed, options=options)
        return run_finetune(catalogue, view, job=job, classes=classes, recipe=asked, start=start, report=report)


def generate(
    *, job: str, dataset: str, version: int, request: dict[str, Any], key: str, model: dict[str, Any], start: int, count: int,
    prefix: str, low: float, high: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Plans, makes and stores `count` samples of a batch from `start` on; what is stored and measured, one record each."""
    with at_work(DETERMINISTIC_THREADS) as catalogue:
        view = view_for(job, dataset, version)
        report = Progress(catalogue.database, job, low=low, high=high)
        orders = plan(view, request, key=key, model=Model(**model), start=start, count=count)
        return stored(catalogue, view, orders, prefix, report)


def remake(*, job: str, dataset: str, version: int, samples: list[dict[str, Any]], prefix: str, low: float, high: float) -> list[dict[str, Any]]:
    """Makes and stores samples anew, without those of their objects that their filters refused."""
    with at_work(DETERMINISTIC_THREADS) as catalogue:
        records = [(s["id"], Provenance.from_json(s["record"]).only(s["kept"])) for s in samples]
        orders = [(sample_id, record) for sample_id, record in records if record is not None]
        return stored(catalogue, view_for(job, dataset, version), orders, prefix, Progress(catalogue.database, job, low=low, high=high))


def stored(catalogue: Catalogue, view: DatasetView, orders: list[tuple[str, Provenance]], prefix: str, report: Progress) -> list[dict[str, Any]]:
    """Makes each order's sample and stores it; what is known of each."""
    made, storing = [], []
    with ThreadPoolExecutor(1) as store:  # one sample is stored while the next is made
        for i, (sample_id, record) in enumerate(orders):
            sample = make(view, sample_id, record)
            storing.append(store.submit(catalogue.objects.write_addressed, prefix, sample.data, suffix=sample.suffix, content_type=sample.content_type))
            made.append(told(sample_id, record, sample))
            report((i + 1) / len(orders), f"{record.class_name}: {i + 1} of {len(orders)} in this part")
    return [{**one, **dict(zip(("uri", "etag"), at.result(), strict=True))} for one, at in zip(made, storing, strict=True)]


def told(sample_id: str, record: Provenance, sample: Made) -> dict[str, Any]:
    """What is known of a finished sample, as plain JSON."""
    width, height = sample.size_wh
    return {
        "id": sample_id, "record": record.to_json(), "size_bytes": len(sample.data), "width": width, "height": height,
        "annotations": [a.to_json() for a in sample.labels],
        "objects": [{"box_xyxy": list(o.box_xyxy), "change": o.change, "overlap": o.overlap, "seam": o.seam} for o in sample.objects],
    }  # fmt: skip


def filter_batch(*, job: str, dataset: str, version: int, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A verdict for each made sample, in order; its objects' own pixels are judged, as they are stored."""
    with at_work(os.cpu_count() or 1) as catalogue:
        view = view_for(job, dataset, version)
        files = [catalogue.objects.read(s["uri"]) for s in samples]
        records = [Provenance.from_json(s["record"]) for s in samples]
        made = [Finished(r, f, [Seen(**o) for o in s["objects"]]) for r, f, s in zip(records, files, samples, strict=True)]
        return [v.to_json() for v in judged(view, made)]


def regenerate(*, dataset: str, version: int, sample: str, record: dict[str, Any], uri: str) -> dict[str, Any]:
    """Makes the sample again and compares the decoded pixels with those stored."""
    with at_work(DETERMINISTIC_THREADS) as catalogue:
        made = make(view_of(catalogue, dataset, version), sample, Provenance.from_json(record))
        limit = catalogue.settings.max_image_pixels
        stored, _ = decode(catalogue.objects.read(uri), what=uri, max_pixels=limit)
        again, _ = decode(made.data, what="regenerated", max_pixels=limit)
        if stored.shape != again.shape:
            return {"identical": False, "largest_difference": 255}
        largest = int(np.abs(stored.astype(np.int16) - again.astype(np.int16)).max())
        return {"identical": largest == 0, "largest_difference": largest}


def uplift_run(*, job: str, request: dict[str, Any], arm: str, seed: int) -> dict[str, Any]:
    """One run of an evaluation: a reference model, or the team's own, trained on an arm with a seed and measured on real images.

    It is kept until the job is over, so that what a killed evaluation had finished is not run again.
    """
    with at_work(1) as catalogue:
        asked = json.dumps(request, sort_keys=True)
        kept = f"{catalogue.settings.runs_of(request['dataset'], job)}/{derive_id('run', asked, arm, seed)}.json"
        with suppress(NotFound):
            found: dict[str, Any] = json.loads(catalogue.objects.read(kept))
            return found
        trainer = request.get("trainer")
        command = [] if trainer is None else catalogue.settings.trainer_commands[trainer]
        run = evaluation_of(job, asked).run(arm, seed, command=command, figure=request["figure"])
        with suppress(StorageUnavailable):  # the run stands without
            catalogue.objects.write(kept, json.dumps(run).encode())
        return run


def uplift_tables(*, runs: list[dict[str, Any]], model: ModelName, names: list[str], figure: str | None) -> dict[str, Any]:
    """What the runs of an evaluation say together."""
    return tables_of(runs, model=model, names=names, figure=figure)


def nearest_pictures(*, dataset: str, version: int, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the report: of each sample its surroundings, the same place before, and its nearest real object."""
    with at_work(1) as catalogue:
        view = view_of(catalogue, dataset, version)
        return [picture_row(view, catalogue, s) for s in samples]


def picture_row(view: DatasetView, catalogue: Catalogue, sample: dict[str, Any]) -> dict[str, Any]:
    record = Provenance.from_json(sample["provenance"])
    pixels, _ = decode(catalogue.objects.read(sample["uri"]), what=sample["uri"], max_pixels=catalogue.settings.max_image_pixels)
    own = sample["annotations"][-1]["bbox"]
    x0, y0, x1, y1 = xywh_to_xyxy(own) if own else (0, 0, pixels.shape[1], pixels.shape[0])
    side = max(x1 - x0, y1 - y0) * 2.2
    around = ((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, (x0 + x1 + side) / 2, (y0 + y1 + side) / 2)
    left, top = max(0, int(around[0])), max(0, int(around[1]))
    row: dict[str, Any] = {"id": sample["id"], "made": picture(crop_at(pixels, around)), "box": [x0 - left, y0 - top, x1 - left, y1 - top]}
    if record.background and not (record.augment and moves(record.augment["policy"])):
        before = view.pixels(view.by_id[record.background["sample"]])[0]
        row["real"] = picture(crop_at(before, around))
        row["mask"] = picture(crop_at(masked(before, record.box_xyxy), around))
    key = sample["verdict"]["nearest"]
    owner, _, position = key.partition("#")
    if owner in view.by_id:
        near = view.by_id[owner]
        box = near.annotations[int(position)].bbox_xywh
        row["nearest"] = picture(crop(view.pixels(near)[0], xywh_to_xyxy(box) if box else (0, 0, near.width, near.height)))
    return row


def crop_at(pixels: np.ndarray[Any, np.dtype[np.uint8]], box: tuple[float, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return pixels[max(0, int(box[1])) : int(box[3]), max(0, int(box[0])) : int(box[2])]


def picture(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    """A crop as width, height and base64 PNG."""
    return {"width": pixels.shape[1], "height": pixels.shape[0], "png": base64.b64encode(to_png(pixels)).decode()}

