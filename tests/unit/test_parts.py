"""Parts of training objects: found wherever they were cut from, however large they are shown, mirrored or in another light; what is new is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainers.quality.parts import Repeated, Repeats, likeness


def textured(seed: int, *, height: int = 40, width: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


OBJECTS = [textured(i) for i in range(12)]
OTHERS = [textured(100 + i) for i in range(12)]
LOOKS = {"as it is": lambda a: a, "mirrored": lambda a: a[:, ::-1], "upside down": lambda a: a[::-1], "half a turn": lambda a: a[::-1, ::-1]}
CORNERS = {"upper left": (0, 0), "upper right": (0, 1), "lower left": (1, 0), "lower right": (1, 1), "inside": (0.3, 0.6)}


@pytest.fixture(scope="module")
def held():
    return Repeats.of(likeness(OTHERS, OBJECTS))


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("share", [0.83, 0.67, 0.55, 0.5])
def test_a_part_is_found_wherever_it_was_cut_from(held, share, corner):
    side = round(share * 40)
    y, x = (round(c * (40 - side)) for c in CORNERS[corner])
    parts = [np.ascontiguousarray(look(o[y : y + side, x : x + side])) for look, o in zip(list(LOOKS.values()) * 3, OBJECTS, strict=True)]
    seen = Repeated(Repeats.of(likeness(parts, OBJECTS)), held)
    assert seen.fake.index.tolist() == list(range(12))
    assert (seen.fake.apart < seen.near).mean() > 0.5
    assert (held.apart > seen.near).all()


@pytest.mark.parametrize("look", LOOKS)
def test_a_whole_object_is_found(look):
    found = Repeats.of(likeness([np.ascontiguousarray(LOOKS[look](o)) for o in OBJECTS], OBJECTS))
    assert found.index.tolist() == list(range(12)) and 0 <= found.apart.min() <= found.apart.max() < 0.001


def test_it_is_found_in_another_light_and_at_another_size():
    shown = [np.asarray(Image.fromarray(o[4:30, 10:36]).resize((90, 90))) for o in OBJECTS]
    dimmed = [(s * 0.6 + 20).astype(np.uint8) for s in shown]
    assert np.allclose(likeness(dimmed, OBJECTS).max(1), likeness(shown, OBJECTS).max(1), atol=0.02)
    assert likeness(dimmed, OBJECTS).argmax(1).tolist() == list(range(12))


def test_likeness_is_a_correlation_and_nothing_is_like_what_is_flat():
    flat = np.full((20, 20, 3), 90, dtype=np.uint8)
    found = likeness([*OBJECTS, flat], [*OBJECTS, flat])
    assert found.shape == (13, 13) and -1 <= found.min() <= found.max() <= 1
    assert np.diag(found)[:12] == pytest.approx(1, abs=1e-3)
    assert np.abs(found[12]).max() < 0.05 and np.abs(found[:, 12]).max() < 0.05


def test_an_object_that_is_left_out_is_not_what_a_sample_repeats():
    among = likeness(OBJECTS, OBJECTS)
    left = Repeats.of(among, ignore=[0, None, *range(2, 12)])
    assert left.index[1] == 1 and left.apart[1] < 0.01
    assert left.index[0] != 0 and left.apart[0] > 0.1


def test_where_no_object_is_left_nothing_repeats():
    for among, ignore in ((likeness(OBJECTS, []), ()), (likeness(OBJECTS, OBJECTS[:1]), [0] * 12)):
        found = Repeats.of(among, ignore=ignore)
        assert (found.apart == 2).all() and (found.index == 0).all()
    assert likeness([], OBJECTS).shape == (0, 12)
    assert Repeats.of(likeness([], OBJECTS)).apart.shape == (0,)


def test_what_counts_as_a_repeat_is_told_by_held_out_objects(held):
    copies = Repeats.of(likeness([o[:30, :30] for o in OBJECTS], OBJECTS))
    seen = Repeated(copies, held)
    assert 0 < seen.near < held.apart.min() and (copies.apart < seen.near).all()
    assert Repeated(copies, Repeats.of(likeness(OTHERS[:1], OBJECTS))).near == 0
