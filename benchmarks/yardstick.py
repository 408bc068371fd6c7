"""What a generator's samples are measured by in these benchmarks: against held-out real objects of one pack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.packs import Pack
from longtail.gates import DERIVED_BELOW
from longtail.recipes import NetworkConfig
from trainers import device
from trainers.gating import object_crops, window_features
from trainers.grids import to_uint8
from trainers.losses import ring_loss
from trainers.networks import Generator
from trainers.quality.consistency import Classifier, fit
from trainers.quality.copying import copy_threshold, looks, nearest
from trainers.quality.coverage import density_and_coverage
from trainers.quality.features import features
from trainers.quality.kid import kid
from trainers.render import visibility
from trainers.sampling import Scene, complete
from trainers.scenes import complete_in_parts, hole, served_scene
from trainers.windows import Instance, Windows, cut_windows

SAMPLES = 64
LATENTS = 8
CONTEXTS = 6
MOST = 400
FEWEST_HELD = 8
FOLDS = 4
Floats = NDArray[np.float32]


def some(found: list[Instance], most: int = MOST, *, seed: int = 0) -> list[Instance]:
    """At most so many of each class; fewer are the first of more."""
    rng = np.random.default_rng(seed)
    kept = []
    for label in sorted({i.label for i in found}):
        mine = [i for i in found if i.label == label]
        kept += [mine[k] for k in sorted(rng.permutation(len(mine))[:most].tolist())]
    return kept


@dataclass(frozen=True)
class Samples:
    """Windows [N,3,R,R] in [-1, 1], their boxes [N,4], the instance each began from and the place it was painted into [N]; what was in the
    window before, the holes that were painted, hard and soft [N,1,R,R], and the share of each hole that was the generator's to paint [N]."""

    images: Tensor
    boxes: Tensor
    owners: Tensor
    places: Tensor
    before: Tensor
    holes: Tensor
    soft: Tensor
    invented: Tensor


