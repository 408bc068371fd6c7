"""Makes foundations, the shipped one among them: nuclei of three modalities, and procedurally drawn shapes.

    python -m trainers.foundation --nuclei DIR --minutes 100 --out trainers/checkpoints/tiny.safetensors
    python -m trainers.foundation --preset base --batch 64 --minutes 20 --nuclei DIR --out base.safetensors      for a GPU

`DIR` holds the 2018 Data Science Bowl train split (CC0) as COCO: `coco_train.json` and `images/`. It never sees the data
that it will be evaluated on; `--exclude-nuclei` makes the variant for figures on nuclei themselves.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save as to_file
from torch import Tensor

from infra.formats.segmentation import mask_of
from longtail.boxes import xywh_to_xyxy
from longtail.recipes import NETWORKS, Preset, Recipe, tiny_foundation
from trainers import captured
from trainers.checkpoints import from_bytes, read, recipe_of, to_bytes
from trainers.device import as_tensor, best_device, random_stream
from trainers.gating import INVENTED, object_crops
from trainers.grids import grid
from trainers.loop import train
from trainers.networks import Generator
from trainers.quality.likeness import Distance, distance_to, pretrained
from trainers.scenes import complete_in_parts, served_scene
from trainers.shapes import draw_instance
from trainers.silhouettes import KINDS
from trainers.state import TrainState
from trainers.windows import Instance, Windows, box_pixels, cut_windows, join, on_grounds

MODALITIES = ("fluorescence", "histology", "brightfield")
PER_MODALITY = 3000
SHAPES = 8000
DRAWN_AT_ONCE = 100
DRAWN, MIN_SIDE = 1.5, 0.22
"""Shares of the resolution: the side of what is drawn, and the longer side that a nucleus must have to show anything."""
SIZES: dict[Preset, str] = {"tiny": "0.4,0.6", "base": "0.2,0.3,0.5"}
RATES: dict[Preset, float] = {"tiny": 7e-4, "base": 3.5e-4}
"""Of reconstruction: at 7e-4 `base` came apart between 3,000 and 6,300 steps at 32 px; the rate is suspected (docs/lab, 25)."""
JUDGED = 160
"""Held-out windows that choose the checkpoint."""


def nuclei_instances(root: Path, rng: np.random.Generator, *, min_side_px: int) -> list[Instance]:
    """Up to `PER_MODALITY` nuclei of each modality, those too small to show anything left out."""
    body = json.loads((root / "coco_train.json").read_text())
    modality = {image["id"]: image["modality"] for image in body["images"]}
    names = {image["id"]: image["file_name"] for image in body["images"]}
    cache: dict[int, NDArray[np.uint8]] = {}
    found = []
    for label, name in enumerate(MODALITIES):
        mine = [a for a in body["annotations"] if modality[a["image_id"]] == name and max(a["bbox"][2:]) >= min_side_px]
        for i in rng.permutation(len(mine))[:PER_MODALITY]:
            annotation = mine[i]
            key = annotation["image_id"]
            if key not in cache:
                cache[key] = np.asarray(Image.open(root / names[key]).convert("RGB"))
            box = xywh_to_xyxy(tuple(annotation["bbox"]))
            left, top, right, bottom = box_pixels(box)
            mask = mask_of(annotation["segmentation"], cache[key].shape[1], cache[key].shape[0])
            found.append(Instance(cache[key], box, label, outline=None if mask is None else mask[top:bottom, left:right].copy()))
    boxes = {key: [xywh_to_xyxy(tuple(a["bbox"])) for a in body["annotations"] if a["image_id"] == key] for key in cache}
    grounded = []
    for label, name in enumerate(MODALITIES):  # each on grounds of its own kind
        keys = [key for key in cache if modality[key] == name]
        grounded += on_grounds([i for i in found if i.label == label], [cache[k] for k in keys], [boxes[k] for k in keys], rng)
    return grounded


def recolored(windows: Windows, rng: np.random.Generator) -> Windows:
    """Half of the windows with channels permuted, inverted and scaled at random, so that no stain or lamp is taken for granted.

    Their grounds with them: what is laid there would else show the critic by its colours that nobody painted it.
    """
    images, grounds = windows.images.clone(), windows.grounds.clone()
    for i in range(0, len(images), 2):
        order = as_tensor(rng.permutation(3)) if rng.random() < 0.5 else torch.arange(3)
        inverted = rng.random() < 0.25
        gain, offset = as_tensor(rng.uniform(0.6, 1.15, (3, 1, 1))), as_tensor(rng.uniform(-20, 60, (3, 1, 1)))
        for seen in (images, grounds):
            image = seen[i].float()[order]
            seen[i] = ((255 - image if inverted else image) * gain + offset).clamp(0, 255).byte()
    return replace(windows, images=images, grounds=grounds)


def drawn(count: int, seed: int, *, size_px: int) -> list[Instance]:
    """Drawn objects, the same of a seed however many processes draw them."""
    streams = np.random.SeedSequence(seed).spawn(-(-count // DRAWN_AT_ONCE))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return [instance for some in pool.map(functools.partial(draw_some, size_px=size_px), streams) for instance in some][:count]


def draw_some(stream: np.random.SeedSequence, *, size_px: int) -> list[Instance]:
    rng = np.random.default_rng(stream)
    return [draw_instance(rng, size=size_px, first_label=len(MODALITIES)) for _ in range(DRAWN_AT_ONCE)]


def foundation_windows(nuclei: Path | None, *, resolution: int, seed: int) -> tuple[Windows, Tensor, int]:
    """(windows, of each the image that it is of, number of classes): the whole diet, cut and recoloured."""
    rng = np.random.default_rng(seed)
    first = len(MODALITIES)
    shapes = cut_windows(drawn(SHAPES, seed, size_px=round(DRAWN * resolution)), resolution=resolution, per_instance=1, seed=seed)
    diet, image_of = recolored(shapes, rng), torch.arange(SHAPES)
    if nuclei is not None:
        found = nuclei_instances(nuclei, rng, min_side_px=round(MIN_SIDE * resolution))
        cells = cut_windows(found, resolution=resolution, per_instance=2, seed=seed)
        diet = join(recolored(cells, rng), diet)
        images = list(dict.fromkeys(id(i.image) for i in found))
        place = {image: k for k, image in enumerate(images)}
        image_of = torch.cat([torch.tensor([place[id(i.image)] for i in found]), image_of + len(images)])
    return diet, image_of[diet.instances], first + len(KINDS)


def said_sizes() -> str:
    return ", ".join(f"{shares} for {preset}" for preset, shares in SIZES.items())


def main() -> None:
    with best_device():
        run()


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(SIZES), default="tiny", help="the networks that learn: tiny at 64 px, base at 128 px")
    parser.add_argument("--nuclei", type=Path, help="folder of the nuclei pack; needed unless they are excluded")
    parser.add_argument("--exclude-nuclei", action="store_true")
    parser.add_argument("--start", type=Path, help="weights of an earlier foundation on the same diet to go on from")
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, help="folder for a picture grid at each evaluation")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sizes", help=f"shares of the time at each size, the full one last; {said_sizes()} unless --start is given, which is at the full one")
    parser.add_argument("--compiled", action="store_true", help="compile the steps: for a GPU")
    arguments = parser.parse_args()
    if arguments.nuclei is None and not arguments.exclude_nuclei:
        parser.error("--nuclei: where is the pack? (make foundation NUCLEI=..., or EXCLUDE=nuclei for a foundation without it)")
    if arguments.start and arguments.sizes:
        parser.error("--start with --sizes: growing forgets the ways in and out that the earlier foundation has; leave one out")
    sizes = arguments.sizes or ("1" if arguments.start else SIZES[arguments.preset])
    recipe = replace(
        tiny_foundation(minutes=arguments.minutes), network=NETWORKS[arguments.preset], rate_warm=RATES[arguments.preset],
        batch=arguments.batch, compiled=arguments.compiled, captured=captured.by_default(compiled=arguments.compiled),
        size_shares=tuple(float(share) for share in sizes.split(",")),
    )  # fmt: skip
    windows, images, num_classes = foundation_windows(
        None if arguments.exclude_nuclei else arguments.nuclei, resolution=recipe.network.resolution_px, seed=recipe.seed
    )
    working, best = (arguments.out.with_suffix(f".{what}.safetensors") for what in ("training", "best"))
    if not working.exists():
        best.unlink(missing_ok=True)  # of a run that was given up
    state = open_state(working, recipe, num_classes, arguments.start)
    if not best.exists():
        state.best, state.best_score = {}, math.inf  # what was best has to be there with its encoder and critic
    held = images % 20 == 0  # of an image all of its windows
    if not pretrained():
        print("EfficientNet-lite0 is not installed: checkpoints are chosen by a network that was never taught", file=sys.stderr)
    saved, score = 0.0, scorer(windows.subset(held))
    score_anew(state, score)
    for at in train(state, windows.subset(~held), windows.subset(held), clock=time.monotonic, score=score, report_every_s=20):
        figures = at.figures if at.score is None else at.figures | {"KID": at.score}
        line = " ".join(f"{k}={v:.3f}" for k, v in figures.items())
        print(f"{at.phase:11s} {at.fraction:6.1%} {at.images:8d} images {line}", flush=True)
        for finding in at.findings:
            print(f"    {finding.name} {finding.figure:.3f} ({finding.limit}){' BAD' if finding.bad else ''}", flush=True)
        if at.findings and arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grid(state, windows.subset(held).reduced(state.size_px))).save(arguments.pictures / f"{at.images:08d}.png")
        if at.score is not None and at.score == state.best_score and state.size_px == recipe.network.resolution_px:
            save_foundation(state, best)  # encoder and critic as they are beside that generator, not as they end
            saved = -math.inf  # whoever goes on has to know what is to be beaten
        if at.elapsed_s - saved > recipe.checkpoint_every_s:
            saved = at.elapsed_s
            replaced(working, to_bytes(state))
    if not best.exists():
        save_foundation(state, best)
    best.replace(arguments.out)
    working.unlink(missing_ok=True)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def replaced(path: Path, content: bytes) -> None:
    """Writes a file at once: whoever is ended meanwhile leaves the former one whole."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)


