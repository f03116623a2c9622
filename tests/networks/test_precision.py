"""The form for accelerators, on a CPU: what it costs, and that every network has it."""

import dataclasses

import pytest
import torch
from conftest import psnr, to_tensor
from torch import nn

from bidiffsr_cli.checkpoints.models import load_checkpoint
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.precision import ChannelsLastGroupNorm, in_precision
from bidiffsr_cli.pipeline import SuperResolver
from networks.test_methods import EVERY, of
from networks.test_unet import SWITCHES, TINY, randomized

HALF = torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_norm_is_torchs_in_float32_and_lies_as_its_input_does(dtype, layout):
    norm = nn.GroupNorm(4, 12)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = (30 + 5 * torch.randn(2, 12, 9, 7)).to(dtype).contiguous(memory_format=layout)
    with torch.no_grad():
        result = ChannelsLastGroupNorm(norm)(x)
        torch.testing.assert_close(result, norm(x.float()), rtol=1e-4, atol=1e-4)
    assert result.is_contiguous(memory_format=layout)


NETWORKS = {str(switch): dataclasses.replace(TINY, **switch) for switch in SWITCHES}
NETWORKS |= {" of ".join(names): of(*names) for names in EVERY}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_network_runs_in_float16_with_its_weights_cast_once(name):
    network = freeze(randomized(NETWORKS[name], condition_channels=6))
    x, condition, t = torch.randn(2, 3, 16, 16), torch.randn(2, 6, 16, 16), torch.tensor([900, 900])
    expected = network(x, condition, t)
    half = in_precision(network, HALF)
    full = [conv for conv in half.modules() if isinstance(conv, nn.Conv2d) and conv is not half.stem]
    assert half.stem.weight.dtype == torch.float32 and {conv.weight.dtype for conv in full} == {HALF}
    result = half(x, condition, t)
    assert result.dtype == HALF
    closest = 1e-4 if "full_precision" in name else 0.5  # else rounding tips signs
    assert (result - expected).square().mean() < closest * expected.square().mean()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_in_float32_the_form_changes_nothing(name):
    network = freeze(randomized(NETWORKS[name], condition_channels=6))
    inputs = torch.randn(2, 3, 16, 16), torch.randn(2, 6, 16, 16), torch.tensor([900, 900])
    expected = network(*inputs)
    torch.testing.assert_close(in_precision(network, torch.float32)(*inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["fast", "photo"])
def test_fp16_costs_little_in_one_step(model, small):
    plain, half = (
        SuperResolver.from_pretrained(model, device="cpu", backend="reference", precision=precision)
        for precision in ("fp32", "fp16")
    )
    steps = 1 + plain.config.diffusion.free_steps
    expected, ours = (to_tensor(resolver.upscale(small, scale=4, steps=steps).image) for resolver in (plain, half))
    assert psnr(ours, expected) >= 50
    assert load_checkpoint(model).fp16_psnr >= 50
