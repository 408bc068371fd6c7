"""Which images are the same picture: exactly, by their bytes, or nearly, by how their pixels look when they are small.

Two images are near-duplicates when at most NEAR_BITS of their 128-bit difference hashes (Krawetz 2013; rows and columns) differ and
their small colour pictures agree as well: the hash alone takes a red heart for a blue one. See docs/decisions/007 for the measurement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAR_BITS = 10
COLOURS_AGREE = 0.95
"""Least correlation of two small colour pictures, each less its mean."""
SAME_LEVELS = 3.0
"""Or a mean difference of at most so many levels of 255: flat pictures correlate by chance."""
HASH_BYTES, COLOUR_BYTES = 16, 192
CHUNK = 2048
SHOWN = 100


@dataclass(frozen=True)
class Fingerprint:
    """`sha256` of the file as hex, 128 bits of gradients, 8x8x3 bytes of colour."""

    sha256: str
    gradients: bytes
    colours: bytes


def exact_groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Positions of files that are equal byte for byte; groups of two and more, in order of their first."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, p in enumerate(prints):
        found[p.sha256].append(i)
    return [group for group in found.values() if len(group) > 1]


def near_groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Positions of images that are connected by near-duplicate pairs; groups of two and more, in order of their first."""
    parent = list(range(len(prints)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in near_pairs(prints):
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    found: dict[int, list[int]] = defaultdict(list)
    for i in range(len(prints)):
        found[root(i)].append(i)
    return [group for group in found.values() if len(group) > 1]


def near_pairs(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs that look alike. Hashes within NEAR_BITS agree whole in at least one of NEAR_BITS + 1 bands: only such are compared."""
    if len(prints) < 2:
        return
    hashes = np.frombuffer(b"".join(p.gradients for p in prints), dtype=np.uint8).reshape(-1, HASH_BYTES)
    colours = np.frombuffer(b"".join(p.colours for p in prints), dtype=np.uint8).reshape(-1, COLOUR_BYTES)
    bits = np.unpackbits(hashes, axis=1)
    seen: set[tuple[int, int]] = set()
    for band in np.array_split(np.arange(8 * HASH_BYTES), NEAR_BITS + 1):
        values = bits[:, band] @ (1 << np.arange(len(band), dtype=np.int64))
        for members in buckets(values):
            for a, b in close(hashes, members):
                if (a, b) not in seen and same_colours(colours[a], colours[b]):
                    seen.add((a, b))
                    yield a, b


def buckets(values: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions of equal values, two and more."""
    order = np.argsort(values, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        if len(members) > 1:
            yield members


def close(hashes: NDArray[np.uint8], members: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of members whose hashes differ in at most NEAR_BITS bits, the smaller position first."""
    for start in range(0, len(members), CHUNK):
        part = members[start : start + CHUNK]
        for other in range(start, len(members), CHUNK):
            against = members[other : other + CHUNK]
            differ = np.bitwise_count(hashes[part][:, None] ^ hashes[against][None]).sum(2, dtype=np.int64)
            for i, j in zip(*np.nonzero(differ <= NEAR_BITS), strict=True):
                if part[i] < against[j]:
                    yield int(part[i]), int(against[j])


def same_colours(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    x, y = a.astype(np.float64), b.astype(np.float64)
    if np.abs(x - y).mean() <= SAME_LEVELS:
        return True
    x, y = x - x.mean(), y - y.mean()
    return bool((x * y).sum() >= COLOURS_AGREE * np.linalg.norm(x) * np.linalg.norm(y))


def copies(members: Sequence[tuple[str, str, str]], prints: Sequence[Fingerprint]) -> dict[str, Any]:
    """What of (id, path, split) is there more than once: exactly, nearly, and across splits, each with its first groups.

    A group that is in two splits leaks: what a model is measured on, it has seen.
    """
    exact = exact_groups(prints)
    alike = near_groups(prints)
    near = [g for g in alike if len({prints[i].sha256 for i in g}) > 1]
    leaking = [g for g in alike if len({members[i][2] for i in g}) > 1]

    def told(groups: list[list[int]]) -> dict[str, Any]:
        first = [[dict(zip(("id", "path", "split"), members[i], strict=True)) for i in g[:SHOWN]] for g in groups[:SHOWN]]
        return {"groups": len(groups), "images": sum(map(len, groups)), "first": first}

    return {"images": len(members), "exact": told(exact), "near": told(near), "leaking": told(leaking)}
