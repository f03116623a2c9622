"""up(LR), its detail, and windows of both."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import psnr
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from test_configs import RESIDUAL

from bidiffsr_cli.configs import DiffusionConfig
from bidiffsr_cli.diffusion.conditioning import condition, match_low_frequencies
from bidiffsr_cli.diffusion.detail import noise_gain, raise_diagonals, residual_gain
from bidiffsr_cli.diffusion.upsampling import Enlarged, upsample_crops


def seen_by(compute, up, *window):
    """What `condition`, `noise_gain` or `residual_gain` makes of a window."""
    return compute(up.around(*window), up.scale, up.config)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("picture", ["kodak1", "kodak11"])
def test_up_and_detail_are_the_recorded_ones(golden, picture, scale):
    with safe_open(golden / "residual_v_cases.safetensors", "pt") as cases:
        low_res, up, detail = (
            cases.get_tensor(f"{picture}_x{scale}_steps1.{name}") for name in ("low_res", "up", "detail")
        )
    ours = upsample_crops(low_res.permute(2, 0, 1)[None] / 255, scale, RESIDUAL, None)[0]
    torch.testing.assert_close(ours, up[0], rtol=0, atol=1e-6)
    whole = Enlarged(low_res.permute(2, 0, 1) / 255, scale, *ours.shape[1:], RESIDUAL)
    seen = seen_by(condition, whole, 0, 0, *ours.shape[1:])
    torch.testing.assert_close(seen[:3], 2 * up[0] - 1, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[3:], detail[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("window", [(0, 0, 16, 24), (5, 7, 20, 20), (48, 40, 16, 24), (0, 0, 64, 64), (63, 63, 1, 1)])
def test_a_window_sees_what_the_whole_picture_has_there(window, scale):
    config = dataclasses.replace(RESIDUAL, residual_scale={"2": 0.04, "3": 0.05, "4": 0.07})
    up = Enlarged(torch.rand(3, -(-64 // scale), -(-64 // scale)), scale, 64, 64, config)
    top, left, height, width = window
    whole = upsample_crops(up.low_res[None], scale, config, None)[0][:, :64, :64]
    torch.testing.assert_close(up.crop(*window), whole[:, top : top + height, left : left + width], rtol=0, atol=5e-6)
    part = seen_by(condition, up, *window)
    everything = seen_by(condition, up, 0, 0, 64, 64)
    torch.testing.assert_close(part, everything[:, top : top + height, left : left + width], rtol=0, atol=1e-4)


def test_a_flat_picture_has_no_detail():
    seen = seen_by(condition, Enlarged(torch.full((3, 3, 3), 0.7), 4, 12, 12, RESIDUAL), 0, 0, 12, 12)
    assert seen[3:].abs().max() < 1e-4


BY_DETAIL = dataclasses.replace(RESIDUAL, noise_by_detail=0.03, residual_by_detail=0.004)


@pytest.mark.parametrize("scale", [2, 4])
def test_noise_and_residual_go_by_what_is_around_a_pixel(scale):
    low_res = 0.5 + 0.005 * torch.randn(3, 24, 24)
    low_res[:, 14:, 14:] = 0.3
    size, radius = 24 * scale, 2 * scale
    up = Enlarged(low_res, scale, size, size, BY_DETAIL)

    def squares(x):
        return x.unfold(0, 2 * radius + 1, 1).unfold(1, 2 * radius + 1, 1).flatten(-2)

    grey = up.crop(-radius, -radius, size + 2 * radius, size + 2 * radius).double().mean(0)
    noise, residual = seen_by(noise_gain, up, 0, 0, size, size), seen_by(residual_gain, up, 0, 0, size, size)
    expected = (squares(grey).std(-1, correction=0) / 0.03).clamp(max=1).sqrt().float()
    torch.testing.assert_close(noise[0], expected, rtol=0, atol=2e-4)
    detail = seen_by(condition, up, -radius, -radius, size + 2 * radius, size + 2 * radius)[3:]
    rms = squares((detail * RESIDUAL.residual_scale[str(scale)]).square().mean(0)).mean(-1).sqrt()
    torch.testing.assert_close(residual[0], (rms / 0.004).clamp(max=1), rtol=0, atol=2e-3)
    assert noise.max() == residual.max() == 1 and max(noise[0, -3:, -3:].max(), residual[0, -3:, -3:].max()) < 1e-3
    for window in ((0, 0, 16, 32), (8, 24, 24, 16), (size - 8, 0, 8, size)):
        top, left, height, width = window
        for gain, whole in ((noise_gain, noise), (residual_gain, residual)):
            part = whole[:, top : top + height, left : left + width]
            torch.testing.assert_close(seen_by(gain, up, *window), part, rtol=0, atol=2e-3)


@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1, 0, 0), (0.1, 0.7, 0.9)])
@pytest.mark.parametrize("scale", [2, 4])
def test_nothing_is_drawn_where_it_is_flat(colour, scale):
    low_res = torch.tensor(colour, dtype=torch.float32).view(3, 1, 1).expand(3, 9, 9).contiguous()
    up = Enlarged(low_res, scale, 9 * scale, 9 * scale, BY_DETAIL)
    everywhere = 0, 0, 9 * scale, 9 * scale
    assert seen_by(noise_gain, up, *everywhere).max() < 5e-3 and seen_by(residual_gain, up, *everywhere).max() < 1e-3


@pytest.mark.parametrize("scale", [2, 4])
def test_little_is_added_to_an_even_gradient(scale):
    """What the bicubic's ripple and the rounding to levels make of detail."""
    exact = torch.arange(40) * 1.7
    for rows, most in ((exact, 0.1), (exact.round(), 0.25)):
        low_res = (rows / 255).view(1, 40, 1).repeat(3, 1, 40)
        up = Enlarged(low_res, scale, 40 * scale, 40 * scale, BY_DETAIL)
        inside = 6 * scale, 0, 28 * scale, 40 * scale  # beyond an edge it is repeated, which is no gradient
        assert seen_by(residual_gain, up, *inside).max() < most < 0.5 < seen_by(noise_gain, up, *inside).min()


