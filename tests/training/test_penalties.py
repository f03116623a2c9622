"""Penalties: nothing for the original, something for the pattern they are made against, and a way down."""

import math

import pytest
import torch

from bidiffsr_cli.training import penalties

SIDE = 64


@pytest.fixture(scope="module")
def originals(pictures):
    """Eight crops of photos, 8×3×64×64."""
    crops = []
    for item in pictures.pictures[:3]:
        first = item.offset // 3
        whole = pictures.pixels[first : first + item.height * item.width].view(item.height, item.width, 3)
        crops += [
            whole[top : top + SIDE, left : left + SIDE].permute(2, 0, 1) / 255
            for top, left in ((0, 0), (9, 33), (30, 50))
        ]
    return torch.stack(crops[:8])


def wave(period, *, down=False):
    """±1 along one direction, 64×64."""
    line = torch.cos(2 * math.pi * torch.arange(SIDE) / period)
    return line[:, None].expand(SIDE, SIDE) if down else line.expand(SIDE, SIDE)


@pytest.mark.parametrize("period", [8, 4, 8 / 3, 2])
@pytest.mark.parametrize("down", [False, True])
def test_comb_sees_lines_of_its_periods_alone(originals, period, down):
    natural = penalties.spectrum(originals)
    assert float(penalties.comb(natural, natural)) == 0
    combed = penalties.spectrum(originals + 0.02 * wave(period, down=down))
    at = torch.arange(SIDE)
    oblique = torch.cos(2 * math.pi * (at[:, None] + at) / period)
    off = penalties.spectrum(originals + 0.02 * oblique)
    assert float(penalties.comb(combed, natural)) > 0.3 > 4 * float(penalties.comb(off, natural))


def test_cross_sees_more_power_near_the_axes(originals):
    natural = penalties.spectrum(originals)
    assert float(penalties.cross(natural, natural)) == 0
    noise = torch.randn(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    lines = noise[..., :1].expand_as(noise) + noise[..., :1, :].expand_as(noise)
    linen, grain = (penalties.spectrum(originals + 0.02 * x) for x in (lines, noise))
    assert float(penalties.cross(linen, natural)) > 3 * float(penalties.cross(grain, natural)) > 0


def test_weave_sees_what_repeats_every_eight_pixels_where_it_is_flat():
    flat, pattern = torch.full((8, 3, SIDE, SIDE), 0.4), torch.randn(8, 8).repeat(8, 8)
    pattern -= pattern.mean()
    error = 0.1 * pattern.expand(8, 3, SIDE, SIDE)
    expected = float(error.square().mean())
    assert float(penalties.weave(error, flat)) == pytest.approx(expected, rel=1e-3)
    assert float(penalties.weave(error + 0.3, flat)) == pytest.approx(expected, rel=1e-3)  # an offset is none
    assert float(penalties.weave(error, torch.rand(8, 3, SIDE, SIDE))) == 0  # nothing is flat
    half = flat.clone()
    half[..., 32:] = torch.rand(8, 3, SIDE, 32)
    elsewhere = error.clone()
    elsewhere[..., 32:] = 5.0
    assert float(penalties.weave(elsewhere, half)) == pytest.approx(expected, rel=1e-3)
    noise = 0.1 * torch.randn(8, 3, SIDE, SIDE)
    assert float(penalties.weave(noise, flat)) < 0.02 * float(noise.square().mean())


def test_few_flat_blocks_tell_nothing():
    originals = torch.rand(1, 3, SIDE, SIDE)
    originals[..., :32, :32] = 0.5
    assert float(penalties.weave(torch.ones(8, 8).repeat(8, 8).expand(1, 3, SIDE, SIDE), originals)) == 0


@pytest.mark.parametrize("penalty", [penalties.comb, penalties.cross])
def test_there_is_a_way_down(originals, penalty):
    natural = penalties.spectrum(originals)
    ours = (originals + 0.03 * wave(4)).requires_grad_()
    losses = []
    for _ in range(5):
        loss = penalty(penalties.spectrum(ours), natural)
        (gradient,) = torch.autograd.grad(loss, ours)
        assert gradient.isfinite().all()
        losses.append(loss.item())
        ours = (ours - 0.002 * gradient / gradient.abs().max()).detach().requires_grad_()
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_groups_are_of_eight_whatever_the_batch(originals):
    natural = penalties.spectrum(originals)
    for penalty in (penalties.comb, penalties.cross):
        combed = penalties.spectrum(originals + 0.02 * wave(4))
        one = float(penalty(combed, natural))
        twice = penalty(torch.cat([combed, natural]), torch.cat([natural, natural]))
        assert float(twice) == pytest.approx(one / 2, rel=1e-4)
        some = penalty(torch.cat([natural, combed[:2]]), torch.cat([natural, natural[:2]]))
        assert float(some) == pytest.approx(float(penalty(combed[:2], natural[:2])) * 2 / 10, rel=1e-4)
    flat, error = torch.full((10, 3, SIDE, SIDE), 0.4), torch.randn(8, 8).repeat(8, 8).expand(10, 3, SIDE, SIDE)
    error = error - error.mean()
    expected = 8 / 10 * float(error[:8].square().mean())  # two crops have 128 flat blocks, which are enough
    assert float(penalties.weave(error * (torch.arange(10) < 8).view(-1, 1, 1, 1), flat)) == pytest.approx(expected)


def test_black_and_white_have_a_spectrum():
    for value in (0.0, 1.0):
        flat = torch.full((2, 3, SIDE, SIDE), value, requires_grad=True)
        power = penalties.spectrum(flat)
        loss = penalties.comb(power, power.detach() + 1) + penalties.cross(power, power.detach() + 1)
        (gradient,) = torch.autograd.grad(loss, flat)
        assert gradient.isfinite().all()
