"""What chooses and judges a generator where val shows nothing of a class: some of its training images, taken from what is learned.

No image among them looks like one that is learned from, and which they are depends on the dataset and its files alone: every generator of a
dataset is judged by the same ones, and they stay where the dataset grows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from infra.images import fingerprint, small
from longtail.duplicates import Fingerprint, near_groups
from longtail.gates import MIN_TO_JUDGE
from longtail.samples import Sample
from longtail.seeds import derive_seed
from trainers.dataset import DatasetView

SHARE = 4
"""One object of so many is held out, if that is enough to judge by."""
MOST = 4 * MIN_TO_JUDGE
READERS = 4


def hold_out(view: DatasetView, classes: Sequence[str], known: Callable[[list[str]], Mapping[str, Fingerprint]]) -> dict[str, int]:
    """Turns training images of the view into val, for each class that val shows nothing of: {class: how many of its objects}.

    A class that would keep fewer objects than are needed to judge by gives none, nor does an image that shows it: its gates stay unknown.
    `known` gives the fingerprints by sample id of those images that were looked at before.
    """
    judged = {view.names[o.label] for o in view.objects("val", classes=classes)}
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for o in view.objects("train", classes=classes):
        shown[o.sample.id][view.names[o.label]] += 1
    counts = sum(shown.values(), Counter[str]())
    wanted = {c: held_of(counts[c]) for c in classes if c not in judged}
    whole = {c for c, n in wanted.items() if not n}
    taken, held = set[str](), Counter[str]()
    for group in alike(view, [view.by_id[i] for i in shown], known(list(shown))) if any(wanted.values()) else ():
        there = sum((shown[s.id] for s in group), Counter[str]())
        if whole & set(there) or all(held[c] >= wanted.get(c, 0) for c in there):
            continue
        if any(counts[c] - held[c] - n < MIN_TO_JUDGE for c, n in there.items() if c in wanted):
            continue
        taken |= {s.id for s in group}
        held += there
    view.samples = [replace(s, split="val") if s.id in taken else s for s in view.samples]
    view.by_id = {s.id: s for s in view.samples}
    return {c: held[c] for c in wanted if held[c]}


def held_of(count: int) -> int:
    """How many of so many objects are held out."""
    return 0 if count < 2 * MIN_TO_JUDGE else min(MOST, max(MIN_TO_JUDGE, count // SHARE))


def alike(view: DatasetView, samples: Sequence[Sample], known: Mapping[str, Fingerprint]) -> list[list[Sample]]:
    """The images, those that look the same together, in an order that is the dataset's."""

    def look(sample: Sample) -> Fingerprint:
        if sample.id in known:
            return known[sample.id]
        data = view.read(sample)
        return fingerprint(data, small(data, what=sample.uri, max_pixels=view.max_pixels))

    with ThreadPoolExecutor(READERS) as pool:
        groups = near_groups(list(pool.map(look, samples)))
    together = {i for g in groups for i in g}
    every = [*groups, *([i] for i in range(len(samples)) if i not in together)]
    return sorted(([samples[i] for i in g] for g in every), key=lambda group: min(derive_seed("held out", view.dataset, s.path) for s in group))