class Yardstick:
    """Measures samples of one pack's classes. `learn` is one window an instance of what was learned from, `judge` of what was not."""

    def __init__(self, pack: Pack, learn: Windows) -> None:
        self.pack, self.learn = pack, learn
        self.judge = cut_windows(some(pack.judge), resolution=64, per_instance=1, seed=0, fixed=True)
        reference = cut_windows(some(pack.train), resolution=64, per_instance=1, seed=0, fixed=True)
        self.real = {c: window_features(learn, c, most=200) for c in pack.classes}
        self.held = {c: window_features(self.judge, c, most=200)[0] for c in pack.classes}
        self.windows = {c: windows_of(self.judge, c) for c in pack.classes}
        self.views = {c: [features(look) for look in looks(crops_of(learn, c))] for c in pack.classes}
        self.classes = {c: name for c, name in pack.classes.items() if len(self.held[c]) >= FEWEST_HELD}
        self.classifier = classifier_of(reference, list(pack.classes))
        self.thresholds = {c: copy_threshold(self.real[c][0], self.held[c], views=self.views[c]) for c in self.classes}

    @torch.no_grad()
    def samples(self, generator: Generator | None, label: int, *, novelty: float, bare: bool, seed: int = 11) -> Samples:
        """`SAMPLES` of a class over held-out objects of it, or on held-out bare ground; pasted as they are without a generator."""
        random = device.random_stream(seed)
        contexts = self.judge.emptied() if bare else self.judge
        mine, places = self.learn.by_class()[label], contexts.by_class()[label]
        at, chosen = (pool[torch.randint(len(pool), (SAMPLES,), generator=random)] for pool in (places, mine))
        scene = served_scene(self.learn, chosen, contexts, at, novelty, random, occupied=not bare)
        size = 64 if generator is None else generator.config.latent
        latent = torch.randn(SAMPLES, size, generator=random)
        pasted = torch.lerp(scene.image_B3RR, scene.exemplar_B3RR, scene.soft_B1RR)
        images = pasted if generator is None else complete_in_parts(generator, scene, latent)
        invented = ((1 - scene.validity_B1RR) * scene.mask_B1RR).sum((1, 2, 3)) / scene.mask_B1RR.sum((1, 2, 3)).clamp_min(1)
        return Samples(images, contexts.boxes[at], self.learn.instances[chosen], at, scene.image_B3RR, scene.mask_B1RR, scene.soft_B1RR, invented)

    def likeness(self, made: Samples, label: int, *, derived: bool) -> dict[str, float]:
        """KID, coverage, share of copies (one's own exemplar aside, where samples are derived from it), mean label consistency."""
        fake = features(object_crops(made.images, made.boxes))
        vectors, instances = self.real[label]
        own = [next((k for k, o in enumerate(instances.tolist()) if o == owner), None) for owner in made.owners.tolist()]
        distance = np.min([nearest(fake, view, ignore_M=own if derived else None)[1] for view in (vectors, *self.views[label])], 0)
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(made.images), 1)
        return {
            "kid": kid(self.held[label], fake),
            "kid_window": kid(self.windows[label], features(object_crops(made.images, whole))),
            "invented": float(made.invented.mean()),
            "coverage": density_and_coverage(self.held[label], fake)[1],
            "copies": float((distance < self.thresholds[label]).mean()),
            "consistency": float(self.classifier.probabilities(fake)[:, label].mean()),
        }

    def means(self, generator: Generator | None, novelties: Iterable[float]) -> dict[str, dict[str, float]]:
        """{novelty: {figure: its mean over the classes}} of samples over held-out objects; see `likeness`."""
        found = {}
        for novelty in novelties:
            rows = [self.likeness(self.samples(generator, c, novelty=novelty, bare=False), c, derived=novelty < DERIVED_BELOW) for c in self.classes]
            found[f"{novelty:g}"] = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
        return found

    def seam(self, made: Samples, label: int) -> float:
        """Jump along the edge of what was painted, as a share of that along the holes that real objects would have been painted into."""
        index = self.judge.by_class()[label][:SAMPLES]
        outline, known = self.judge.outlined(index)
        real = self.judge.floats(index), hole(self.judge, outline, known, self.judge.boxes[index])[0]
        fake, there = (float(ring_loss(x, x, holes)) for x, holes in ((made.images, made.holes), real))
        return fake / max(there, 1e-4)

    def critic(self, made: Samples) -> float:
        """Balanced accuracy of a fresh critic, a linear probe, in telling samples over real objects from these: 0.5 is deceived.

        Source: Lopez-Paz & Oquab 2017 (arXiv:1610.06545). It judges no place, and no exemplar, of which it
        has learned from anything.
        """
        vectors = np.concatenate([features(object_crops(images, made.boxes)) for images in (made.before, made.images)])
        truth = np.arange(2).repeat(len(made.images))
        places, owners = (np.tile(ids.cpu().numpy(), 2) for ids in (made.places, made.owners))
        fold = np.unique(places, return_inverse=True)[1] % FOLDS
        right = np.full(len(truth), np.nan)
        for k in range(FOLDS):
            out = fold == k
            learned = ~out & ((truth == 0) | ~np.isin(owners, owners[out]))
            if out.any() and len(np.unique(truth[learned])) == 2:
                right[out] = fit(vectors[learned], truth[learned], classes=2).probabilities(vectors[out]).argmax(1) == truth[out]
        return float(np.nanmean(right)) if np.isfinite(right).any() else float("nan")

    def context(self, made: Samples) -> float:
        """Jump along the edge, as a share of what it is where the same objects lie in another's place: below 1 as far as places matter."""
        moved = torch.lerp(made.before.roll(1, 0), made.images, made.soft)
        own, other = (float(ring_loss(x, x, made.holes)) for x in (made.images, moved))
        return own / max(other, 1e-4)

    def overlap(self, made: Samples) -> float:
        """Mean IoU of the box about 90 % of the change with the label's, of samples on bare ground."""
        size = made.images.shape[-1]
        found = []
        for before, after, box in zip(made.before, made.images, (made.boxes * size).tolist(), strict=True):
            found.append(visibility(to_uint8(before), to_uint8(after), (box[0], box[1], box[2], box[3]))[1])
        return float(np.mean(found))

    @torch.no_grad()
    def diversity(self, generator: Generator, label: int, novelty: float) -> float:
        """Mean distance between samples that differ in the latent alone, as a share of that between real objects."""
        spread = []
        for k in range(CONTEXTS):
            scene, box = self.one_scene(label, novelty, k)
            repeated = Scene(**{name: value.expand(LATENTS, *value.shape[1:]) for name, value in scene.__dict__.items()})
            latent = torch.randn(LATENTS, generator.config.latent, generator=device.random_stream(k))
            spread.append(mean_distance(features(object_crops(complete(generator, repeated, latent), box.expand(LATENTS, 4)))))
        return float(np.mean(spread)) / mean_distance(self.held[label])

    def one_scene(self, label: int, novelty: float, k: int, *, bare: bool = False) -> tuple[Scene, Tensor]:
        """(the k-th held-out place of a class with some training instance in it, its box [1,4])."""
        random, contexts = device.random_stream(k), self.judge.emptied() if bare else self.judge
        mine, places = self.learn.by_class()[label], contexts.by_class()[label]
        at = places[k % len(places)][None]
        chosen = mine[torch.randint(len(mine), (1,), generator=random)]
        return served_scene(self.learn, chosen, contexts, at, novelty, random, occupied=not bare), contexts.boxes[at]


def crops_of(windows: Windows, label: int, *, most: int = 200) -> list[NDArray[np.uint8]]:
    index = windows.by_class()[label][:most]
    return object_crops(windows.floats(index), windows.boxes[index])


def windows_of(windows: Windows, label: int, *, most: int = 200) -> Floats:
    """Features of whole windows about a class's objects."""
    index = windows.by_class().get(label, torch.zeros(0, dtype=torch.long))[:most]
    return features(object_crops(windows.floats(index), torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(index), 1)))


def classifier_of(windows: Windows, classes: list[int]) -> Classifier:
    parts = [window_features(windows, c, most=200)[0] for c in classes]
    labels = np.concatenate([np.full(len(p), c, dtype=np.int64) for c, p in zip(classes, parts, strict=True)])
    return fit(np.concatenate(parts), labels, classes=len(classes))


def mean_distance(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[np.triu_indices(len(vectors), 1)].mean())


class Silent(Generator):
    """A generator that paints nothing: what is cut away stays filled with the colours about it, which is what any generator has to be better than."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs_BNHW: Tensor, latent_BZ: Tensor, label_B: Tensor) -> Tensor:
        return torch.zeros_like(inputs_BNHW[:, :3])


def few(pack: Pack, count: int, *, seed: int = 0) -> Pack:
    """The pack with at most so many training objects of a class; smaller counts are part of larger ones."""
    rng = np.random.default_rng(seed)
    kept = []
    for label in pack.classes:
        mine = [i for i in pack.train if i.label == label]
        kept += [mine[k] for k in rng.permutation(len(mine))[:count]]
    return replace(pack, train=kept)
