"""A generator's gates: measured on samples made in held-out contexts, per class, against held-out real objects."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from longtail.gates import CONSISTENCY_SHARE, COPY_EXCESS, COVERAGE_SHARE, DEFAULT_NOVELTY, KID_FLOOR, KID_RATIO, Gate, judge
from trainers.device import random_stream
from trainers.grids import to_uint8
from trainers.networks import Generator
from trainers.quality.consistency import cross_fitted_agreement, fit
from trainers.quality.copying import copy_threshold, nearest
from trainers.quality.coverage import density_and_coverage
from trainers.quality.features import features
from trainers.quality.kid import kid, kid_interval
from trainers.sampling import Scene, complete
from trainers.scenes import served_scene
from trainers.windows import Windows

Floats = NDArray[np.float32]
SAMPLES = 40


@torch.no_grad()
def samples_of(
    generator: Generator, train: Windows, contexts: Windows, label: int, *, count: int, novelty: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(images [N,3,R,R], boxes [N,4], exemplar index [N] in `train`): the class painted into contexts of its own."""
    random = random_stream(seed)
    mine, places = train.by_class()[label], contexts.by_class().get(label, train.by_class()[label])
    source = contexts if label in contexts.by_class() else train
    at = places[torch.randint(len(places), (count,), generator=random)]
    chosen = mine[torch.randint(len(mine), (count,), generator=random)]
    scene = served_scene(train, chosen, source, at, novelty, random)
    latent = torch.randn(count, generator.config.latent, generator=random)
    parts = []
    for i in range(0, count, 8):
        piece = Scene(**{k: v[i : i + 8] for k, v in scene.__dict__.items()})
        parts.append(complete(generator, piece, latent[i : i + 8]))
    return torch.cat(parts), source.boxes[at], train.instances[chosen]


def object_crops(images: torch.Tensor, boxes: torch.Tensor) -> list[NDArray[np.uint8]]:
    """The label's box of each image in [-1, 1], as uint8."""
    size = images.shape[-1]
    crops = []
    for image, box in zip(images, boxes, strict=True):
        x0, y0 = (int(v * size) for v in box[:2])
        x1, y1 = max(x0 + 4, round(float(box[2]) * size)), max(y0 + 4, round(float(box[3]) * size))
        crops.append(to_uint8(image[:, y0:y1, x0:x1]))
    return crops


def window_features(windows: Windows, label: int, *, most: int) -> tuple[Floats, torch.Tensor]:
    """(features of the objects of a class, which instance each is): one window an instance."""
    index = windows.by_class().get(label, torch.zeros(0, dtype=torch.long))[:most]
    return features(object_crops(windows.floats(index), windows.boxes[index])), windows.instances[index]


