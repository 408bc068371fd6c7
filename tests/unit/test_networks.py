"""What each network computes at each of its sizes, what growing leaves alone, and what each option adds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from longtail.errors import InvalidRequest
from longtail.recipes import NETWORKS, NetworkConfig
from trainers.architectures import build_discriminator, build_generator
from trainers.networks import Encoder, grow, spread

SMALL = NetworkConfig(resolution_px=32, smallest_px=8, widths=(8, 12, 16, 16), latent=8, style=16)
LABELS = torch.tensor([0, 1, 1])


def critic_inputs(size):
    return torch.rand(3, 3, size, size), torch.rand(3, 1, size, size), torch.rand(3, 1, size, size), LABELS, torch.ones(())


@pytest.mark.parametrize("size", [8, 16, 32])
def test_every_network_runs_at_every_size_of_its_pyramid(size):
    out = build_generator(SMALL, num_classes=2)(torch.rand(3, 9, size, size), torch.randn(3, 8), LABELS)
    assert out.shape == (3, 3, size, size)
    assert build_discriminator(SMALL, num_classes=2)(*critic_inputs(size)).shape == (3,)
    mean, log_variance = Encoder(SMALL)(torch.rand(3, 3, size, size), torch.rand(3, 1, size, size))
    assert mean.shape == log_variance.shape == (3, 8)


def test_growing_leaves_the_critic_and_the_encoder_as_they_were_on_the_reduced_image():
    critic, encoder = build_discriminator(SMALL, num_classes=2), Encoder(SMALL)
    big = critic_inputs(16)
    small = [F.avg_pool2d(x, 2) for x in big[:3]]
    before = critic(*small, LABELS, torch.ones(())), encoder(small[0], small[1])
    for network in (critic, encoder):
        grow(network, to_level=1)
    weight = [F.adaptive_avg_pool2d(x[1], 4) for x in (big, small)]
    assert torch.allclose(*weight, atol=1e-6)  # the crop head looks where the box is, at either size
    assert torch.allclose(critic(*big), before[0], atol=1e-5)
    assert torch.allclose(encoder(big[0], big[1])[0], before[1][0], atol=1e-5)


class Mapless(nn.Module):
    """A critic's trunk that is told the image alone."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, x):
        return self.trunk(torch.cat([x[:, :3], torch.zeros_like(x[:, 3:])], 1))


def test_the_crop_head_looks_into_the_box():
    """What changes in the box moves its logit many times as much as the same change elsewhere."""
    torch.manual_seed(0)
    critic = build_discriminator(SMALL, num_classes=2)
    critic.trunk = Mapless(critic.trunk)
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[:, :, :8, :8] += torch.randn(3, 8, 8)

    def moved(there):
        box = torch.zeros(1, 1, 32, 32)
        box[:, :, there, there] = 1
        one, other = (critic(x, box, box, LABELS[:1], torch.ones(())) for x in (image, changed))
        return float((one - other).detach().abs())

    with torch.no_grad():
        critic.whole.weight.zero_()  # the crop's own logit and the projection of its features are left
    assert moved(slice(0, 8)) > 10 * moved(slice(24, 32))


def test_the_class_counts_as_far_as_its_projection_has_faded_in():
    critic = build_discriminator(SMALL, num_classes=2)
    image, box, mask, _, _ = critic_inputs(32)
    logits = [[critic(image, box, mask, torch.full((3,), label), torch.tensor(fade)) for label in (0, 1)] for fade in (0.0, 0.5, 1.0)]
    none, half, whole = (a - b for a, b in logits)
    assert none.abs().max() == 0 and whole.abs().min() > 0
    assert torch.allclose(half, whole / 2, atol=1e-5)


def test_growing_leaves_the_generator_as_it_was_but_for_the_size():
    generator = build_generator(SMALL, num_classes=2)
    inputs, latent = torch.rand(3, 9, 32, 32), torch.randn(3, 8)
    small = generator(F.avg_pool2d(inputs, 2), latent, LABELS)
    ungrown = generator(inputs, latent, LABELS)
    grow(generator, to_level=0)
    before_bound = 2 * torch.atanh(small / 2)
    expected = 2 * torch.tanh(F.interpolate(before_bound, scale_factor=2, mode="bilinear", align_corners=False) / 2)
    assert torch.allclose(generator(inputs, latent, LABELS), expected, atol=1e-4)
    assert not torch.allclose(ungrown, expected, atol=1e-2)


