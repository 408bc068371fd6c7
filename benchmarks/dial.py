"""What the dial of novelty does: KID, coverage, copying, label consistency, seam and diversity at five settings, on three packs.

    python -m benchmarks.dial --data DATA [--packs bccd,magnetic_tile,nuclei] [--budget 300]

Fine-tunes the shipped foundation on each pack for `budget` seconds, keeps the weights under out/dial, and measures on the pack's
held-out images. Pictures go to out/dial: rows are the real object and the five settings. One training run a pack: its spread is
not in the table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.packs import PACKS, Pack
from benchmarks.report import Figure, save
from longtail.recipes import tiny_finetune
from trainers import checkpoints, device, weights
from trainers.compose import mask_map
from trainers.gating import Judge, object_crops, samples_of, window_features
from trainers.grids import tile
from trainers.loop import train
from trainers.losses import ring_loss
from trainers.networks import Generator
from trainers.quality.consistency import fit
from trainers.quality.copying import copy_threshold, nearest
from trainers.quality.coverage import density_and_coverage
from trainers.quality.features import features
from trainers.quality.kid import kid
from trainers.sampling import Scene, complete
from trainers.scenes import served_scene
from trainers.state import TrainState
from trainers.windows import Instance, Windows, cut_windows

OUT = Path("out") / "dial"
NOVELTIES = (0.0, 0.25, 0.5, 0.75, 1.0)
SAMPLES = 64
LATENTS = 8
CONTEXTS = 6
MOST = 400
Floats = NDArray[np.float32]


def some(found: list[Instance], *, seed: int = 0) -> list[Instance]:
    """At most `MOST` of each class."""
    rng = np.random.default_rng(seed)
    kept = []
    for label in sorted({i.label for i in found}):
        mine = [i for i in found if i.label == label]
        kept += [mine[k] for k in sorted(rng.permutation(len(mine))[:MOST])]
    return kept


def trained(pack: Pack, *, budget_s: float) -> tuple[Generator, Windows, Windows]:
    """(generator, training objects, judging objects): fine-tuned once for each budget, then read back."""
    learn, select, judging = (some(part) for part in (pack.train, pack.select, pack.judge))
    singles, chosen, judge = (cut_windows(part, resolution=64, per_instance=1, seed=0, fixed=True) for part in (learn, select, judging))
    kept = OUT / f"{pack.name}-{budget_s:.0f}s.safetensors"
    if not kept.exists():
        tensors, meta = weights.foundation()
        state = TrainState.fresh(tiny_finetune(budget_s=budget_s), num_classes=len(pack.classes))
        assert state.recipe.network == checkpoints.recipe_of(meta).network
        state.adopt(tensors)
        windows = cut_windows(learn, resolution=64, per_instance=4, seed=0)
        scorer = Judge(singles, chosen, chosen, pack.classes)
        for at in train(state, windows, chosen, clock=time.monotonic, score=scorer.score, report_every_s=20):
            print(f"{pack.name} {at.phase} {at.fraction:.0%} {at.images} images" + ("" if at.score is None else f" KID {at.score:.2f}"), flush=True)
        OUT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(weights.to_bytes(state.ema.module, classes=list(pack.classes.values())))
    return weights.from_bytes(kept.read_bytes()).generator, singles, judge


def measure(pack: Pack, *, budget_s: float) -> list[Figure]:
    generator, learn, judge = trained(pack, budget_s=budget_s)
    real = {c: window_features(learn, c, most=200) for c in pack.classes}
    held = {c: window_features(judge, c, most=200)[0] for c in pack.classes}
    vectors = np.concatenate([real[c][0] for c in pack.classes])
    labels = np.concatenate([np.full(len(real[c][0]), c, dtype=np.int64) for c in pack.classes])
    classifier = fit(vectors, labels, classes=len(pack.classes))
    found = []
    for novelty in NOVELTIES:
        for c, name in pack.classes.items():
            if len(held[c]) < 8:
                continue
            images, boxes, owners = samples_of(generator, learn, judge, c, count=SAMPLES, novelty=novelty, seed=11)
            fake = features(object_crops(images, boxes))
            own = [next((k for k, o in enumerate(real[c][1].tolist()) if o == owner), None) for owner in owners.tolist()]
            distance = nearest(fake, real[c][0], ignore_M=own if novelty < 0.5 else None)[1]
            values = {
                "kid": kid(held[c], fake),
                "coverage": density_and_coverage(held[c], fake)[1],
                "copies": float((distance < copy_threshold(real[c][0], held[c])).mean()),
                "consistency": float(classifier.probabilities(fake)[:, c].mean()),
                "seam_to_real": seam(images, boxes, judge, c),
                "diversity_to_real": diversity(generator, learn, judge, c, novelty, held[c]),
            }
            found += [Figure(f"{pack.name}/{name}/{novelty}/{k}", v, "KID" if k == "kid" else "share") for k, v in values.items()]
    picture(generator, learn, judge, pack)
    return found


def seam(images: torch.Tensor, boxes: torch.Tensor, judge: Windows, label: int) -> float:
    """Jump along the mask's edge in the samples, as a share of that around real objects."""
    index = judge.by_class()[label][:SAMPLES]
    real, real_boxes = judge.floats(index), judge.boxes[index]
    size = images.shape[-1]
    fake_jump, real_jump = (float(ring_loss(x, x, mask_map(b, size, size)[0])) for x, b in ((images, boxes), (real, real_boxes)))
    return fake_jump / max(real_jump, 1e-4)


