"""Images a second: the bare generator, then with composition and encoding, then stored in the bucket through a batch job.

    python -m benchmarks.generation [--quick] [--bare]

A batch's samples are made one at a time on one thread each, so that the same record gives the same pixels (docs/decisions/003);
the stages are measured in that way too. What the machine allows is its cores divided by the sum of the stages' own seconds, taken while
one core works, and again while all do: a core that works alone is faster. All in turns, thrice, since machines have moods.
`--bare` needs torch, numpy and pillow alone and no stack.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from benchmarks.report import Figure, save
from longtail.recipes import NETWORKS, Preset
from trainers import device
from trainers.architectures import build_generator
from trainers.networks import Generator

if TYPE_CHECKING:
    from infra.catalogue import Catalogue
    from infra.settings import Settings
    from longtail.client import Client
    from longtail.samples import Provenance
    from trainers.dataset import DatasetView

T = TypeVar("T")
BATCHES: dict[str, dict[Preset, int]] = {"cpu": {"tiny": 16}, "cuda": {"tiny": 512, "base": 256, "large": 128}}
TARGET = 8000.0
"""Images a second of the bare `large` generator at 256 px on one H100."""
SHARE = 0.8
COUNT, ALONE, TURNS = 1000, 256, 3
"""Images of the batch, and of each stage by itself: many, since a stage that opens the dataset would spread that over few. How often all of it."""
CORES = os.cpu_count() or 1
ASK_EVERY_S = 0.5
"""How often a batch is asked after: seldom, since asking costs the cores that make it."""
DATASET = "bench"
REQUEST: dict[str, Any] = {"class_name": "Platelets", "mode": "inpaint", "novelty": 0.5}


def built(preset: Preset, *, batch: int) -> tuple[Generator, tuple[Tensor, Tensor, Tensor]]:
    """A generator of random weights, and what it is asked with: inputs [B,9,R,R], latents [B,Z], labels [B]."""
    config = NETWORKS[preset]
    generator = build_generator(config, num_classes=3).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    inputs = torch.randn(batch, 9, config.resolution_px, config.resolution_px).contiguous(memory_format=torch.channels_last)
    return generator, (inputs, torch.randn(batch, config.latent), torch.zeros(batch, dtype=torch.long))


def rate(preset: Preset, *, batch: int, seconds: float) -> float:
    """Images a second of the generator alone, in batches; on a GPU in bfloat16 and compiled."""
    generator, inputs = built(preset, batch=batch)
    forward = torch.compile(generator) if device.on_gpu() else generator
    with torch.inference_mode(), device.precision():
        for _ in range(3):
            forward(*inputs)
        device.wait()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(10):
                forward(*inputs)
            device.wait()
            count += 10 * batch
        return count / (time.perf_counter() - start)


def bare(*, quick: bool) -> list[Figure]:
    kind = torch.get_default_device().type
    found = []
    for preset, batch in BATCHES[kind].items():
        value = rate(preset, batch=batch, seconds=2 if quick else 8)
        judged = kind == "cuda" and preset == "large"
        name = f"bare_{preset}_{NETWORKS[preset].resolution_px}px"
        found.append(Figure(name, value, "images/s", f">= {TARGET:.0f}" if judged else "", value >= TARGET if judged else None))
    return found


def ways_to_run(*, quick: bool) -> list[Figure]:
    """Images a second of `tiny`, one at a time on one thread as batches are made: plainly, compiled, and as an ONNX file, in turns."""
    import onnxruntime

    from trainers.onnx_export import to_onnx

    torch.set_num_threads(1)
    generator, inputs = built("tiny", batch=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(to_onnx(generator, classes="[]"), options, providers=["CPUExecutionProvider"])
    fed = {name: value.contiguous().numpy() for name, value in zip(("inputs", "latent", "label"), inputs, strict=True)}
    compiled: Callable[..., object] = torch.compile(generator)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: generator(*inputs), "compiled": lambda: compiled(*inputs), "onnx": lambda: session.run(None, fed)
    }  # fmt: skip
    with torch.inference_mode():
        for run in ways.values():
            run()
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, run in ways.items():
                rates[name].append(times_a_second(run, seconds=0.5 if quick else 3))
    torch.set_num_threads(CORES)
    return [Figure(f"one at a time: {name}", statistics.median(r), "images/s", spread=(min(r), max(r))) for name, r in rates.items()]


def times_a_second(run: Callable[[], object], *, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        count += 1
    return count / (time.perf_counter() - start)


def through_the_bucket(count: int) -> list[Figure]:
    """A stack of its own, the bundled blood cells; in turns the stages by themselves and one batch of `count` inpainted platelets."""
    from infra.embedded import Stack
    from infra.objects import Objects
    from longtail.client import Client
    from services.demo.packs import upload

    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "state", say=lambda line: None)
        settings = stack.start()
        try:
            client = Client(settings.api_url, settings.api_key)
            objects = Objects(settings, bucket="teams")
            objects.ensure_bucket()
            upload(objects, "bccd", "s3://teams/bccd")
            client.wait(client.post("/v1/datasets", {"name": DATASET, "uri": "s3://teams/bccd"})["job"])
            settle(client)
            _, record = batch_seconds(client, 16 * CORES)  # every worker has imported torch and fetched the generator
            model = {"name": record["model"], "version": record["model_version"], "uri": record["model_uri"]}
            turns = [one_turn(client, settings, model, count) for _ in range(TURNS)]
        finally:
            stack.stop()
    return in_figures(turns)


def one_turn(client: Client, settings: Settings, model: dict[str, Any], count: int) -> dict[str, float]:
    """Each stage's seconds an image while one core works and while all do, and the images a second of a batch."""
    alone = stages_side_by_side(settings, model, min(count, ALONE), cores=1)
    beside = stages_side_by_side(settings, model, min(count, ALONE), cores=CORES)
    settle(client)
    seconds, _ = batch_seconds(client, count)
    found = {f"alone: {stage}": value for stage, value in alone.items()} | {f"all cores at work: {stage}": value for stage, value in beside.items()}
    allowed, busy, stored = CORES / sum(alone.values()), CORES / sum(beside.values()), count / seconds
    forward, composed, encoded = (CORES / sum(list(alone.values())[:k]) for k in (1, 3, 4))
    return {
        **found, "generator_one_at_a_time": forward, "with_planning_and_composition": composed, "composition_to_generator": composed / forward,
        "with_encoding": encoded, "encoding_to_composition": encoded / composed, "stages_allow": allowed,
        "stages_allow_with_all_cores_at_work": busy, "stored_through_a_batch_job": stored, "stored_to_encoded": stored / encoded,
        "stored_to_allowed": stored / allowed, "stored_to_allowed_with_all_cores_at_work": stored / busy,
    }  # fmt: skip


