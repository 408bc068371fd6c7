"""Detectors of the ways in which a GAN fails, each with a name, a figure and a remedy.

Shape legend: B batch, Z latent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.compose import Warp, fill_color, warp_exemplar
from trainers.device import random_stream
from trainers.losses import ring_loss
from trainers.sampling import complete
from trainers.scenes import Draw, Mixture, complete_in_parts, draw_indices, transplant_scene
from trainers.state import TrainState
from trainers.steps import judge
from trainers.windows import Windows

OVERPOWERS_GAP = {"relativistic": 8.0, "non_saturating": 8.0, "hinge": 4.0}
"""Mean gap of logits; under the hinge loss a critic asks for no more than 2, and runs that learn have 0.3 whatever the loss."""
VISIBLE = 0.02
"""Mean change in [-1, 1] under which a new latent, or another class, makes no visible difference (2.5 of 255 levels); the
shipped foundation changes by 0.11 to 0.14 and 0.08 to 0.1."""
COLLAPSE_RATIO = 0.1
WHOLLY = 0.95
LEAST_TO_COMPARE, CLASSES_AT_ONCE = 4, 4
"""Windows of a class that have a spread, and classes whose spread is looked at each time."""
REPEATS_RATIO = 0.5
"""Generators that learn have 0.7 to 1; fifty pictures again and again 0.3, twenty 0.2."""
FEWEST_APART, MOST_APART, APART_PX = 16, 64, 16
"""Objects that are held against one another, and at which size."""
GO_BACK = "go back to the best checkpoint, at half the generator's rate"
SEAM_RATIO = 2.0
MEMORISES_RATIO = 0.8


@dataclass(frozen=True)
class Finding:
    """One watchdog's reading: it barks when `bad`."""

    name: str
    figure: float
    limit: str
    bad: bool
    remedy: str


@torch.no_grad()
def inspect(state: TrainState, train: Windows, val: Windows | None) -> list[Finding]:
    """Every watchdog's reading on the averaged generator, from a random stream of its own so that training is unmoved."""
    state.set_dials()
    random = random_stream(state.step)
    draw, mixture = draw_indices(train, 16, random), in_place(state)
    scene, _ = transplant_scene(train, draw, mixture, random)
    invented = replace(scene, validity_B1RR=torch.zeros_like(scene.validity_B1RR))
    latent = torch.randn(2, 16, state.recipe.network.latent, generator=random)
    generator = state.ema.module
    first, second = complete(generator, invented, latent[0]), complete(generator, invented, latent[1])
    inside = invented.mask_B1RR.mean() * 1.0
    findings = [
        _below("latent_ignored", float((first - second).abs().mean() / inside), VISIBLE, "raise the latent's share"),
        _seams(complete(generator, scene, latent[0]), train, draw, scene.mask_B1RR, scene.image_B3RR),
    ]
    classes = train.labels.unique()  # a dataset's other classes are not learned here, and say nothing
    if len(classes) > 1 and 2 * state.adversarial_steps >= max(1, state.recipe.projection_fade_steps):  # before, the class hardly counts yet
        other = replace(invented, label_B=next_class(classes, scene.label_B))
        moved = float((complete(generator, other, latent[0]) - first).abs().mean() / inside)
        findings.append(_below("class_ignored", moved, VISIBLE, "raise the projection"))
    findings.append(_collapse(state, train, random))
    if state.adversarial_steps:
        findings += _repeats(state, train, random_stream(state.step))
        findings += _discriminator_findings(state, train, val, random)
    return findings


def next_class(classes: Tensor, label_B: Tensor) -> Tensor:
    """For each label the next of these classes [C], which are in order; after the last comes the first."""
    return classes[(torch.searchsorted(classes, label_B) + 1) % len(classes)]


def in_place(state: TrainState) -> Mixture:
    """The run's mixture of fakes that were painted over real objects, so that the two can be compared pixel by pixel."""
    return replace(Mixture.of(state.recipe), whole_share=0.0, ground_share=0.0)


def _below(name: str, figure: float, floor: float, remedy: str) -> Finding:
    return Finding(name, figure, f"at least {floor}", figure < floor, remedy)


def _seams(fake: Tensor, train: Windows, draw: Draw, mask: Tensor, context: Tensor) -> Finding:
    real = float(ring_loss(train.floats(draw.target), context, mask))
    ratio = float(ring_loss(fake, context, mask)) / max(real, 1e-4)
    return Finding("seams", ratio, f"at most {SEAM_RATIO} x real", ratio > SEAM_RATIO, "raise the boundary ring loss")


