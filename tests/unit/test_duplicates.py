"""Exact and near duplicates, on real images and on their copies; splits that keep them on one side."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from infra.images import fingerprint, small
from longtail.duplicates import NEAR_BITS, Fingerprint, exact_groups, near_groups, near_pairs
from longtail.errors import InvalidRequest
from longtail.splitting import deal, shares_of
from services.demo.packs import PACKS

CELLS = sorted((PACKS / "bccd").rglob("*.jpg"))[:60]


def stored(image, format="JPEG", **options):
    out = BytesIO()
    image.convert("RGB").save(out, format, **options)
    return out.getvalue()


def look(data):
    return fingerprint(data, small(data, what="x", max_pixels=10_000_000))


@pytest.fixture(scope="module")
def cells():
    return [look(file.read_bytes()) for file in CELLS]


CHANGES = {
    "recompressed": lambda i: stored(i, quality=40),
    "as PNG": lambda i: stored(i, "PNG"),
    "half the size": lambda i: stored(i.resize((i.width // 2, i.height // 2))),
    "brighter": lambda i: stored(ImageEnhance.Brightness(i).enhance(1.2)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_of_a_real_image_is_its_near_duplicate_and_of_no_other(cells, change):
    copies = [look(change(Image.open(file))) for file in CELLS[:20]]
    assert exact_groups([*cells, *copies]) == []
    found = near_groups([*cells, *copies])
    assert sorted(len(g) for g in found) == [2] * 20
    assert {tuple(g) for g in found} == {(i, len(cells) + i) for i in range(20)}


def test_hearts_of_another_colour_are_not_the_same_picture():
    shape = np.zeros((64, 64, 3), dtype=np.uint8)
    shape[20:44, 10:50] = (220, 20, 40)
    blue = shape[..., ::-1].copy()
    red, blue = look(stored(Image.fromarray(shape), "PNG")), look(stored(Image.fromarray(blue), "PNG"))
    assert red.gradients == blue.gradients
    assert near_groups([red, blue]) == []


def test_equal_bytes_are_exact_duplicates(cells):
    assert exact_groups([cells[0], cells[1], cells[0], cells[2], cells[1]]) == [[0, 2], [1, 4]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_the_bands_miss_no_pair(seed, count):
    """Against every pair compared: hashes that are a few flipped bits apart, among others that are far."""
    draw = np.random.default_rng(seed)
    hashes = np.repeat(draw.integers(0, 2, (max(1, count // 4), 128)), 4, axis=0)[:count]
    hashes = hashes ^ (draw.random(hashes.shape) < 0.06)
    prints = [Fingerprint(str(i), np.packbits(h).tobytes(), bytes(192)) for i, h in enumerate(hashes)]
    n = len(prints)
    every = {(a, b) for a in range(n) for b in range(a + 1, n) if (hashes[a] != hashes[b]).sum() <= NEAR_BITS}
    assert set(near_pairs(prints)) == every


def test_neighbours_of_neighbours_are_one_group(cells):
    base = np.unpackbits(np.frombuffer(cells[0].gradients, dtype=np.uint8))
    chain = []
    for flipped in (0, 8, 16, 24):
        bits = base.copy()
        bits[:flipped] ^= 1
        chain.append(replace(cells[0], gradients=np.packbits(bits).tobytes()))
    assert near_groups(chain) == [[0, 1, 2, 3]]


def many(count, seed=0):
    draw = random.Random(seed)
    return [[draw.choices(range(4), weights=(80, 15, 4, 1))[0] for _ in range(draw.randint(0, 5))] for _ in range(count)]


def test_every_class_is_dealt_by_the_shares():
    labels = many(1000)
    dealt = deal(labels, [], shares_of(0.2, 0.1), seed=3)
    total = Counter(c for row in labels for c in row)
    for split, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        held = Counter(c for row, s in zip(labels, dealt, strict=True) if s == split for c in row)
        for c, n in total.items():
            assert abs(held[c] - share * n) <= max(2, 0.03 * n)
        assert abs(dealt.count(split) - share * 1000) <= 20


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 120), st.integers(0, 8))
def test_a_group_stays_on_one_side_and_a_seed_says_which(seed, count, groups):
    labels, order = many(count, seed), list(range(count))
    random.Random(seed).shuffle(order)
    groups = [order[3 * g : 3 * g + 3] for g in range(groups)]
    dealt = deal(labels, groups, shares_of(0.2, 0.2), seed=seed)
    assert all(len({dealt[i] for i in g}) == 1 for g in groups)
    assert deal(labels, groups, shares_of(0.2, 0.2), seed=seed) == dealt
    assert any(dealt != deal(labels, groups, shares_of(0.2, 0.2), seed=seed + k) for k in range(1, 6))  # two seeds may deal alike


def test_a_class_with_one_image_is_for_training():
    labels = [[0]] * 40 + [[1]]
    assert deal(labels, [], shares_of(0.2, 0.2), seed=1)[-1] == "train"


def test_a_split_that_would_be_empty_is_refused():
    with pytest.raises(InvalidRequest, match=r"split 'test': 10% of 3 images in 3 groups leave it empty"):
        deal([[0], [0], [1]], [], shares_of(0.3, 0.1), seed=0)
    with pytest.raises(InvalidRequest, match="leave nothing to train on"):
        shares_of(0.6, 0.4)
    assert set(deal(many(50), [], shares_of(0.2, 0), seed=0)) == {"train", "val"}
