"""What needs a CUDA device: the same picture as on the CPU, as near as signs allow, and the same from any thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import psnr, to_tensor

from bidiffsr_cli import SuperResolver
from bidiffsr_cli.networks.graphs import WORTH_A_GRAPH, CudaGraphs, GraphedUNet
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.precision import in_precision
from bidiffsr_cli.ops import reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
STEPS = (1999, 1200, 300, 1999, 1200, 300)


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("steps", [2, 5])
def test_cuda_gives_the_picture_of_the_cpu(resolver, small, precision, steps):
    expected = to_tensor(resolver.upscale(small, steps=steps, tile=64, tile_overlap=16).image)
    cuda = SuperResolver.from_pretrained("fast", device="cuda", precision=precision)
    result = cuda.upscale(small, steps=steps, tile=64, tile_overlap=16)
    assert result.device.startswith("cuda") and result.peak_memory_bytes.device > 0
    assert psnr(to_tensor(result.image), expected) >= (38 if precision == "bf16" else 45)


def network_on(device, fast, dtype):
    network = in_precision(freeze(fast.build_packed(), torch.float16), dtype)
    return network.to(device, memory_format=torch.channels_last)


def inputs(step):
    drawn = torch.randn(2, 3, 64, 64), torch.randn(2, 6, 64, 64), torch.full((2,), step)
    return *(part.cuda() for part in drawn), step


def test_the_network_on_cuda_is_that_of_the_cpu(fast):
    """Signs in fp16 change no sum: what differs is what rounding before a sign differs by."""
    x, condition, t, step = inputs(1200)
    with torch.inference_mode():
        expected = freeze(fast.build_packed())(x.cpu(), condition.cpu(), t.cpu(), step)
        for dtype in (torch.float32, torch.float16):
            result = network_on("cuda", fast, dtype)(x, condition, t, step).float().cpu()
            assert (result - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.parametrize("index", range(torch.cuda.device_count()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_replayed_graph_computes_what_the_network_computes(fast, dtype, index):
    device = f"cuda:{index}"
    network = network_on(device, fast, dtype)
    graphed = GraphedUNet(network_on(device, fast, dtype), CudaGraphs(torch.device(device)))
    with torch.inference_mode():
        for count, step in enumerate(STEPS, start=1):
            *drawn, _ = inputs(step)
            there = [part.to(device) for part in drawn]
            assert psnr(graphed(*there, step), network(*there, step).float()) > 60
            assert [shape.replay is not None for shape in graphed.shapes.values()] == [count >= WORTH_A_GRAPH]


def test_threads_get_their_own_pictures(small):
    cuda = SuperResolver.from_pretrained("fast", device="cuda")
    seeds = range(8)
    alone = [cuda.upscale(small, seed=seed, steps=2).image.tobytes() for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda seed: cuda.upscale(small, seed=seed, steps=2).image.tobytes(), seeds)
        assert list(together) == alone


def test_noise_is_that_of_the_cpu():
    on_cuda = reference.noise(70, 90, 5, 2, torch.device("cuda"))
    assert torch.equal(on_cuda.cpu(), reference.noise(70, 90, 5, 2))