class Judge:
    """Scores a generator during training on `select`, and gates it at the end on `val`, which chose nothing.

    All have one window an instance; no image is in both `select` and `val`.
    """

    def __init__(self, train: Windows, select: Windows, val: Windows, names: dict[int, str]) -> None:
        self.train, self.select, self.val, self.names = train, select, val, names
        self.real = {c: window_features(train, c, most=150) for c in names}
        self.chosen_by = {c: window_features(select, c, most=150)[0] for c in names}
        self.held = {c: window_features(val, c, most=150)[0] for c in names}

    def score(self, generator: Generator) -> float:
        """Mean KID over the classes at the default novelty, lower is better."""
        values = []
        for c in self.names:
            images, boxes, _ = samples_of(generator, self.train, self.select, c, count=16, novelty=DEFAULT_NOVELTY, seed=7)
            invented, more, _ = samples_of(generator, self.train, self.select, c, count=16, novelty=0.8, seed=8)
            reference = self.chosen_by[c] if len(self.chosen_by[c]) >= 8 else self.real[c][0]
            fake = features(object_crops(torch.cat([images, invented]), torch.cat([boxes, more])))
            values.append(kid(reference, fake))
        return float(np.mean(values))

    def gates(self, generator: Generator) -> list[Gate]:
        """Every gate of every class."""
        found: list[Gate] = []
        vectors = np.concatenate([self.real[c][0] for c in self.names])
        labels = np.concatenate([np.full(len(self.real[c][0]), i, dtype=np.int64) for i, c in enumerate(self.names)])
        agreed = cross_fitted_agreement(vectors, labels, classes=len(self.names)) if len(self.names) > 1 else np.ones(len(labels))
        classifier = fit(vectors, labels, classes=len(self.names)) if len(self.names) > 1 else None
        for i, (c, name) in enumerate(self.names.items()):
            images, boxes, owners = samples_of(generator, self.train, self.val, c, count=SAMPLES, novelty=DEFAULT_NOVELTY, seed=11)
            fake = features(object_crops(images, boxes))
            real, instances = self.real[c]
            held = self.held[c]
            found.append(self._kid(name, real, held, fake))
            found.append(self._coverage(name, real, held, fake))
            own = [next((k for k, o in enumerate(instances.tolist()) if o == owner), None) for owner in owners.tolist()]
            found.append(self._copying(name, real, held, fake, own))
            if classifier is not None:
                mine = classifier.probabilities(fake)[:, i]
                wanted = CONSISTENCY_SHARE * float(agreed[labels == i].mean())
                found.append(self._gate("label_consistency", name, mine, f">= {wanted:.2f} (0.8 x real)", float(mine.mean()) >= wanted, len(held)))
        return found

    def _gate(self, gate: str, name: str, values: Floats, threshold: str, holds: bool, held: int, note: str = "") -> Gate:
        mean = float(np.mean(values))
        half = 1.96 * float(np.std(values)) / max(1, len(values)) ** 0.5
        verdict = judge(holds, held_out=held)
        return Gate(
            name=gate, class_name=name, figure=mean, interval=(mean - half, mean + half), threshold=threshold, verdict=verdict,
            count=len(values), note=note or ("" if verdict != "unknown" else f"only {held} held-out objects"),
        )  # fmt: skip

    def _kid(self, name: str, real: Floats, held: Floats, fake: Floats) -> Gate:
        enough = len(held) >= 2
        limit = max(KID_FLOOR, KID_RATIO * kid(real, held)) if enough else float("nan")
        figure = kid(held if enough else real, fake)
        low, high = kid_interval(held if enough else real, fake)
        return Gate(
            name="kid", class_name=name, figure=figure, interval=(low, high), threshold=f"<= {limit:.4f} (3 x train/val)",
            verdict=judge(figure <= limit, held_out=len(held)), count=len(fake), note="" if enough else "no held-out objects",
        )  # fmt: skip

    def _coverage(self, name: str, real: Floats, held: Floats, fake: Floats) -> Gate:
        reference = held if len(held) >= 2 else real
        rng = np.random.default_rng(0)
        some = real[rng.permutation(len(real))[: len(fake)]]
        wanted = COVERAGE_SHARE * density_and_coverage(reference, some)[1]
        density, coverage = density_and_coverage(reference, fake)
        half = 1.96 * (coverage * (1 - coverage) / max(1, len(reference))) ** 0.5
        return Gate(
            name="coverage", class_name=name, figure=coverage, interval=(coverage - half, coverage + half),
            threshold=f">= {wanted:.2f} (half of what real attains)", verdict=judge(coverage >= wanted, held_out=len(held)), count=len(fake),
            note=f"density {density:.2f}",
        )  # fmt: skip

    def _copying(self, name: str, real: Floats, held: Floats, fake: Floats, own: list[int | None]) -> Gate:
        limit = copy_threshold(real, held)
        _, distance = nearest(fake, real, ignore_M=own if DEFAULT_NOVELTY < 0.5 else None)
        copies = (distance < limit).astype(np.float32)
        return self._gate("copying", name, copies, f"<= {COPY_EXCESS}", float(copies.mean()) <= COPY_EXCESS, len(held))