@torch.no_grad()
def diversity(generator: Generator, learn: Windows, judge: Windows, label: int, novelty: float, held: Floats) -> float:
    """Mean distance between samples of one context and exemplar that differ in the latent alone, as a share of real objects'."""
    spread = []
    for k in range(CONTEXTS):
        scene = one_scene(learn, judge, label, novelty, seed=k)
        repeated = Scene(**{name: value.expand(LATENTS, *value.shape[1:]) for name, value in scene.__dict__.items()})
        latent = torch.randn(LATENTS, generator.config.latent, generator=device.random_stream(k))
        images = complete(generator, repeated, latent)
        spread.append(mean_distance(features(object_crops(images, judge.boxes[place(judge, label, k)].expand(LATENTS, 4)))))
    return float(np.mean(spread)) / mean_distance(held)


def place(judge: Windows, label: int, k: int) -> torch.Tensor:
    mine = judge.by_class()[label]
    return mine[k % len(mine)]


def one_scene(learn: Windows, judge: Windows, label: int, novelty: float, *, seed: int) -> Scene:
    """One held-out context and one training instance, laid and degraded as they are served."""
    random = device.random_stream(seed)
    at, mine = place(judge, label, seed)[None], learn.by_class()[label]
    chosen = mine[torch.randint(len(mine), (1,), generator=random)]
    return served_scene(learn, chosen, judge, at, novelty, random)


def mean_distance(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[np.triu_indices(len(vectors), 1)].mean())


@torch.no_grad()
def picture(generator: Generator, learn: Windows, judge: Windows, pack: Pack, *, columns: int = 15) -> None:
    """out/dial/PACK.png: the real object, then the same place at each novelty."""
    places = [(c, k) for k in range(columns) for c in pack.classes][:columns]
    rows = [torch.cat([judge.floats(place(judge, c, k)[None]) for c, k in places])]
    for novelty in NOVELTIES:
        latents = [torch.randn(1, generator.config.latent, generator=device.random_stream(i)) for i in range(columns)]
        rows.append(torch.cat([complete(generator, one_scene(learn, judge, c, novelty, seed=k), z) for (c, k), z in zip(places, latents, strict=True)]))
    OUT.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(rows)).save(OUT / f"{pack.name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--packs", default=",".join(PACKS))
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of fine-tuning a pack")
    parser.add_argument("--quick", action="store_true", help="20 seconds a pack")
    arguments = parser.parse_args()
    budget_s = 20.0 if arguments.quick else arguments.budget
    with device.best_device():
        figures = [f for name in arguments.packs.split(",") for f in measure(PACKS[name](arguments.data), budget_s=budget_s)]
    save("dial", figures, quick=arguments.quick, gpu=device.name())


if __name__ == "__main__":
    main()
