"""What a training run is judged by, as one self-contained page and its machine-readable twin: failures first, pictures beside figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra.images import to_png
from infra.pages import curve, document, figure, listed, table, text
from longtail.recipes import Recipe
from trainers.device import random_stream
from trainers.gating import MOST, Judged
from trainers.grids import tile
from trainers.loop import Progress
from trainers.networks import Generator
from trainers.quality.inception import MISSING, Fid
from trainers.sampling import Scene, complete, interpolate
from trainers.scenes import served_scene
from trainers.windows import Windows

STEPS = 10
NOVELTY = 0.8
ORDER = ("failed", "unknown", "passed")
SHOWN = {
    "kid": "samples that lie furthest from any held-out object, over the nearest one",
    "coverage": "held-out objects that no sample comes near, over the nearest sample",
    "density": "samples among the fewest held-out objects, over the nearest one",
    "copying": "samples that lie nearest to a training object, over that object",
    "label_consistency": "samples least taken for their class, over the nearest held-out object",
    "overlap": "samples whose change fits their box least, over what was there before",
}
HELD_OUT = "{1} training objects of {0} were held out, to choose and to judge by, since val shows nothing of a class."
NEAREST = f"{{}}: made, nothing chosen; below the nearest of its training objects ({MOST} at most are looked at)"
MOST_POINTS = 2000


@dataclass
class Curves:
    """(images seen, figure) of everything that was reported while training, by name; of a long run every other, every fourth ..."""

    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, at: Progress) -> None:
        for name, value in {**at.figures, **({} if at.score is None else {"KID on val": at.score})}.items():
            if np.isfinite(value):
                points = self.points.setdefault(name, [])
                points.append((float(at.images), float(value)))
                if len(points) > MOST_POINTS:
                    del points[1::2]


@torch.no_grad()
def interpolations(generator: Generator, train: Windows, names: dict[int, str], *, seed: int = 0) -> NDArray[np.uint8]:
    """A row a class: one place and one exemplar, the latent going from one draw to another in `STEPS` steps."""
    rows = []
    for label in names:
        random = random_stream(seed)
        at = train.by_class()[label][:1]
        scene = served_scene(train, at, train, at, NOVELTY, random)
        first, second = torch.randn(2, generator.config.latent, generator=random)
        repeated = Scene(**{k: v.expand(STEPS, *v.shape[1:]) for k, v in scene.__dict__.items()})
        rows.append(complete(generator, repeated, interpolate(first, second, torch.linspace(0, 1, STEPS))))
    return tile(rows)


def training_report(
    title: str, judged: Judged, curves: Curves, *, recipe: Recipe, watchdogs: list[dict[str, Any]], grid: NDArray[np.uint8], latent: NDArray[np.uint8],
    nearest: Mapping[str, NDArray[np.uint8]] | None = None, held_out: Mapping[str, int] | None = None,
) -> tuple[str, str]:  # fmt: skip
    """(HTML, JSON) of a run. `nearest` are pictures by class; `held_out` says how many objects of each class were taken from training to judge by."""
    ordered = sorted(judged.gates, key=lambda g: ORDER.index(g.verdict))
    page = document(
        title,
        f"<h1>{text(title)}</h1><p class=note>Every picture here that is not said to be real was made by the generator.</p>",
        "<h2>What did not go well</h2>",
        listed(
            [f"{g.name} of {g.class_name} {'failed' if g.verdict == 'failed' else 'cannot be told'}: {shown(g.figure)}, wanted {g.threshold}"
             + (f" ({g.note})" if g.note else "") for g in ordered if g.verdict != "passed"]
            + [f"watchdog: {json.dumps(event)}" for event in watchdogs]
        ),
        "<h2>Gates, against held-out real objects that chose nothing</h2>",
        table(
            ["gate", "class", "figure", "95 %", "threshold", "verdict", "samples", "novelty", "note"],
            [[g.name, g.class_name, shown(g.figure), " to ".join(map(shown, g.interval)), g.threshold, g.verdict, g.count, judged.novelties[g.class_name],
              g.note] for g in ordered],
        ),
        *(f"<p class=note>{text(HELD_OUT.format(c, n))}</p>" for c, n in (held_out or {}).items()),
        *fid_table(judged.fids),
        *(figure(to_png(judged.pictures[g.pictures]), f"{g.class_name}, {g.name}, {g.verdict}: {SHOWN[g.name]}") for g in ordered if g.pictures),
        *(["<h2>Samples as they come, each over the nearest training object</h2>"] if nearest else []),
        *(figure(to_png(picture), NEAREST.format(name)) for name, picture in (nearest or {}).items()),
        "<h2>The dial</h2>",
        figure(to_png(grid), "real, pasted, then novelty 0, 0.3, 0.6 and 1"),
        "<h2>From one latent to another</h2>",
        figure(to_png(latent), f"a class a row, in one place with one exemplar, novelty {NOVELTY:g}"),
        "<h2>Training</h2>",
        *(curve(name, points, along="images") for name, points in sorted(curves.points.items())),
        "<h2>Recipe</h2>",
        f"<pre>{text(json.dumps(recipe.to_json(), indent=1))}</pre>",
    )  # fmt: skip
    twin = {
        "title": title, "gates": judged.told(), "fid": [f.to_json() for f in judged.fids],
        "watchdogs": watchdogs, "recipe": recipe.to_json(), "curves": curves.points, "held_out": dict(held_out or {}),
    }  # fmt: skip
    return page, json.dumps(twin, indent=1)


def fid_table(fids: list[Fid]) -> list[str]:
    if not fids:
        return [f"<p class=note>FID: {text(MISSING)}, or of too few images. It is never a gate.</p>"]
    return [
        "<p class=note>FID to held-out objects with Inception's features, and that of real training objects. "
        "At these counts most of both is bias; it is no gate.</p>",
        table(
            ["class", "FID", "of real training objects", "samples", "training", "held out"],
            [[f.class_name, f"{f.figure:.1f}", f"{f.real:.1f}", f.samples, f.training, f.held] for f in fids],
        ),
    ]


def shown(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "not measured"
