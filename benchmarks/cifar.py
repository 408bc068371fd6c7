"""The published yardstick: class-conditional CIFAR-10 from a tenth of its training images.

    python -m benchmarks.cifar prepare --data DIR               the 5,000 images and labels as out/cifar10pct.npz (15 MB)
    python -m benchmarks.cifar train --minutes 9 [--out DIR]    a leg; again to go on; 10,000 samples at the end of each
    python -m benchmarks.cifar score --data DIR                 FID of the samples, on a CPU; after make fid

DIR holds cifar10_train.zip, cifar10_test.zip and splits/train_10pct.txt. `train` wants torch, numpy and pillow alone. It learns
from nothing but the 5,000 images; 250 of them, 25 a class, are held back to drive the augmentation and to choose the checkpoint. No image, sample or weight
of it is committed. FID: Heusel et al. 2017 (arXiv:1706.08500). Published with class-conditional BigGAN at 10 %: 39.8; with DiffAugment
22.4; CR-BigGAN with DiffAugment 18.7 (Zhao et al. 2020, arXiv:2006.10738).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.report import Figure, save
from longtail.recipes import NetworkConfig, Recipe
from trainers import captured, device
from trainers.compose import box_map, fill_color, whole_mask
from trainers.grids import tile, to_uint8
from trainers.loop import Progress, train
from trainers.networks import Generator
from trainers.quality.inception import frechet, inception_batches
from trainers.quality.likeness import untaught_distance_to
from trainers.sampling import Scene, complete
from trainers.state import TrainState
from trainers.windows import Windows

OUT = Path("out")
PACKED = OUT / "cifar10pct.npz"
HELD_PER_CLASS = 25
SAMPLES = 10_000
BATCH = 100
JUDGED = 500
"""Samples by which a checkpoint is chosen, held against the images that are held back."""
KEPT_EVERY = 1000
SAVED_EVERY_S, RESERVE_S = 60.0, 60.0
"""Between states that are kept while a leg runs; and of a leg's time, what is left for its last state and its samples, a tenth of it at the most."""
WITHOUT_CLASSES = 500_000
"""Images that are learned from before the classes are told. Heard first, each class becomes a few images again and again (docs/lab, 26)."""
NETWORK = NetworkConfig(resolution_px=32, smallest_px=32, widths=(256, 256, 256), critic_widths=(256, 320, 384), latent=128, style=256, tail=(64, 64))
Images = NDArray[np.uint8]


def recipe(seconds: float) -> Recipe:
    """Invention alone: the mask is everywhere, there is no exemplar, nothing is reconstructed."""
    return Recipe(
        network=NETWORK, batch=128, warm_s=0.0, catch_up_s=0.0, adversarial_s=seconds, rate_generator=2.5e-4, rate_discriminator=1e-3,
        penalty_weight=0.1, penalty_every=2, reconstruction_weight=0.0, ring_weight=0.0, projection_fade_steps=2000, whole_image_share=1.0,
        full_novelty_share=1.0, symmetries="mirror", ema_half_life_images=100_000.0, evaluate_every_s=10.0, captured=captured.by_default(compiled=False),
    )  # fmt: skip


def images_of(archive: Path, names: list[str] | None = None) -> Iterator[tuple[str, Images]]:
    """(class, 32x32x3) of each named image of a zip, or of all."""
    with zipfile.ZipFile(archive) as packed:
        for name in names or sorted(n for n in packed.namelist() if n.endswith(".webp")):
            yield name.split("/")[-2], np.asarray(Image.open(io.BytesIO(packed.read(name))).convert("RGB"))


def prepare(data: Path) -> None:
    names = (data / "splits" / "train_10pct.txt").read_text().split()
    found = list(images_of(data / "cifar10_train.zip", names))
    classes = sorted({c for c, _ in found})
    OUT.mkdir(exist_ok=True)
    np.savez(PACKED, images=np.stack([i for _, i in found]), labels=np.array([classes.index(c) for c, _ in found]))
    print(f"{PACKED}: {len(found)} images of {len(classes)} classes, {PACKED.stat().st_size / 1e6:.1f} MB")


