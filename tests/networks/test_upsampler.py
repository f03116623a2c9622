"""The upsampler: in torch, on the engine, and where a picture's edge or a part's is near."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_native
from hypothesis import given
from hypothesis import strategies as st
from test_configs import RESIDUAL

from bidiffsr_cli.configs import UpsamplerConfig
from bidiffsr_cli.diffusion import upsampling
from bidiffsr_cli.diffusion.detail import residual_gain, trimmed
from bidiffsr_cli.diffusion.upsampling import Enlarged, bicubic, upsample_crops, upsampling_margin
from bidiffsr_cli.networks.blueprint import upsamplers
from bidiffsr_cli.networks.native_unet import native_upsampler
from bidiffsr_cli.networks.upsampler import DeviceUpsampler, Upsampler
from bidiffsr_cli.ops import Array, native
from bidiffsr_cli.ops.threads import using_threads

CONFIG = UpsamplerConfig({"2": 2, "4": 1, "3": 0}, channels=9)
PLANS = upsamplers(CONFIG)
ANY = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"x{plan.scale}")


def randomized(plan):
    upsampler = Upsampler(plan)
    upsampler.tail.reset_parameters()  # which is all zeros
    return upsampler


def state_of(plan):
    """Random weights, by their names in a model."""
    return {f"upsamplers.{plan.scale}.{name}": x.detach() for name, x in randomized(plan).state_dict().items()}


@ANY
def test_training_begins_at_bicubic_interpolation(plan):
    assert not Upsampler(plan)(torch.rand(1, 3, 12, 12)).any()


@ANY
def test_it_sees_as_far_as_its_radius(plan):
    upsampler = randomized(plan)
    assert upsampler.radius == plan.radius == 2 * CONFIG.blocks[str(plan.scale)] + 2
    picture = torch.rand(1, 3, 20, 20, requires_grad=True)
    middle = upsampler(picture)[..., 10 * plan.scale, 10 * plan.scale]
    (seen,) = torch.autograd.grad(middle.sum(), picture)
    rows = seen.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (10 - plan.radius, 10 + plan.radius)


@needs_native
@ANY
@pytest.mark.parametrize("isa", native.supported_isas())
def test_the_engine_computes_the_same(plan, isa):
    state = state_of(plan)
    here = native_upsampler(plan, {name: Array.of(x) for name, x in state.items()}, isa)
    there = DeviceUpsampler(plan, state, "cpu")
    picture = torch.rand(2, 3, 13, 30)
    result = here(picture)
    torch.testing.assert_close(result, there(picture), rtol=1e-4, atol=1e-5)
    with using_threads(3):
        assert torch.equal(here(picture), result)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(PLANS))
def test_a_whole_picture_is_seen_part_by_part(height, width, plan):
    low_res, r = torch.rand(3, height, width), plan.radius
    size = plan.scale * height, plan.scale * width
    config = dataclasses.replace(RESIDUAL, upsample="bicubic_075")
    upsampler = DeviceUpsampler(plan, state_of(plan), "cpu")
    around = F.pad(low_res[None], (r, r, r, r), mode="replicate")
    expected = bicubic(low_res[None], plan.scale)[0] + trimmed(upsampler(around)[0], plan.scale * r)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampling, "PART", 16)
        up = Enlarged(low_res, plan.scale, size[0] + 3, size[1], config, upsampler)
        clipped = Enlarged(low_res, plan.scale, *size, RESIDUAL, upsampler)
    beyond = F.pad(expected[None], (2, 2, 1, 4), mode="replicate")[0]
    torch.testing.assert_close(up.crop(-1, -2, size[0] + 5, size[1] + 4), beyond, rtol=0, atol=1e-5)
    torch.testing.assert_close(clipped.crop(0, 0, *size), expected.clamp(0, 1), rtol=0, atol=1e-5)
    assert float(up.total) == pytest.approx(float(expected.sum()), rel=1e-3, abs=1e-2)


BY_DETAIL = dataclasses.replace(RESIDUAL, residual_by_detail=0.05, upsample="bicubic_075")


@ANY
def test_what_is_added_goes_by_detail(plan):
    low_res = 0.4 + 0.05 * torch.rand(3, 30, 26)
    low_res[..., :14] = 0.4
    size = plan.scale * 30, plan.scale * 26
    upsampler = DeviceUpsampler(plan, state_of(plan), "cpu")
    plain, whole = Enlarged(low_res, plan.scale, *size, BY_DETAIL), (0, 0, *size)
    all_of_it = Enlarged(low_res, plan.scale, *size, dataclasses.replace(BY_DETAIL, residual_by_detail=None), upsampler)
    gain = residual_gain(plain.around(*whole), plan.scale, BY_DETAIL)
    assert float(gain.min()) < 1e-5 and 0.1 < float(gain.max()) < 1
    expected = plain.crop(*whole) + gain * (all_of_it.crop(*whole) - plain.crop(*whole))
    up = Enlarged(low_res, plan.scale, *size, BY_DETAIL, upsampler).crop(*whole)
    torch.testing.assert_close(up, expected, rtol=0, atol=1e-6)
    flat = up[..., : 6 * plan.scale]
    assert float(flat.max() - flat.min()) < 1e-5


@ANY
@pytest.mark.parametrize("config", [RESIDUAL, BY_DETAIL], ids=["all", "by detail"])
def test_crops_in_training_are_parts_of_whole_pictures(plan, config):
    low_res = torch.rand(2, 3, 40, 44) * 0.05 + 0.4
    upsampler, s = DeviceUpsampler(plan, state_of(plan), "cpu"), plan.scale
    margin = upsampling_margin(upsampler)
    crop = low_res[..., 10 - margin : 22 + margin, 12 - margin : 20 + margin]
    found = upsample_crops(crop, s, config, upsampler)
    for one, picture in zip(found, low_res, strict=True):
        whole = Enlarged(picture, s, 40 * s, 44 * s, config, upsampler)
        torch.testing.assert_close(one, whole.crop(10 * s, 12 * s, 12 * s, 8 * s), rtol=0, atol=1e-5)
    assert upsample_crops(crop, s, config, None).shape[-1] == (8 + 2 * margin) * s
