"""The way of a picture on CUDA, on a pretended device: nothing is mixed, and no step copies or waits."""

from dataclasses import replace

import pytest
import torch
from networks.test_graphs import Recorded
from networks.test_unet import TINY, randomized
from test_canvas import CONFIGS, RESIDUAL, diffusion

from bidiffsr_cli.canvas import reference
from bidiffsr_cli.configs import TileConfig, UpsamplerConfig
from bidiffsr_cli.diffusion.conditioning import condition
from bidiffsr_cli.diffusion.upsampling import Enlarged
from bidiffsr_cli.networks.blueprint import upsamplers
from bidiffsr_cli.networks.graphs import GraphedUNet
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.precision import in_precision
from bidiffsr_cli.networks.upsampler import DeviceUpsampler, Upsampler
from bidiffsr_cli.ops import native
from bidiffsr_cli.runtime import Runtime
from gpu.pretend import CUDA, on_pretended_cuda, pretended_cuda


def draw(config, steps, canvas=CUDA, network=None, upsampler=None, **options):
    """Draw a picture by a network on the device; the canvas lies on `canvas`. What crossed meanwhile."""
    made = diffusion(config, torch.rand(3, 40, 60), 2, steps, TileConfig(64, 16), concurrent=2, **options)
    up = Enlarged(torch.rand(3, 8, 8), 2, 16, 16, RESIDUAL)
    condition(up.around(0, 0, 16, 16), 2, RESIDUAL)  # a kernel that is computed once, with values
    with pretended_cuda() as watch:
        network = Formula() if network is None else GraphedUNet(on_pretended_cuda(network), Recorded())
        if upsampler is not None:
            upsampler.module, upsampler.device = on_pretended_cuda(upsampler.module), CUDA
        made = replace(
            made, network=network, upsampler=upsampler, runtime=Runtime(CUDA, "float16", "reference", None, 1)
        )
        result, total = reference.draw(made, torch.empty(3, 40, 60, device=canvas))
    assert result.shape == (3, 80, 120) and result.device == total.device == torch.device(canvas)
    return watch


class Formula:
    """A network of few operations."""

    def __call__(self, x, condition, t, step):
        return 0.3 * x + 0.2 * condition[:, :3] + t.view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "sampler"), [*zip(CONFIGS, ["ddim", "dpmpp-2m", "ddpm", "ddim", "ddim", "dpmpp-2m"], strict=True)]
)
def test_no_step_copies_or_waits(name, sampler):
    once, more = (draw(CONFIGS[name], steps, sampler=sampler, color_fix="lowfreq") for steps in (1, 3))
    assert once.copies == more.copies
    assert max(once.copies, default=0) <= 1024  # weights of blending, and where edges are


def test_an_upsampler_computes_on_the_device():
    (plan,) = upsamplers(UpsamplerConfig({"2": 1}, 4))
    state = {f"upsamplers.2.{name}": x for name, x in Upsampler(plan).state_dict().items()}
    config = replace(CONFIGS["by detail"], first_step="mean")
    watch = draw(config, 2, upsampler=DeviceUpsampler(plan, state, "cpu"))
    assert max(watch.copies, default=0) <= 1024


@pytest.mark.slow
def test_the_network_computes_on_the_device_alone():
    network = in_precision(freeze(randomized(TINY, condition_channels=6), torch.float16), torch.float16)
    assert max(draw(RESIDUAL, 2, network=network).copies) <= 1024


def test_a_canvas_too_large_for_the_device_lies_on_the_host(monkeypatch):
    """Then windows go there and back, and nothing else."""
    monkeypatch.setattr(native, "why_unavailable", lambda: "it needs values")
    watch = draw(RESIDUAL, 2, "cpu")
    assert len(watch.copies) == 2 * 3 * 3  # two steps, three batches of two windows; x_t, condition, and the prediction