def windows() -> tuple[Windows, Windows]:
    """(training windows, those held back)."""
    packed = np.load(PACKED)
    images = torch.from_numpy(packed["images"]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(packed["labels"]).long()
    held = torch.zeros(len(labels), dtype=torch.bool)
    for c in range(int(labels.max()) + 1):
        held[torch.nonzero(labels == c)[:HELD_PER_CLASS, 0]] = True
    here = torch.get_default_device()
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(labels), 1)
    whole = Windows.plain(images.to(here), boxes, labels.to(here), torch.arange(len(labels)))
    return whole.subset(~held.to(here)), whole.subset(held.to(here))


def invent(generator: Generator, labels: Tensor, random: torch.Generator) -> Tensor:
    """Samples [B,3,32,32] of these classes."""
    count = len(labels)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1)
    empty, none = torch.zeros(count, 3, 32, 32), torch.zeros(count, 1, 32, 32)
    mask, soft = whole_mask(count, 32, 32)
    scene = Scene(empty, mask, soft, box_map(box, 32, 32), empty, none, labels, fill_color(empty, box, torch.ones(1, 1, 1, 1)))
    with torch.no_grad(), device.precision():
        return complete(generator, scene, torch.randn(count, NETWORK.latent, generator=random)).float()


def run_leg(minutes: float, out: Path) -> None:
    """Trains on and makes the samples, all within the minutes; the state, a picture and the samples are left in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    ends = started + 60 * minutes - min(RESERVE_S, 6 * minutes)
    with device.best_device():
        learn, held = windows()
        state = opened(out, minutes * 60)
        for at in learned(state, learn, held):
            line = " ".join(f"{k}={v:.3f}" for k, v in at.figures.items())
            print(f"{time.monotonic() - started:6.0f} s {at.images:9d} images {line}", *(f"{f.name}={f.figure:.2f}" for f in at.findings), flush=True)
            if time.monotonic() > ends:
                break
            if time.monotonic() - saved > SAVED_EVERY_S:
                saved = time.monotonic()
                keep(state, out)
        keep(state, out)
        if state.best:
            state.ema.module.load_state_dict(state.best)
        random = device.random_stream(1)
        made = [invent(state.ema.module, classes_of(state), random) for _ in range(SAMPLES // BATCH)]
        pixels = ((torch.cat(made).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for part, some in enumerate(np.array_split(pixels, 3)):
            np.savez_compressed(out / f"samples{part}.npz", images=some)
        Image.fromarray(tile([made[0][k::10] for k in range(10)])).save(out / "grid.png")


def keep(state: TrainState, out: Path) -> None:
    """The state as the next leg finds it; of a leg that is cut off here the one before stays."""
    arrays: dict[str, Any] = {k: v.cpu().numpy() for k, v in state.tensors().items()}
    numbers = {**state.numbers(), "recipe": state.recipe.to_json()}
    np.savez(out / "coming.npz", numbers=np.array(json.dumps(numbers)), **arrays)
    (out / "coming.npz").replace(out / "state.npz")
    (out / "state.json").write_text(json.dumps(numbers))


def learned(state: TrainState, learn: Windows, held: Windows) -> Iterator[Progress]:
    """Trains until the recipe's time is spent: at first as if all images were of one class, then with the classes, whose weight fades in.

    Source: Shahbazi et al. 2022 (arXiv:2201.06578), who let the generator's condition fade in as well.
    """
    nearness = scorer(state, held)
    if not told_classes(state):
        weight = state.recipe.projection_weight
        state.recipe = replace(state.recipe, projection_weight=0.0)
        for at in train(state, as_one(learn), as_one(held), clock=time.monotonic, score=nearness, report_every_s=20):
            yield at
            if at.images >= WITHOUT_CLASSES:
                break
        else:
            return
        state.recipe = replace(state.recipe, projection_weight=weight)  # what a remedy has changed meanwhile stays changed
        tell_classes(state)
    yield from train(state, learn, held, clock=time.monotonic, score=nearness, report_every_s=20)


def scorer(state: TrainState, held: Windows) -> Callable[[Generator, int], float]:
    """How far samples are from the images that are held back, through a network that was never taught: no pretrained one is asked for here."""
    distance = untaught_distance_to([to_uint8(image) for image in held.floats(torch.arange(len(held)))])

    def score(generator: Generator, _: int) -> float:
        random = device.random_stream(7)
        return distance([to_uint8(image) for _ in range(JUDGED // BATCH) for image in invent(generator, classes_of(state), random)])

    return score


def classes_of(state: TrainState) -> Tensor:
    """Labels [BATCH] to ask for: all ten by turns, once they have been told."""
    return torch.arange(BATCH) % 10 if told_classes(state) else torch.zeros(BATCH, dtype=torch.long)


def as_one(windows: Windows) -> Windows:
    return replace(windows, labels=torch.zeros_like(windows.labels))


def told_classes(state: TrainState) -> bool:
    """Whether the classes have been told: their weight has faded in since, and not from the first step."""
    return state.adversarial_steps < state.step


@torch.no_grad()
def tell_classes(state: TrainState) -> None:
    """Every class begins as what all images were; the critic's projection fades in anew, and so does the choice of a checkpoint."""
    for generator in (state.generator, state.ema.module):
        rows = generator.get_parameter("embed.weight")
        rows.copy_(rows[:1].expand_as(rows))
    state.adversarial_steps, state.best, state.best_score = 0, {}, math.inf