def test_a_grown_level_learns():
    generator = build_generator(SMALL, num_classes=2)
    grow(generator, to_level=0)
    generator(torch.rand(3, 9, 32, 32), torch.randn(3, 8), LABELS).square().sum().backward()
    assert generator.trunk.stems[0].weight.grad is not None
    assert generator.tails[0].last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("architecture", ["comodulated", "dcgan"])
def test_class_and_latent_change_the_image(architecture):
    torch.manual_seed(0)
    generator = build_generator(replace(SMALL, architecture=architecture, smallest_px=32), num_classes=2).eval()
    inputs, latent = torch.rand(1, 9, 32, 32), torch.randn(1, 8)
    one = generator(inputs, latent, torch.tensor([0]))
    assert not torch.allclose(one, generator(inputs, latent, torch.tensor([1])), rtol=0, atol=1e-5)
    assert not torch.allclose(one, generator(inputs, torch.randn(1, 8), torch.tensor([0])), rtol=0, atol=1e-5)


def test_the_plain_baseline_does_not_look_at_its_context():
    generator = build_generator(replace(SMALL, architecture="dcgan", smallest_px=32), num_classes=2).eval()
    inputs, latent = torch.rand(1, 9, 32, 32), torch.randn(1, 8)
    elsewhere = inputs.clone()
    elsewhere[:, :5] = 0
    assert torch.equal(generator(inputs, latent, LABELS[:1]), generator(elsewhere, latent, LABELS[:1]))


def test_spectral_normalisation_bounds_every_layer():
    critic = build_discriminator(replace(SMALL, spectral_norm=True), num_classes=2)
    for _ in range(30):  # each pass is a step of the power iteration
        critic(*critic_inputs(32))
    weights = [m.weight.flatten(1) for m in critic.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weights) > 8
    norms = torch.stack([torch.linalg.matrix_norm(w.detach(), 2) for w in weights])
    assert norms.isfinite().all()
    assert norms.max() < 1.1


def test_minibatch_deviation_by_hand():
    """Two images of 1 and 3 in each of four features: deviation 1; two equal ones: 0."""
    apart = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 4, 1, 1)
    assert torch.allclose(spread(apart), torch.ones(2, 1), atol=1e-3)
    assert spread(torch.ones(2, 4, 1, 1)).abs().max() < 1e-3


def test_the_critic_sees_how_alike_its_batch_is_only_when_asked():
    for asked in (False, True):
        torch.manual_seed(0)
        critic = build_discriminator(replace(SMALL, minibatch_std=asked), num_classes=2)
        torch.nn.init.ones_(critic.whole.weight)
        image, box, mask, _, fade = critic_inputs(32)
        alone = critic(image[:1], box[:1], mask[:1], LABELS[:1], fade)
        together = critic(image, box, mask, LABELS, fade)[:1]
        assert torch.allclose(alone, together, atol=1e-5) is not asked


def gmac(network, *inputs):
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(("preset", "floor"), [("base", 2.0), ("large", 8.0)])
def test_large_presets_are_as_large_as_they_say(preset, floor):
    config = NETWORKS[preset]
    size = config.resolution_px
    with torch.device("meta"):
        generator, critic = build_generator(config, num_classes=3), build_discriminator(config, num_classes=3)
        label, one = torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, size, size)
        assert gmac(generator, torch.zeros(1, 9, size, size), torch.zeros(1, config.latent), label) >= floor
        assert gmac(critic, torch.zeros(1, 3, size, size), one, one, label, torch.ones(())) >= floor
    if preset == "large":
        assert sum(p.numel() for p in generator.parameters()) >= 25e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution_px": 48, "smallest_px": 48, "widths": (8,) * 6}, "halve 48 px"),
        ({"smallest_px": 24}, "smallest_px 24"),
        ({"smallest_px": 4}, "two levels left"),
        ({"critic_widths": (8,)}, "equally high"),
    ],
    ids=["too_many_levels", "no_power_of_two", "deeper_than_the_pyramid", "uneven"],
)
def test_a_network_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(InvalidRequest, match=message):
        replace(SMALL, **change)
