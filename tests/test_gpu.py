"""What needs a CUDA device: the same picture as on the CPU, as near as signs allow."""

import pytest
import torch
from conftest import psnr, to_tensor

from bidiffsr_cli import SuperResolver
from bidiffsr_cli.networks.graphs import GraphedUNet
from bidiffsr_cli.networks.packed import freeze

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("steps", [1, 5])
def test_cuda_gives_the_picture_of_the_cpu(resolver, small, steps):
    expected = to_tensor(resolver.upscale(small, steps=steps, tile=64, tile_overlap=16).image)
    cuda = SuperResolver.from_pretrained("fast", device="cuda")
    result = cuda.upscale(small, steps=steps, tile=64, tile_overlap=16)
    assert result.device.startswith("cuda") and result.peak_memory_bytes.device > 0
    assert psnr(to_tensor(result.image), expected) >= 45


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_on_cuda(resolver, small, precision):
    expected = to_tensor(resolver.upscale(small, steps=1).image)
    cuda = SuperResolver.from_pretrained("fast", device="cuda", precision=precision)
    assert psnr(to_tensor(cuda.upscale(small, steps=1).image), expected) > 38


def test_the_network_on_cuda_is_that_of_the_cpu(fast):
    """Signs in fp16 change no sum: what differs is what rounding before a sign differs by."""
    x, condition, t = torch.randn(2, 3, 64, 64), torch.randn(2, 6, 64, 64), torch.tensor([1200, 1200])
    with torch.inference_mode():
        expected = freeze(fast.build_packed())(x, condition, t)
        for dtype in (torch.float32, torch.float16):
            network = freeze(fast.build_packed(), dtype).cuda().to(memory_format=torch.channels_last)
            result = network(x.cuda(), condition.cuda(), t.cuda(), 1200).cpu()
            assert (result - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_replayed_graph_computes_what_the_network_computes(fast, dtype):
    network = freeze(fast.build_packed(), dtype or torch.float32).cuda().to(memory_format=torch.channels_last)
    graphed = GraphedUNet(network)
    with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype is not None):
        for step in (1999, 1200, 1999, 1999, 1200, 1200):  # seen, captured and replayed in two groups
            x, condition = torch.randn(2, 3, 64, 64).cuda(), torch.randn(2, 6, 64, 64).cuda()
            t = torch.full((2,), step).cuda()
            expected = network(x, condition, t, step)
            assert psnr(graphed(x, condition, t, step).clone(), expected) > 60
    assert len(graphed.graphs) == 2 and all(graphed.graphs.values())
