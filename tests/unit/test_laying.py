"""How an exemplar is laid into a box: masks, warps, bends, mixtures, and what novelty leaves of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from longtail.samples import INVENTS_FROM
from trainers.compose import Warp, base_image, beneath, box_map, composite, fade, ground_color, mask_map, mix, warp_exemplar

ONE_BOX = torch.tensor([[0.25, 0.25, 0.75, 0.75]])


def test_context_outside_the_soft_mask_is_bit_exact():
    image = torch.rand(1, 3, 32, 32)
    mask, soft = mask_map(ONE_BOX, 32, 32)
    out = composite(image, torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), soft)
    outside = (mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(out[outside], image[outside])
    assert not torch.equal(out, image)


def test_the_mask_covers_the_middle_of_every_side_of_its_box():
    mask, _ = mask_map(ONE_BOX, 64, 64)
    assert mask[0, 0, 32, 16] == mask[0, 0, 32, 47] == mask[0, 0, 16, 32] == mask[0, 0, 47, 32] == 1
    assert mask[0, 0, 0, 0] == 0


def test_an_unwarped_exemplar_with_the_same_box_is_itself():
    image = torch.rand(1, 3, 32, 32)
    laid = warp_exemplar(image, ONE_BOX, ONE_BOX, Warp.identity(1), 32, 32)
    assert torch.allclose(laid, image, atol=1e-5)


def test_a_flip_mirrors_about_the_box_centre():
    image = torch.rand(1, 3, 32, 32)
    warp = replace(Warp.identity(1), flip=torch.ones(1))
    laid = warp_exemplar(image, ONE_BOX, ONE_BOX, warp, 32, 32)
    assert torch.allclose(laid, image.flip(3), atol=1e-5)


def test_a_bend_moves_points_a_little_and_the_box_stays_true():
    """A dark square on a light ground: bent, it is another shape, within 8 % of a side of its box."""
    image = torch.ones(8, 3, 64, 64)
    image[:, :, 16:48, 16:48] = 0
    boxes = ONE_BOX.repeat(8, 1)
    bent = replace(Warp.identity(8), bend=Warp.draw(8, torch.Generator().manual_seed(0)).bend)
    laid = warp_exemplar(image, boxes, boxes, bent, 64, 64)
    dark = laid[:, 0] < 0.5
    assert not torch.equal(dark, image[:, 0] < 0.5)
    for one in dark:
        rows, columns = torch.nonzero(one.any(1))[:, 0], torch.nonzero(one.any(0))[:, 0]
        edges = torch.stack([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
        assert (edges - torch.tensor([16, 48, 16, 48])).abs().max() <= 0.08 * 32 + 1


def test_a_mixture_has_parts_of_both_and_little_between():
    black, white = torch.zeros(4, 3, 64, 64), torch.ones(4, 3, 64, 64)
    mixed = mix(black, white, torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0)), ONE_BOX.repeat(4, 1))
    inside = mixed[:, :, 16:48, 16:48]
    for one in inside:
        assert float((one < 0.2).float().mean()) > 0.1
        assert float((one > 0.8).float().mean()) > 0.1
    assert float(((inside > 0.2) & (inside < 0.8)).float().mean()) < 0.5


def test_a_bend_is_the_same_at_every_resolution():
    image = F.interpolate(torch.rand(1, 3, 6, 6), size=(128, 128), mode="bilinear")
    warp = Warp.draw(1, torch.Generator().manual_seed(3))
    full = warp_exemplar(image, ONE_BOX, ONE_BOX, warp, 128, 128)
    small = warp_exemplar(F.avg_pool2d(image, 2), ONE_BOX, ONE_BOX, warp, 64, 64)
    assert (F.avg_pool2d(full, 2) - small).abs().mean() < 0.01


def test_novelty_zero_keeps_and_one_cuts_every_pixel():
    noise = torch.rand(2, 1, 8, 8)
    for kept in (0.0, INVENTS_FROM):
        assert fade(torch.full((2,), kept), noise, 32, 32).min() == 1
    assert fade(torch.ones(2), noise, 32, 32).max() == 0


def test_more_novelty_leaves_less_of_the_exemplar():
    noise = torch.rand(8, 1, 8, 8)
    kept = [float(fade(torch.full((8,), n), noise, 32, 32).mean()) for n in (0.25, 0.35, 0.5, 0.7, 0.9)]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == 5


def test_ground_color_is_not_tinted_by_a_neighbour_that_crosses_the_ring():
    image = torch.full((1, 3, 64, 64), 0.5)
    image[:, :, :, 50:] = -1.0
    assert torch.allclose(ground_color(image, ONE_BOX, inner=1.2, outer=1.6), torch.full((1, 3, 1, 1), 0.5))


def painted(color: list[float], size: int = 64) -> torch.Tensor:
    return torch.tensor(color)[None, :, None, None].expand(1, 3, size, size).contiguous()


def based(exemplar: torch.Tensor, validity: torch.Tensor, label: torch.Tensor, ground: float) -> torch.Tensor:
    return base_image(exemplar, validity, beneath(exemplar, validity, label, torch.full((1, 3, 1, 1), ground)))


def test_what_is_cut_out_of_an_exemplar_begins_as_what_is_about_it():
    """Where the base was the ground's colour, a cut in a dark cell was a bright spot that the generator had to paint over."""
    dark = painted([-0.8, -0.6, 0.1])
    validity = torch.ones(1, 1, 64, 64)
    validity[:, :, 28:36, 26:38] = 0
    assert torch.allclose(based(dark, validity, box_map(ONE_BOX, 64, 64), 0.7), dark, atol=1e-5)


