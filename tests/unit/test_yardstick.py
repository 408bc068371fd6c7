"""What benchmarks measure samples by, on samples whose worth is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.few import tables
from benchmarks.packs import Pack
from benchmarks.yardstick import Silent, Yardstick, few
from longtail.recipes import NETWORKS
from trainers.compose import composite
from trainers.sampling import complete
from trainers.windows import Instance, cut_windows

NOVELTY = 1.0


def discs(count, *, seed):
    """Bright discs on gray noise, two classes by colour, each with bare ground beside it."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        image, ground = (rng.integers(90, 130, (96, 96, 3)).astype(np.uint8) for _ in range(2))
        radius, (x, y) = rng.integers(10, 16), rng.integers(34, 62, 2)
        yy, xx = np.mgrid[:96, :96]
        inside = (xx - x) ** 2 + (yy - y) ** 2 <= radius**2
        image[inside] = (np.array((220, 60, 60) if i % 2 else (60, 60, 220)) + rng.integers(-30, 30, (int(inside.sum()), 3))).astype(np.uint8)
        box = (x - radius, y - radius, x + radius + 1, y + radius + 1)
        found.append(Instance(image, box, i % 2, ground=(ground, box)))
    return found


class Painted(nn.Module):
    """Adds `strength` times a colour that the latent decides, or noise."""

    def __init__(self, strength=0.0, *, noise=False):
        super().__init__()
        self.strength, self.noise, self.config = strength, noise, SimpleNamespace(latent=3, architecture="comodulated")

    def forward(self, inputs, latent, _):
        size = inputs.shape[-1]
        if self.noise:
            return self.strength * torch.randn(len(inputs), 3, size, size, generator=torch.Generator().manual_seed(0))
        return self.strength * latent[:, :, None, None].expand(-1, -1, size, size)


@pytest.fixture(scope="module")
def yard():
    pack = Pack("discs", discs(24, seed=0), [], discs(24, seed=1), {0: "blue", 1: "red"})
    return Yardstick(pack, cut_windows(pack.train, resolution=64, per_instance=1, seed=0, fixed=True))


@pytest.fixture(scope="module")
def pasted(yard):
    return yard.samples(None, 0, novelty=0.0, bare=False)


def test_pasted_objects_are_like_real_ones_and_noise_is_not(yard, pasted):
    near = yard.likeness(pasted, 0, derived=True)
    far = yard.likeness(yard.samples(Painted(2.0, noise=True), 0, novelty=NOVELTY, bare=False), 0, derived=False)
    assert near["kid"] < 0.5 * far["kid"] and near["kid_window"] < 0.5 * far["kid_window"]
    assert near["consistency"] > 0.7 > 0.3 > yard.likeness(pasted, 1, derived=True)["consistency"]
    assert near["coverage"] > far["coverage"]
    assert near["invented"] == pytest.approx(0, abs=1e-6) and far["invented"] == pytest.approx(1, abs=1e-6)
    assert near["copies"] == 0 < yard.likeness(pasted, 0, derived=False)["copies"]  # its own exemplar, excused or not


def test_the_jump_along_the_edge_grows_with_what_is_painted(yard):
    jumps = [yard.seam(yard.samples(Painted(strength), 0, novelty=NOVELTY, bare=False), 0) for strength in (0.0, 0.3, 1.0)]
    assert jumps[0] < 1 < jumps[1] < jumps[2]


def test_a_critic_is_deceived_by_what_is_there_and_by_nothing_else(yard, pasted):
    assert yard.critic(replace(pasted, images=pasted.before)) == pytest.approx(0.5, abs=0.12)
    assert yard.critic(yard.samples(Painted(2.0, noise=True), 0, novelty=NOVELTY, bare=False)) > 0.9


def test_only_a_generator_that_hears_its_latent_is_diverse(yard):
    assert yard.diversity(Painted(0.0), 0, NOVELTY) == pytest.approx(0, abs=1e-4)
    assert yard.diversity(Painted(0.5), 0, NOVELTY) > 0.3


def test_a_box_beside_its_object_overlaps_little(yard):
    made = yard.samples(None, 0, novelty=0.0, bare=True)
    beside = replace(made, boxes=(made.boxes + 0.25).clamp(0, 1))
    assert yard.overlap(made) > 0.65 > 0.4 > yard.overlap(beside)


def test_a_place_matters_where_grounds_differ(yard):
    """The same objects in places that are darker or lighter than their own show their edges."""
    made = yard.samples(Painted(0.0), 0, novelty=NOVELTY, bare=True)
    light = torch.linspace(-0.5, 0.5, len(made.images))[torch.randperm(len(made.images), generator=torch.Generator().manual_seed(0))][:, None, None, None]
    lit = replace(made, images=made.images + light, before=made.before + light)
    assert yard.context(lit) < 0.5 < yard.context(made) < 1.5


@pytest.mark.parametrize("novelty", [0.6, 1.0])
def test_a_silent_generator_leaves_filled_what_is_cut_away_and_the_exemplar_as_it_is(yard, novelty):
    scene, _ = yard.one_scene(0, novelty, 0)
    assert bool((scene.validity_B1RR < scene.mask_B1RR).any())
    left = complete(Silent(NETWORKS["tiny"]), scene, torch.randn(1, 64))
    assert torch.equal(left, composite(scene.image_B3RR, scene.base(), torch.zeros(()), scene.soft_B1RR))


def test_fewer_objects_are_part_of_more():
    pack = Pack("discs", discs(24, seed=0), [], [], {0: "blue", 1: "red"})
    small, large = few(pack, 3), few(pack, 5)
    assert [sum(i.label == c for i in small.train) for c in (0, 1)] == [3, 3]
    assert {id(i) for i in small.train} < {id(i) for i in large.train}


def test_the_table_of_few_objects_has_a_line_for_each_arm_and_leaves_open_what_a_pack_has_not():
    values = {"kid": 0.5, "coverage": 0.4, "copies": 0.0, "consistency": 0.7}
    found = {("bccd", 5, "copy_paste", "0"): values, ("bccd", 10, "copy_paste", "0"): {**values, "kid": 0.25}, ("nuclei", 10, "finetuned", "0.5"): values}
    assert tables(found) == [
        "| pack | arm | novelty | at 5 | 10 |", "| --- | --- | --- | --- | --- |",
        "| bccd | copy-paste | – | 0.50 | 0.25 |", "| nuclei | fine-tuned | 0.5 |  | 0.50 |", "",
        "| pack | arm | novelty | at 5 | 10 |", "| --- | --- | --- | --- | --- |",
        "| bccd | copy-paste | – | 0.40 / 0.00 / 0.70 | 0.40 / 0.00 / 0.70 |", "| nuclei | fine-tuned | 0.5 |  | 0.40 / 0.00 / 0.70 |",
    ]  # fmt: skip
