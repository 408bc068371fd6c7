"""Splits for a dataset that has none: stratified by class, groups kept whole, drawn from a seed.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), of groups instead of samples: the rarest class is dealt first,
each group to the split that lacks most of that class.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from longtail.errors import InvalidRequest
from longtail.samples import SPLITS, Split


def deal(labels: Sequence[Sequence[int]], groups: Sequence[Sequence[int]], shares: Mapping[Split, float], *, seed: int) -> list[Split]:
    """The split of each sample, of which `labels` lists the class ids of its objects.

    `groups` are positions that stay on one side, those in none are groups of their own; `shares` in [0, 1] add up to 1.
    Raises InvalidRequest where a split that was asked for gets no sample.
    """
    shares = {s: share for s, share in shares.items() if share > 0}
    together = [list(g) for g in groups]
    grouped = {i for g in together for i in g}
    together += [[i] for i in range(len(labels)) if i not in grouped]
    order = random.Random(seed)
    order.shuffle(together)
    counts = [Counter(c for i in g for c in labels[i]) for g in together]
    lacking = {s: {c: n * share for c, n in sum(counts, Counter()).items()} for s, share in shares.items()}
    room = {s: len(labels) * share for s, share in shares.items()}
    of: dict[int, Split] = {}

    def give(g: int, split: Split) -> None:
        of[g] = split
        room[split] -= len(together[g])
        for c, n in counts[g].items():
            lacking[split][c] -= n

    for c in rarest_first(counts):
        holding = [g for g in range(len(together)) if counts[g][c] and g not in of]
        for g in sorted(holding, key=lambda g: -counts[g][c]):
            give(g, max(shares, key=lambda s: (lacking[s][c], room[s])))
    for g in sorted((g for g in range(len(together)) if g not in of), key=lambda g: -len(together[g])):
        give(g, max(shares, key=lambda s: room[s]))
    dealt: list[Split] = ["train"] * len(labels)
    for g, split in of.items():
        for i in together[g]:
            dealt[i] = split
    for split, share in shares.items():
        if split not in dealt:
            raise InvalidRequest(f"split {split!r}: {share:.0%} of {len(labels)} images in {len(together)} groups leave it empty")
    return dealt


def rarest_first(counts: Sequence[Counter[int]]) -> list[int]:
    """Class ids by how many objects there are; the smaller id first among equals."""
    total = sum(counts, Counter())
    return sorted(total, key=lambda c: (total[c], c))


def shares_of(val: float, test: float) -> dict[Split, float]:
    """Shares of all splits, train taking the rest. Raises InvalidRequest where nothing is left to train on."""
    if val + test >= 1:
        raise InvalidRequest(f"splits: val {val} and test {test} leave nothing to train on")
    return dict(zip(SPLITS, (1 - val - test, val, test), strict=True))