def test_beyond_the_label_what_is_not_the_exemplar_is_ground_and_between_the_two_lie_both():
    validity, label = torch.zeros(1, 1, 64, 64), box_map(ONE_BOX, 64, 64)
    validity[:, :, 16:48, 16:32] = 1  # the left half of the object
    base = based(painted([-0.8] * 3), validity, label, 0.7)[0, 0]
    assert torch.allclose(base[label[0, 0] == 0], torch.tensor(0.7), atol=1e-5)
    assert torch.allclose(base[16:48, 16:32], torch.tensor(-0.8))
    assert -0.8 < base[32, 34] < base[32, 40] < base[32, 46] < 0.7


def test_an_exemplar_counts_as_far_as_it_is_valid_and_no_further():
    """In the soft edge beyond an outline it is half itself and half its new ground."""
    half, label = torch.full((1, 1, 64, 64), 0.5), torch.zeros(1, 1, 64, 64)
    assert torch.allclose(based(painted([-1.0] * 3), half, label, 1.0), torch.tensor(0.0), atol=1e-5)
    lone = torch.zeros(1, 1, 64, 64)
    lone[:, :, 32, 32] = 0.5  # a dark pixel, half valid, in a bright object
    lone[:, :, :, :31] = 1
    exemplar = painted([1.0] * 3)
    exemplar[:, :, 32, 32] = -1
    assert 0.2 > based(exemplar, lone, torch.ones(1, 1, 64, 64), 0.0)[0, 0, 32, 32] > -0.6


def test_an_object_that_is_wholly_invented_begins_as_its_ground_and_a_whole_image_as_gray():
    nothing, label = torch.zeros(1, 1, 64, 64), box_map(ONE_BOX, 64, 64)
    for ground in (0.7, 0.0):
        base = based(painted([-0.8] * 3), nothing, label, ground)
        assert torch.allclose(base, torch.full_like(base, ground), atol=1e-6)


def test_a_whole_image_is_filled_from_what_is_left_of_it_without_gray():
    validity, image = torch.ones(1, 1, 64, 64), painted([0.9, 0.8, 0.7])
    validity[:, :, 10:30, 40:60] = 0
    assert torch.allclose(based(image, validity, torch.ones(1, 1, 64, 64), 0.0), image, atol=1e-5)


def test_a_cut_between_two_colours_goes_from_one_to_the_other():
    colors, known = painted([0.0] * 3), torch.ones(1, 1, 64, 64)
    colors[..., :32], colors[..., 32:] = -1, 1
    known[..., 16:48] = 0
    row = beneath(colors, known, torch.ones(1, 1, 64, 64), torch.zeros(1, 3, 1, 1))[0, 0, 32]
    assert abs(row[31] + row[32]) < 0.1
    assert (row[16:48].diff() > -1e-5).all()
    assert row[16] < -0.7
    assert row[47] > 0.7
