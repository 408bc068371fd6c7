"""Classical augmentation behind its adapter: the same for the same seed, boxes and masks where the pixels went."""

from __future__ import annotations

import functools
import io
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.evidence.folder import FolderView
from infra.formats.segmentation import mask_of, run_lengths
from longtail.errors import InvalidRequest
from longtail.policies import PIXELS, PRESETS, SHAPES, moves, resolve
from longtail.samples import Annotation, Sample
from trainers.additions import varied
from trainers.classical import bounds, build, check_policy, vary

OPTIONS = {
    "Affine": {"rotate": [-25, 25], "scale": [0.8, 1.2], "translate_percent": [-0.1, 0.1]},
    "GaussianBlur": {"sigma_limit": [1.0, 2.0]},
    "CLAHE": {"clip_limit": [4, 4]},
}


def policy(*names):
    return [{"name": n, "p": 1.0, "options": OPTIONS.get(n, {})} for n in names]


def scene(boxes, height=120, width=160):
    """Gray ground with a block of a colour of its own in each box, and a mask for each."""
    pixels = np.full((height, width, 3), 100, dtype=np.uint8)
    masks = []
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        pixels[y0:y1, x0:x1] = (255, 40 * k, 0)
        mask = np.zeros((height, width), dtype=bool)
        mask[y0:y1, x0:x1] = True
        masks.append(mask)
    return pixels, masks


@st.composite
def block(draw):
    x0, y0 = draw(st.integers(10, 110)), draw(st.integers(10, 70))
    return x0, y0, x0 + draw(st.integers(8, 40)), y0 + draw(st.integers(8, 40))


@pytest.mark.parametrize("name", sorted(PIXELS | SHAPES))
def test_every_step_that_may_be_named_is_there_and_replays(name):
    pixels, masks = scene([(30, 30, 60, 70)])
    first = vary(pixels, [(30, 30, 60, 70)], policy(name), seed=5, masks=masks)
    again = vary(pixels, [(30, 30, 60, 70)], policy(name), seed=5, masks=masks)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.boxes_xyxy == again.boxes_xyxy
    assert pixels[0, 0, 0] == 100  # the image that was given stays as it is
    if name in PIXELS:
        assert first.boxes_xyxy == [(30, 30, 60, 70)]
        assert np.array_equal(first.masks[0], masks[0])


def test_another_seed_is_another_image():
    pixels, _ = scene([(30, 30, 60, 70)])
    made = {vary(pixels, [], policy("Affine", "RandomBrightnessContrast"), seed=s).pixels.tobytes() for s in range(10)}
    assert len(made) == 10


@settings(max_examples=60, deadline=None)
@given(block(), st.sampled_from(["HorizontalFlip", "VerticalFlip", "Transpose", "RandomRotate90", "Affine", "Perspective"]), st.integers(0, 2**63))
def test_a_box_lies_around_the_pixels_that_it_named(box, name, seed):
    pixels, masks = scene([box])
    with_mask = vary(pixels, [box], policy(name), seed=seed, masks=masks)
    seen = bounds(with_mask.pixels[:, :, 0].astype(int) - with_mask.pixels[:, :, 2] > 60)
    if with_mask.boxes_xyxy[0] is None:
        return
    assert np.allclose(with_mask.boxes_xyxy[0], seen, atol=2.5)
    loose = vary(pixels, [box], policy(name), seed=seed).boxes_xyxy[0]
    assert loose is not None
    assert all(a <= b + 2.5 for a, b in zip(loose[:2], seen[:2], strict=True)) and all(a >= b - 2.5 for a, b in zip(loose[2:], seen[2:], strict=True))


def test_what_leaves_the_image_loses_its_label_and_the_others_keep_theirs():
    boxes = [(2, 40, 22, 60), (100, 40, 140, 80)]
    pixels, masks = scene(boxes)
    away = [{"name": "Affine", "p": 1.0, "options": {"translate_px": {"x": -60, "y": 0}}}]
    found = vary(pixels, boxes, away, seed=0, masks=masks)
    assert found.boxes_xyxy[0] is None and found.masks[0] is None
    assert np.allclose(found.boxes_xyxy[1], (40, 40, 80, 80), atol=1)


def test_presets_are_written_out_as_json_that_replays():
    pixels, _ = scene([(30, 30, 60, 70)])
    for name in PRESETS:
        steps = resolve(name)
        again = json.loads(json.dumps(steps))
        assert np.array_equal(vary(pixels, [], steps, seed=3).pixels, vary(pixels, [], again, seed=3).pixels)
    assert moves(resolve("flips")) and moves(resolve("standard")) and not moves(resolve("light"))


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("wild", "unknown policy 'wild'"),
        ([], "expected 1 to 20 steps"),
        ([{"name": "Lambda", "p": 1}], "unknown step 'Lambda'"),
        ([{"name": "__class__", "p": 1}], "unknown step"),
        ([{"name": "HorizontalFlip", "p": 2}], "expected a probability"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(steps, says):
    with pytest.raises(InvalidRequest, match=says):
        resolve(steps)


@pytest.mark.parametrize("options", [{"rotate": "much"}, {"rotation": [0, 5]}, {"rotate_method": "round"}, {"border_mode": 4}])
def test_options_that_a_step_does_not_take_are_refused_by_its_name(options):
    with pytest.raises(InvalidRequest, match="augment: Affine: "):
        check_policy([{"name": "Affine", "p": 1.0, "options": options}])
    assert build(policy("Affine"), seed=0) is not None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_run_lengths_and_masks_are_each_other_s_inverse(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < 0.4
    assert np.array_equal(mask_of(run_lengths(mask), 31, 23), mask)


def test_a_polygon_is_drawn_where_it_lies():
    mask = mask_of([[10, 5, 20, 5, 20, 15, 10, 15]], 40, 30)
    assert np.allclose(bounds(mask), (10, 5, 20, 15), atol=1)
    assert 90 <= mask.sum() <= 121


def test_varied_copies_are_shared_out_by_class():
    """A class of one image gets as many copies as one of five, so that no arm gains by another balance of classes."""

    def png(value):
        out = io.BytesIO()
        Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(out, "PNG")
        return out.getvalue()

    labels = [1] * 5 + [2] + [3]
    samples = [
        Sample(id=str(k), path=f"{k}.png", uri="", etag="", size_bytes=0, width=16, height=16, split="train", annotations=(Annotation(category_id=label),))
        for k, label in enumerate(labels)
    ]
    files = {str(k): functools.partial(png, 30 * k) for k in range(len(labels))}
    view = FolderView(samples, files, ["many", "one", "other"], task="classification")
    found = varied(view, samples, {"many": 10, "one": 10}, PRESETS["flips"], seed=("copies",))
    assert [image.labels for image in found] == [[0]] * 10 + [[1]] * 10
    assert Counter(int(image.pixels[0, 0, 0]) for image in found) == Counter({0: 2, 30: 2, 60: 2, 90: 2, 120: 2, 150: 10})