def test_colours_of_one_brightness_are_detail():
    low_res = torch.tensor([1.0, 0.0, 0.5]).view(3, 1, 1).repeat(1, 16, 16)
    low_res[:, :, 8:] = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1)
    assert float(low_res.mean(0).std()) == 0
    assert seen_by(residual_gain, Enlarged(low_res, 2, 32, 32, BY_DETAIL), 0, 14, 32, 4).min() == 1


@given(st.floats(0, math.pi), st.floats(0, math.pi))
def test_diagonals_are_raised_and_axes_stay(u, v):
    config = dataclasses.replace(RESIDUAL, diagonal_gain={"2": 0.03})
    down, across = (torch.cos(frequency * torch.arange(20.0)) for frequency in (u, v))
    wave = down[:, None] * across
    raised = raise_diagonals(wave, 2, config)
    gain = 1 + 4 * 0.03 * (1 - math.cos(u)) * (1 - math.cos(v))
    torch.testing.assert_close(raised[1:-1, 1:-1], gain * wave[1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    for constant in (down[:, None].expand(20, 20), across.expand(20, 20)):
        torch.testing.assert_close(raise_diagonals(constant, 2, config), constant)
    assert raise_diagonals(wave, 4, config) is wave


def test_clipping_is_the_configs_choice():
    edge = torch.zeros(3, 8, 8)
    edge[..., 4:] = 1
    assert upsample_crops(edge[None], 2, RESIDUAL, None)[0].amin() == 0
    assert upsample_crops(edge[None], 2, DiffusionConfig(), None)[0].amin() < 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 15), st.integers(0, 15), st.sampled_from([2, 4]))
def test_beyond_the_picture_the_canvas_is_mirrored_for_upstream_and_repeated_else(h, w, bottom, right, scale):
    low_res = torch.rand(3, h, w)
    size = scale * h + bottom, scale * w + right
    for config in (DiffusionConfig(), RESIDUAL):
        up = upsample_crops(low_res[None], scale, config, None)[0]
        mirror = config is not RESIDUAL and bottom < up.shape[1] and right < up.shape[2]
        expected = F.pad(up[None], (0, right, 0, bottom), mode="reflect" if mirror else "replicate")[0]
        crop = Enlarged(low_res, scale, *size, config).crop(0, 0, *size)
        torch.testing.assert_close(crop, expected, rtol=0, atol=1e-6)


def test_beyond_the_canvas_its_edge_is_repeated():
    up = Enlarged(torch.rand(3, 5, 5), 2, 16, 16, RESIDUAL)
    whole = F.pad(up.crop(0, 0, 16, 16)[None], (4, 4, 4, 4), mode="replicate")[0]
    torch.testing.assert_close(up.crop(-4, -4, 24, 24), whole, rtol=0, atol=1e-6)


def test_low_frequencies_are_matched_and_the_rest_is_kept():
    torch.manual_seed(1)
    low_res = torch.rand(3, 16, 16) * 0.5 + 0.2
    true = upsample_crops(low_res[None], 4, dataclasses.replace(RESIDUAL), None)[0]
    drifted = (true + torch.tensor([0.06, -0.04, 0.02]).view(3, 1, 1)).clamp(0, 1)
    fixed = match_low_frequencies(drifted.clone(), low_res)
    assert psnr(fixed, true) > psnr(drifted, true) + 15
    assert float((fixed - true).mean().abs()) < 1e-3
