"""Losses against values worked by hand, and their gradients against differences."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.losses import discriminator_loss, generator_loss, kl_to_prior, masked_l1, penalised, relativistic_loss, ring_loss


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
    image = torch.rand(3, 3, 2, 2)
    logits, norms = penalised(lambda x: 2 * x.sum((1, 2, 3)), image)
    assert torch.allclose(logits, 2 * image.sum((1, 2, 3)))
    assert norms.tolist() == pytest.approx([48.0] * 3)


def test_penalty_reaches_the_critic_weights():
    """norm = 12 w^2, so its slope in w is 24 w = 48 an image; the logits' own slopes come along."""
    weight = torch.tensor(2.0, requires_grad=True)
    image = torch.rand(2, 3, 2, 2)
    logits, norms = penalised(lambda x: weight * x.sum((1, 2, 3)), image)
    (slope,) = torch.autograd.grad(norms.sum(), weight, retain_graph=True)
    assert slope.item() == pytest.approx(2 * 48)
    (slope,) = torch.autograd.grad(logits.sum(), weight)
    assert slope.item() == pytest.approx(image.sum().item())


def test_the_penalty_is_what_autograd_says_it_is():
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.Linear(64, 1)).double()
    image = torch.rand(5, 3, 6, 6, dtype=torch.double, requires_grad=True)
    _, norms = penalised(lambda x: critic(x)[:, 0], image)
    (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    assert torch.allclose(norms, gradient.square().sum((1, 2, 3)).to(norms))
    mine = torch.autograd.grad(norms.mean(), list(critic.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(gradient.square().sum((1, 2, 3)).mean(), list(critic.parameters()), allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_hinge_by_hand():
    """real 0.5 falls short by 0.5, fake 0.25 is 1.25 too high: 1.75; the generator wants its mean logit up."""
    real, fake = torch.tensor([0.5]), torch.tensor([0.25])
    assert discriminator_loss("hinge", real, fake).item() == pytest.approx(1.75)
    assert generator_loss("hinge", real, fake).item() == pytest.approx(-0.25)


def test_logistic_by_hand():
    """softplus(-2) + softplus(-1) = 0.126928 + 0.313262; the generator's softplus(1) = 1.313262."""
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    assert discriminator_loss("non_saturating", real, fake).item() == pytest.approx(0.440190, abs=1e-6)
    assert generator_loss("non_saturating", real, fake).item() == pytest.approx(1.313262, abs=1e-6)


@pytest.mark.parametrize("kind", ["relativistic", "hinge", "non_saturating"])
def test_gradients_of_the_objectives_are_those_of_differences(kind):
    torch.manual_seed(1)
    real, fake = torch.randn(5, dtype=torch.double, requires_grad=True), torch.randn(5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, f: discriminator_loss(kind, r, f), (real, fake))
    assert torch.autograd.gradcheck(lambda r, f: generator_loss(kind, r, f), (real, fake))


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
