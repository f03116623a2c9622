"""What Triton's pair must compute: cases that `test_triton_pair.py` runs in a process of their own.

In this one Triton compiles for a GPU, or is interpreted, for good.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks.test_graphs import STEPS, Recorded, inputs
from networks.test_unet import TINY, randomized

from bidiffsr_cli.networks import fused
from bidiffsr_cli.networks.fused import FusedResBlock, fuse
from bidiffsr_cli.networks.graphs import GraphedUNet
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.precision import in_precision
from bidiffsr_cli.ops import reference, triton_pair

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = torch.float16 if DEVICE == "cuda" else torch.float32  # in which signs are convolved there
SHAPES = [
    (2, 32, 8, 9, 7),
    (1, 64, 16, 16, 16),  # whole parts of 64 pixels
    (3, 64, 8, 5, 13),
    (1, 128, 16, 11, 3),
    (2, 256, 8, 6, 5),
    (1, 512, 16, 3, 5),
    (2, 24, 4, 1, 67),  # channels that fill no part, 64 pixels and 3
    (1, 8, 1, 1, 1),
]
"""B, C, G, H, W, with every number of channels of `fast` and of the published network."""
shapes = pytest.mark.parametrize("shape", SHAPES)
types = pytest.mark.parametrize("dtype", [torch.float32, torch.float16])


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def drawn(*shape, dtype=torch.float32):
    values = torch.randn(shape).to(DEVICE, dtype)
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


def of_groups(x, groups):
    variance, mean = torch.var_mean(x.float().unflatten(1, (groups, -1)), (2, 3, 4), correction=0)
    return mean, variance


def normed_map(shape, dtype):
    """(what the pair is given, Swish(GroupNorm(x)) by torch)."""
    batch, channels, groups, height, width = shape
    x = (3 + 2 * drawn(batch, channels, height, width)).to(dtype)
    norm = triton_pair.Normed(x, *of_groups(x, groups), drawn(channels), drawn(channels), 1e-5)
    return norm, F.silu(torch.group_norm(x.float(), groups, norm.weight, norm.bias, norm.eps))


@shapes
@types
def test_the_signs_are_those_of_the_definition(shape, dtype):
    norm, activated = normed_map(shape, dtype)
    tar = 0.5 * drawn(shape[1])
    signs = triton_pair.prepare(norm, tar, EXACT)
    tar = tar.view(-1, 1, 1)
    clear = (activated + tar).abs() > 1e-5  # what rounding may not tip
    assert clear.float().mean() > 0.99
    assert torch.equal(signs[clear], reference.binarize(activated, tar, EXACT)[clear])
    assert signs.abs().eq(1).all() and signs.dtype == EXACT
    assert signs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # the interpreter says what is meant: x / inf
def test_the_sign_of_zero_is_positive():
    """Also of -0.0, which the Swish of a large negative value is."""
    x, of_channels = drawn(1, 32, 4, 4), (torch.zeros(32, device=DEVICE), torch.full((32,), -1e4, device=DEVICE))
    for bias in of_channels:
        norm = triton_pair.Normed(x, *of_groups(x, 8), of_channels[0], bias, 1e-5)
        assert triton_pair.prepare(norm, of_channels[0], EXACT).eq(1).all()


@shapes
@types
@pytest.mark.parametrize("added", ["time", "residual", "nothing"])
def test_what_is_behind_the_sums_is_that_of_the_definition(shape, dtype, added):
    batch, channels, groups, height, width = shape
    norm, activated = normed_map(shape, dtype)
    sums = torch.randint(-9 * channels // 2, 9 * channels // 2, norm.x.shape).to(DEVICE, torch.float32) * 2
    sums = sums.clamp(-2048, 2048).to(EXACT).contiguous(memory_format=torch.channels_last)
    alpha, rprelu = drawn(channels).abs() / channels, tuple(drawn(channels) for _ in range(3))
    time, residual = drawn(batch, channels), drawn(batch, channels, height, width, dtype=dtype)
    shift, slope, offset = (part.view(-1, 1, 1) for part in rprelu)
    expected = reference.rprelu(sums.float() * alpha.view(-1, 1, 1), shift, slope.flatten(), offset) + activated
    given = {}
    if added == "time":
        given, expected = {"time": time}, expected + time[..., None, None]
    elif added == "residual":
        given, expected = {"residual": residual}, expected + residual
    result, moments = triton_pair.finish(sums, norm, alpha, rprelu, **given)
    assert result.dtype == torch.float32 and result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)
    found = triton_pair.statistics(moments, groups, height * width)
    torch.testing.assert_close(found, of_groups(result, groups), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused():
    norm, _ = normed_map((2, 32, 8, 4, 4), torch.float32)
    tar, rprelu = drawn(32), (drawn(32), drawn(32), drawn(32))
    other = triton_pair.Normed(norm.x.contiguous(), norm.mean, norm.variance, norm.weight, norm.bias, norm.eps)
    with pytest.raises(ValueError, match="channels_last"):
        triton_pair.prepare(other, tar, EXACT)
    for wrong in (drawn(16), drawn(32, dtype=torch.float64), drawn(64)[::2]):
        with pytest.raises(ValueError, match=r"should be \(32,\), torch.float32"):
            triton_pair.prepare(norm, wrong, EXACT)
    for wrong in ({"time": drawn(1, 32)}, {"residual": drawn(2, 32, 4, 5)}, {"residual": drawn(2, 32, 4, 4).double()}):
        with pytest.raises(ValueError, match="it should be"):
            triton_pair.finish(norm.x, norm, tar, rprelu, **wrong)
    with pytest.raises(ValueError, match="32 channels are not 5 groups"):
        triton_pair.prepare(triton_pair.Normed(norm.x, drawn(2, 5), drawn(2, 5), tar, tar, 1e-5), tar, EXACT)


def prepared():
    """A network as a CUDA device gets it."""
    network = in_precision(freeze(randomized(TINY, condition_channels=6), EXACT), torch.float32)
    return network.to(DEVICE, memory_format=torch.channels_last)


def ways_of(monkeypatch, seconds):
    """A clock by which the plain way and the pair take so many seconds, what it was asked, and no memory."""
    asked = []
    monkeypatch.setattr(fused, "choices", {})
    monkeypatch.setattr(fused, "SIDE", 8)

    def clock(way):
        asked.append(way.func)
        return seconds[isinstance(way.func, FusedResBlock)]

    return clock, asked


def fused_blocks(network):
    return [module for module in network.modules() if isinstance(module, FusedResBlock)]


@torch.inference_mode()
def test_a_network_with_the_pair_computes_what_it_computes_without_in_every_group(monkeypatch):
    network = prepared()
    clock, asked = ways_of(monkeypatch, (2.0, 1.0))
    with_pair = fuse(copy.deepcopy(network), clock)
    assert len(fused_blocks(with_pair)) == sum(map(fused.can_be_fused, blocks(network))) > 4
    assert len(asked) == 2 * len(fused.choices) == 2 * len({block.norm1.channels for block in blocks(network)}) == 6
    assert len(fused_blocks(fuse(copy.deepcopy(network), clock))) == len(fused_blocks(with_pair)) and len(asked) == 6
    assert fused.in_words() == "Triton's pair in blocks of 8, 16, 32 channels"
    graphed = GraphedUNet(copy.deepcopy(with_pair), Recorded())
    for step in STEPS:
        *parts, step = inputs(step, 16, 24, 2)
        given = *(part.to(DEVICE) for part in parts), step
        expected, found = network(*given), with_pair(*given)
        assert (found - expected).square().mean() < 1e-3 * expected.square().mean()
        torch.testing.assert_close(graphed(*given), found)


def test_what_is_not_faster_stays_as_it_is(monkeypatch):
    clock, _ = ways_of(monkeypatch, (1.0, 1.0))
    assert not fused_blocks(fuse(prepared(), clock))
    assert fused.in_words() == "without Triton's pair (it is 1.00 times as fast)"


@torch.inference_mode()
def test_a_block_goes_through_the_pair_for_the_type_that_was_measured(monkeypatch):
    block = next(block for block in blocks(prepared()) if fused.can_be_fused(block))
    x, ctx = drawn(2, 8, 6, 5), fused.TimestepContext(drawn(1, 8), 900, 2000)
    with_pair = FusedResBlock(block)
    torch.testing.assert_close(with_pair(x, ctx), block(x, ctx), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(with_pair(x.contiguous(), ctx), with_pair(x, ctx))
    monkeypatch.setattr(triton_pair, "prepare", None)
    assert torch.equal(with_pair(x.half(), ctx), block(x.half(), ctx))


def blocks(network):
    return [module for module in network.modules() if isinstance(module, fused.ResBlock)]
