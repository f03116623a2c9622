"""up(LR), its detail, and windows of both."""

import dataclasses

import pytest
import torch
from conftest import psnr
from safetensors import safe_open
from test_configs import RESIDUAL

from bidiffsr_cli.configs import DiffusionConfig
from bidiffsr_cli.diffusion.conditioning import condition, fill_up, match_low_frequencies, upsample


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("picture", ["kodak1", "kodak11"])
def test_up_and_detail_are_the_recorded_ones(golden, picture, scale):
    with safe_open(golden / "residual_v_cases.safetensors", "pt") as cases:
        low_res, up, detail = (
            cases.get_tensor(f"{picture}_x{scale}_steps1.{name}") for name in ("low_res", "up", "detail")
        )
    ours = upsample(low_res.permute(2, 0, 1) / 255, scale, RESIDUAL)
    torch.testing.assert_close(ours, up[0], rtol=0, atol=1e-6)
    seen = condition(ours, 0, 0, *ours.shape[1:], scale, RESIDUAL)
    torch.testing.assert_close(seen[:3], 2 * up[0] - 1, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[3:], detail[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("window", [(0, 0, 16, 24), (5, 7, 20, 20), (48, 40, 16, 24), (0, 0, 64, 64)])
def test_a_window_sees_what_the_whole_picture_has_there(window):
    up = torch.rand(3, 64, 64)
    top, left, height, width = window
    whole = condition(up, 0, 0, 64, 64, 4, RESIDUAL)
    part = condition(up, top, left, height, width, 4, RESIDUAL)
    torch.testing.assert_close(part, whole[:, top : top + height, left : left + width], rtol=0, atol=1e-5)


def test_a_flat_picture_has_no_detail():
    seen = condition(torch.full((3, 9, 9), 0.7), 0, 0, 9, 9, 4, RESIDUAL)
    assert seen[3:].abs().max() < 1e-4


def test_clipping_is_the_configs_choice():
    edge = torch.zeros(3, 8, 8)
    edge[..., 4:] = 1
    assert upsample(edge, 2, RESIDUAL).amin() == 0
    assert upsample(edge, 2, DiffusionConfig()).amin() < 0


def test_filling_up_mirrors_for_upstream_and_repeats_else():
    picture = torch.arange(12.0).view(1, 3, 4).expand(3, 3, 4)
    mirrored = fill_up(picture, 4, 6, DiffusionConfig())
    assert mirrored[0].tolist() == [[0, 1, 2, 3, 2, 1], [4, 5, 6, 7, 6, 5], [8, 9, 10, 11, 10, 9], [4, 5, 6, 7, 6, 5]]
    assert fill_up(picture, 3, 6, RESIDUAL)[0, 0].tolist() == [0, 1, 2, 3, 3, 3]
    assert fill_up(picture, 8, 8, DiffusionConfig()).shape == (3, 8, 8)  # too small to mirror
    assert fill_up(picture, 3, 4, RESIDUAL) is picture


def test_low_frequencies_are_matched_and_the_rest_is_kept():
    torch.manual_seed(1)
    low_res = torch.rand(3, 16, 16) * 0.5 + 0.2
    true = upsample(low_res, 4, dataclasses.replace(RESIDUAL))
    drifted = (true + torch.tensor([0.06, -0.04, 0.02]).view(3, 1, 1)).clamp(0, 1)
    fixed = match_low_frequencies(drifted.clone(), low_res)
    assert psnr(fixed, true) > psnr(drifted, true) + 15
    assert float((fixed - true).mean().abs()) < 1e-3