def in_figures(turns: list[dict[str, float]]) -> list[Figure]:
    """The median of the turns, and from the least to the most."""
    figures = []
    for name in turns[0]:
        values = sorted(t[name] for t in turns)
        value, spread = statistics.median(values), (values[0], values[-1])
        if ":" in name:  # a stage
            figures.append(Figure(name, value * 1e3, "ms/image", spread=(spread[0] * 1e3, spread[1] * 1e3)))
        else:
            judged = name == "stored_to_allowed"
            unit = "ratio" if "_to_" in name else "images/s"
            figures.append(Figure(name, value, unit, f">= {SHARE}" if judged else "", value >= SHARE if judged else None, spread=spread))
    return figures


def settle(client: Client) -> None:
    """Waits until nothing that the registration began is still running."""
    while any(client.get("/v1/jobs", state=state)["items"] for state in ("queued", "running")):
        time.sleep(0.5)


def batch_seconds(client: Client, count: int) -> tuple[float, dict[str, Any]]:
    """(seconds from the first sample's start until all are in the bucket, one sample's record)."""
    asked = client.post("/v1/batches", {"dataset": DATASET, **REQUEST, "count": count})
    marks: dict[str, float] = {}
    while (state := client.get(f"/v1/batches/{asked['batch']}")["state"]) not in ("ready", "failed"):
        marks.setdefault(state, time.perf_counter())
        time.sleep(ASK_EVERY_S)
    marks.setdefault(state, time.perf_counter())
    if state == "failed":
        raise SystemExit("the batch failed")
    samples = client.get(f"/v1/batches/{asked['batch']}/samples", limit=1)["items"]
    return marks.get("filtering", marks[state]) - marks["generating"], samples[0]["provenance"]


def stages_side_by_side(settings: Settings, model: dict[str, Any], count: int, *, cores: int) -> dict[str, float]:
    """The stages' seconds in as many processes at once, on average over these."""
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        found = [f.result() for f in [pool.submit(stage_seconds, settings, model, count) for _ in range(cores)]]
    return {stage: statistics.mean(f[stage] for f in found) for stage in found[0]}


def stage_seconds(settings: Settings, model: dict[str, Any], count: int) -> dict[str, float]:
    """Mean seconds an image of each stage by itself, on one thread, on as many orders as a part of a batch has."""
    from infra.catalogue import Catalogue
    from trainers.dataset import DatasetView
    from trainers.planning import Model, plan

    torch.set_num_threads(1)
    catalogue = Catalogue.of(settings)
    view = DatasetView(catalogue, DATASET, catalogue.database.version(DATASET))
    orders, planning = result_and_time(lambda: plan(view, REQUEST, key="alone", model=Model(**model), start=0, count=count))
    times: dict[str, list[float]] = {"generator": [], "composition": [], "encoding": [], "storing": []}
    for _, record in orders:
        for stage, value in zip(times, one_by_one(catalogue, view, record), strict=True):
            times[stage].append(value)
    means = {stage: statistics.mean(values) for stage, values in times.items()}
    return {"generator": means.pop("generator"), "planning": planning / count, **means}


def one_by_one(catalogue: Catalogue, view: DatasetView, record: Provenance) -> tuple[float, float, float, float]:
    """Seconds of the generator, of the rest of the rendering, of encoding, of storing."""
    from infra.images import encode
    from trainers.studio import draw
    from trainers.weights import served

    generator = served(catalogue.settings, str(record.model_uri)).generator
    size = generator.config.resolution_px
    inputs, latent = torch.randn(1, 9, size, size).contiguous(memory_format=torch.channels_last), torch.randn(1, generator.config.latent)
    with torch.inference_mode():
        forward = timed(lambda: generator(inputs, latent, torch.zeros(1, dtype=torch.long)))
    (objects, codec), whole = result_and_time(lambda: draw(view, record))
    data, encoding = result_and_time(lambda: encode(objects[-1].pixels, codec, provenance=record, sample_id="bench"))
    storing = timed(lambda: catalogue.objects.write_addressed("s3://teams/scratch", data, suffix=".jpg", content_type="image/jpeg"))
    return forward, max(0.0, whole - forward), encoding, storing


def result_and_time(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def timed(work: Callable[[], object]) -> float:
    return result_and_time(work)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bare", action="store_true", help="the generator alone, without a stack")
    arguments = parser.parse_args()
    with device.best_device():
        figures = bare(quick=arguments.quick)
    if not arguments.bare:
        figures += ways_to_run(quick=arguments.quick)
        figures += through_the_bucket(32 if arguments.quick else COUNT)
    save("generation", figures, quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()