def opened(out: Path, seconds: float) -> TrainState:
    """A fresh state, or that of the last leg with `seconds` more to go, by its recipe as remedies have left it."""
    kept = out / "state.npz"
    if not kept.exists():
        if (numbers := out / "state.json").exists():
            raise SystemExit(f"{out} has no state.npz to go on from: remove {numbers} to begin anew, or name another --out")
        return TrainState.fresh(recipe(seconds), num_classes=10)
    arrays = dict(np.load(kept))
    known: dict[str, Any] = json.loads(str(arrays.pop("numbers")))
    here = torch.get_default_device()
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    moved = {k: v if k == "random" else v.to(here) for k, v in tensors.items()}
    fresh, treated = recipe(known["elapsed_s"] + seconds), Recipe.from_json(known.pop("recipe"))
    state = TrainState.resumed(replace(treated, adversarial_s=fresh.adversarial_s), num_classes=10, tensors=moved, numbers=known)
    if not told_classes(state):  # until then their weight is put aside
        state.recipe = replace(state.recipe, projection_weight=fresh.projection_weight)
    return state


def features(images: Images, kept: Path) -> NDArray[np.float64]:
    """Inception's, with the count as it goes: a dozen images a second on two cores, so what there is is kept, and gone on from."""
    file = kept / f"{hashlib.sha256(images.tobytes()).hexdigest()[:12]}.npy"
    kept.mkdir(parents=True, exist_ok=True)
    found = [np.load(file)] if file.exists() else []
    done = sum(map(len, found))
    for part in inception_batches(list(images[done:])):
        found.append(part)
        done += len(part)
        print(f"\r{done} of {len(images)}", end="", flush=True)
        if done % KEPT_EVERY == 0 or done == len(images):
            np.save(file, np.concatenate(found))
    print()
    return np.concatenate(found)


def score(data: Path, out: Path) -> None:
    """Against the test images, then against all training images, who should be near 3.15 from the test images themselves."""
    samples = np.concatenate([np.load(p)["images"] for p in sorted(out.glob("samples*.npz"))])
    test, learn = (np.stack([i for _, i in images_of(data / f"cifar10_{part}.zip")]) for part in ("test", "train"))
    kept = OUT / "inception"
    real_test, fake = features(test, kept), features(samples, kept)
    fid = frechet(fake, real_test)
    figures = [
        Figure("images_seen", float(json.loads((out / "state.json").read_text())["images"]), "images"),
        Figure("fid_to_test", fid, "FID", "< 15", fid < 15),
    ]
    save("cifar", figures, quick=False)
    real_train = features(learn, kept)
    save("cifar", [
        *figures,
        Figure("fid_to_train", frechet(fake, real_train), "FID"),
        Figure("real_train_to_test_fid", frechet(real_train, real_test), "FID", "about 3.15"),
    ], quick=False)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train", "score"])
    parser.add_argument("--data", type=Path, help="folder of the pack")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=OUT / "cifar")
    arguments = parser.parse_args()
    if arguments.what != "train" and arguments.data is None:
        parser.error(f"{arguments.what} needs --data")
    if arguments.what == "prepare":
        prepare(arguments.data)
    elif arguments.what == "train":
        run_leg(arguments.minutes, arguments.out)
    else:
        score(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
