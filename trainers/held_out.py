"""What chooses and judges a generator where val shows nothing of a class: some of its training images, taken from what is learned.

No image among them looks like one that is learned from. Which they are hangs on the dataset's name, its files' paths and the classes that are learned, not
on a seed, so that they mostly stay where the dataset grows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from infra.images import fingerprint, small
from longtail.boxes import on_border, xywh_to_xyxy
from longtail.duplicates import Fingerprint, near_groups
from longtail.gates import MIN_TO_JUDGE
from longtail.samples import Sample
from longtail.seeds import derive_seed
from trainers.dataset import DatasetView, to_lay_elsewhere

SHARE = 4
"""One object of so many is held out, if that is enough to judge by."""
LEAST, MOST = 3 * MIN_TO_JUDGE // 2, 4 * MIN_TO_JUDGE
"""At least `MIN_TO_JUDGE` judge, and half as many choose."""
LEFT = 3
"""Of every class one object of so many stays to be learned from, and `MIN_TO_JUDGE`."""
READERS = 4


def hold_out(view: DatasetView, classes: Sequence[str], known: Callable[[list[str]], Mapping[str, Fingerprint]]) -> dict[str, int]:
    """Turns training images of the view into val, for each class that val shows nothing of: {class: how many objects are held out}.

    Look-alikes go together, or stay where they would be more than half of what is held out. Objects that a border cuts off judge nothing and count for
    nothing. A class of which too few can be held out gives none, and its gates stay unknown. Other classes in the same images go along, as long as
    enough of them is left. `known` gives the fingerprints by sample id of those images that were looked at before.
    """
    judged = {view.names[o.label] for o in view.objects("val", classes=classes)}
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for name in dict.fromkeys(classes):
        for o in to_lay_elsewhere(list(view.objects("train", classes=[name]))):
            shown[o.sample.id][name] += 1
    counts = sum(shown.values(), Counter[str]())
    wanted = {c: held_of(counts[c]) for c in classes if c not in judged}
    taken, held = list[tuple[list[Sample], Counter[str]]](), Counter[str]()
    for group in alike(view, [view.by_id[i] for i in sorted(shown)], known(list(shown))) if any(wanted.values()) else ():
        there = sum((shown[s.id] for s in group), Counter[str]())
        needed = any(held[c] < wanted.get(c, 0) for c in there)
        most = any(2 * n > wanted[c] for c, n in there.items() if c in wanted)
        if needed and not most and all(counts[c] - held[c] - n >= max(MIN_TO_JUDGE, counts[c] // LEFT) for c, n in there.items()):
            taken.append((group, there))
            held += there
    enough = {c for c in wanted if held[c] >= LEAST}
    told = [(group, there) for group, there in taken if enough & set(there)]
    ids = {s.id for group, _ in told for s in group}
    view.samples = [judging(s) if s.id in ids else s for s in view.samples]
    view.by_id = {s.id: s for s in view.samples}
    return dict(sum((there for _, there in told), Counter[str]()))


def judging(sample: Sample) -> Sample:
    """The sample in val, whose objects that a border cuts off are passed over as crowds are: each still takes up its place."""
    whole = [a.bbox_xywh is None or not any(on_border(xywh_to_xyxy(a.bbox_xywh), sample.width, sample.height)) for a in sample.annotations]
    passed = tuple(a if seen else replace(a, extra={**a.extra, "iscrowd": 1}) for a, seen in zip(sample.annotations, whole, strict=True))
    return replace(sample, split="val", annotations=passed if any(whole) else sample.annotations)


def held_of(count: int) -> int:
    """How many of so many objects are held out."""
    return 0 if count < LEAST + MIN_TO_JUDGE else min(MOST, max(LEAST, count // SHARE))


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
    return sorted(([samples[i] for i in g] for g in every), key=lambda group: derive_seed("held out", view.dataset, min(s.path for s in group)))