def _collapse(state: TrainState, train: Windows, random: torch.Generator) -> Finding:
    """Spread of the mean colours of invented objects of one class, as a share of that of the real objects in their places.

    Of the colours themselves and of how far they are from their ground's, whichever is less: what is painted alike everywhere has no spread of
    the one, what is added alike to every ground none of the other. The worst class counts of a few that are looked at, others each time
    where there are many.
    """
    counts, worst = torch.bincount(train.labels), 1.0
    classes = torch.nonzero(counts >= LEAST_TO_COMPARE)[:, 0].tolist()
    for i in torch.randperm(len(classes), generator=random)[:CLASSES_AT_ONCE].tolist():
        of_class = train.subset(torch.nonzero(train.labels == classes[i])[:, 0])
        draw = draw_indices(of_class, 2 * LEAST_TO_COMPARE, random)
        scene, _ = transplant_scene(of_class, draw, in_place(state), random)
        invented = replace(scene, validity_B1RR=torch.zeros_like(scene.validity_B1RR))
        fake = complete(state.ema.module, invented, torch.randn(len(draw.target), state.recipe.network.latent, generator=random))
        painted = (scene.soft_B1RR > WHOLLY).float()  # where nothing of what was there before shines through
        area = painted.sum((2, 3))
        seen = area[:, 0] > 0  # an outline may be too thin to have an inside
        for ground in (0.0, scene.fill_B311) if int(seen.sum()) >= LEAST_TO_COMPARE else ():
            spread = [((image - ground) * painted).sum((2, 3))[seen].div(area[seen]).std(0).mean() for image in (fake, of_class.floats(draw.target))]
            worst = min(worst, float(spread[0] / spread[1].clamp_min(1e-4)))
    return Finding("class_collapse", worst, f"at least {COLLAPSE_RATIO} of real", worst < COLLAPSE_RATIO, GO_BACK)


def _repeats(state: TrainState, train: Windows, random: torch.Generator) -> list[Finding]:
    """How far invented objects of a class are from their nearest, as a share of what it is among the real ones in their places.

    Fifty objects that come again and again are spread as widely as real ones, and no collapse by their spread; but of 64 samples most have a
    twin. The worst counts of a few classes that are looked at; those of few objects are not. Source: the birthday test, Arora & Zhang 2017
    (arXiv:1706.08224).
    """
    several = [found for found in one_each(train).values() if len(found) >= FEWEST_APART]
    ratios = []
    for i in torch.randperm(len(several), generator=random)[:CLASSES_AT_ONCE].tolist():
        chosen = torch.tensor(several[i])
        real = train.subset(chosen[torch.randperm(len(chosen), generator=random)[:MOST_APART]])
        count, drawn = len(real), draw_indices(real, len(real), random)
        scene, _ = transplant_scene(real, Draw(torch.arange(count), drawn.exemplar, drawn.second), in_place(state), random)
        scene, latent = replace(scene, validity_B1RR=torch.zeros_like(scene.validity_B1RR)), torch.randn(count, state.recipe.network.latent, generator=random)
        fake = complete_in_parts(state.ema.module, scene, latent)
        images, nowhere = real.floats(torch.arange(count)), torch.zeros(count, 1, 1, 1)
        ratios.append(apart(fake, real.boxes, scene.fill_B311) / apart(images, real.boxes, fill_color(images, real.boxes, nowhere)))
    return [_below("class_repeats", min(ratios), REPEATS_RATIO, "ask that latents differ")] if ratios else []


def one_each(windows: Windows) -> dict[int, list[int]]:
    """Of each class a window of each of its objects."""
    found: dict[int, dict[int, int]] = {}
    for k, (label, instance) in enumerate(zip(windows.labels.tolist(), windows.instances.tolist(), strict=True)):
        found.setdefault(label, {})[instance] = k
    return {label: list(objects.values()) for label, objects in found.items()}


def apart(images_B3RR: Tensor, boxes_B4: Tensor, ground_B311: Tensor) -> float:
    """Mean distance of objects to their nearest, as a share of that to all others: what is in their boxes, against their grounds."""
    count = len(images_B3RR)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1)
    objects = warp_exemplar(images_B3RR - ground_B311, boxes_B4, whole, Warp.identity(count), APART_PX, APART_PX).flatten(1)
    distances = torch.cdist(objects, objects)
    nearest = (distances + torch.diag(torch.full((count,), torch.inf))).amin(1)
    return float(nearest.mean() / (distances.sum() / (count * (count - 1))).clamp_min(1e-6))


def _discriminator_findings(state: TrainState, train: Windows, val: Windows | None, random: torch.Generator) -> list[Finding]:
    mixture = in_place(state)
    scene, seen = transplant_scene(train, draw_indices(train, 32, random), mixture, random)
    fake = complete(state.generator.eval(), scene, torch.randn(32, state.recipe.network.latent, generator=random))
    state.generator.train()
    real_logits, fake_logits = judge(state, scene, seen, fake, random=random)
    gap = float((real_logits - fake_logits).mean())
    most = OVERPOWERS_GAP[state.recipe.loss]
    findings = [Finding("d_overpowers", gap, f"at most {most}", gap > most, "halve the discriminator's rate")]
    if val is not None and len(val) >= 8:
        scene, held = transplant_scene(val, draw_indices(val, 32, random), mixture, random)
        held_logits, _ = judge(state, scene, held, held.image_B3RR, random=random)
        ratio = float((real_logits - held_logits).mean()) / gap if abs(gap) > 0.05 else 0.0
        findings.append(
            Finding("d_memorises", ratio, f"at most {MEMORISES_RATIO}, aimed at 0.5", ratio > MEMORISES_RATIO, "augment more strongly")
        )
    return findings