def scorer(held: Windows) -> Callable[[Generator, int], float]:
    """KID of objects invented for held-out windows, as many of each class, to those that are there, at the size that is trained: it picks the checkpoint.

    What is left of an exemplar is of another held-out object than the one that the result is held against, where its class has one.
    """
    classes = held.by_class().values()
    index = torch.cat([own[:: max(1, len(own) * len(classes) // JUDGED)][: JUDGED // len(classes)] for own in classes])
    exemplars = another_of_its_class(held, index)

    @functools.cache
    def judged(size_px: int) -> tuple[Windows, Distance]:
        seen = held.reduced(size_px)
        return seen, distance_to(object_crops(seen.floats(index), seen.boxes[index]))

    def score(generator: Generator, size_px: int) -> float:
        random = random_stream(7)
        seen, distance = judged(size_px)
        scene = served_scene(seen, exemplars, seen, index, INVENTED, random)
        latent = torch.randn(len(index), generator.config.latent, generator=random)
        with torch.no_grad():
            made = complete_in_parts(generator, scene, latent)
        return distance(object_crops(made, seen.boxes[index]))

    return score


def score_anew(state: TrainState, score: Callable[[Generator, int], float]) -> None:
    """Gives the best so far this machine's score: where it was chosen other features may have been installed, of another scale."""
    if state.best:
        best = copy.deepcopy(state.ema.module)
        best.load_state_dict(state.best)
        anew = score(best, state.size_px)
        state.best_score = anew if math.isfinite(anew) else math.inf


def another_of_its_class(windows: Windows, index: Tensor) -> Tensor:
    """For each of these windows the next of its class that another instance is in, round about; itself where no other is."""
    labels, instances = windows.labels[index].tolist(), windows.instances[index].tolist()
    places = range(len(index))
    following = [[*places[k + 1 :], *places[:k]] for k in places]
    chosen = [next((j for j in following[k] if labels[j] == labels[k] and instances[j] != instances[k]), k) for k in places]
    return index[torch.tensor(chosen)]


def open_state(working: Path, recipe: Recipe, num_classes: int, start: Path | None) -> TrainState:
    """An interrupted run's own state, or a fresh one, with the weights of `start` where it is given. Exits where what was interrupted is another run."""
    if working.exists():
        state = from_bytes(working.read_bytes())
        if (state.recipe.network, state.recipe.total_s, state.recipe.batch, state.recipe.size_shares, state.num_classes) != (
            recipe.network, recipe.total_s, recipe.batch, recipe.size_shares, num_classes,
        ):  # fmt: skip
            raise SystemExit(f"{working} is of another run: remove it to begin anew, or ask with that run's own preset, minutes, batch and sizes")
        return state
    state = TrainState.fresh(recipe, num_classes=num_classes)
    if start is not None:
        weights, meta = read(start.read_bytes())
        if recipe_of(meta).network != recipe.network:
            raise SystemExit(f"--start: {start} has other networks than this preset's; ask for the preset that it was made with")
        state.adopt(weights, same_classes=len(weights["ema.embed.weight"]) == num_classes)
    return state


def save_foundation(state: TrainState, out: Path) -> None:
    """Weights alone, in half precision, with the recipe in the file's metadata."""
    modules = {name: m for name, m in state.modules().items() if name != "generator"}  # its average stands for it
    weights = {f"{name}.{k}": v.half().contiguous() for name, m in modules.items() for k, v in m.state_dict().items()}
    meta = {"recipe": json.dumps(state.recipe.to_json()), "num_classes": str(state.num_classes), "images": str(state.images)}
    replaced(out, to_file(weights, metadata=meta))


if __name__ == "__main__":
    main()
