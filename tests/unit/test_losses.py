"""Losses against values worked by hand, and their gradients against differences."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.losses import gradient_penalty, kl_to_prior, masked_l1, relativistic_loss, ring_loss


def test_relativistic_loss_of_equal_logits_is_ln_two():
    assert relativistic_loss(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(math.log(2))


def test_relativistic_loss_by_hand():
    """softplus(1 - 3) = ln(1 + e^-2) = 0.126928."""
    assert relativistic_loss(torch.tensor([3.0]), torch.tensor([1.0])).item() == pytest.approx(0.126928, abs=1e-6)


def test_relativistic_loss_gradient():
    real, fake = torch.randn(5, dtype=torch.double, requires_grad=True), torch.randn(5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(relativistic_loss, (real, fake))


def test_penalty_of_a_linear_critic_is_its_squared_weight():
    """logit = 2 x the sum over 3x2x2 pixels: gradient 2 in each of 12, squared norm 48."""
    image = torch.rand(3, 3, 2, 2, requires_grad=True)
    assert gradient_penalty(2 * image.sum((1, 2, 3)), image).item() == pytest.approx(48.0)


def test_penalty_reaches_the_critic_weights():
    weight = torch.tensor(2.0, requires_grad=True)
    image = torch.rand(2, 3, 2, 2, requires_grad=True)
    gradient_penalty(weight * image.sum((1, 2, 3)), image).backward()
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(2 * 2 * 12)


def test_masked_l1_ignores_what_is_outside():
    """Error 0.5 in the one masked pixel of each channel, 9 elsewhere."""
    image, target, mask = torch.full((1, 3, 2, 2), 9.0), torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2)
    image[..., 0, 0], mask[..., 0, 0] = 0.5, 1
    assert masked_l1(image, target, mask).item() == pytest.approx(0.5)


def test_kl_of_the_prior_is_zero_and_of_a_shifted_one_half_a_square():
    zero = torch.zeros(2, 4)
    assert kl_to_prior(zero, zero).item() == 0
    assert kl_to_prior(zero + 1, zero).item() == pytest.approx(0.5 * 4)


def test_ring_loss_sees_a_jump_at_the_edge_and_not_its_absence():
    context, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    assert ring_loss(context, context, mask).item() == pytest.approx(0, abs=1e-6)
    assert ring_loss(context + mask, context, mask).item() == pytest.approx(1, abs=1e-3)
