"""The network on the native engine equals the network in plain torch, for every switch of the config."""

import copy
import dataclasses

import pytest
import torch
from conftest import needs_native

from bidiffsr_cli.networks import native as twins
from bidiffsr_cli.networks import packed as forms
from bidiffsr_cli.networks.native import Engine, NativeUNet
from bidiffsr_cli.networks.packed import freeze, pack, unpack
from bidiffsr_cli.ops import FullConv, native, reference
from bidiffsr_cli.ops.threads import threads, using_threads
from bidiffsr_cli.runtime import one_torch_thread
from networks.test_unet import SWITCHES, TINY, randomized

ISAS = native.supported_isas()
pytestmark = needs_native


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode(), one_torch_thread():
        yield


def inputs(batch, height, width, condition_channels=6):
    shape = batch, height, width
    return (
        torch.randn(shape[0], 3, *shape[1:]),
        torch.randn(shape[0], condition_channels, *shape[1:]),
        torch.full((batch,), 900),
    )


def inputs_without_close_calls(frozen, monkeypatch, margin=5e-6):
    """Inputs for which no value before a sign is so small that the order of a sum could decide it."""
    smallest = []

    def recorded(x, shift):
        smallest.append((x + shift).abs().min().item())
        return reference.binarize(x, shift)

    with monkeypatch.context() as patch:
        patch.setattr(forms, "binarize", recorded)
        for _ in range(100):
            smallest.clear()
            drawn = inputs(2, 8, 16)
            expected = frozen(*drawn)
            if min(smallest) > margin:
                return drawn, expected
    raise AssertionError("every drawn input had a value that is almost zero before a sign")


@pytest.mark.parametrize("switch", [*SWITCHES, {"inner_channel": 40, "norm_groups": 5}], ids=str)
def test_every_switch(switch, monkeypatch):
    network = randomized(dataclasses.replace(TINY, **switch), condition_channels=6)
    drawn, expected = inputs_without_close_calls(freeze(copy.deepcopy(network)), monkeypatch)
    for isa in ISAS:
        engine = NativeUNet(pack(copy.deepcopy(network)), Engine(isa, torch.float32))
        torch.testing.assert_close(engine(*drawn), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_byte(fast, dtype):
    drawn = inputs(1, 112, 80)
    results = {}
    for isa in ISAS:
        network = NativeUNet(fast.build_packed(), Engine(isa, dtype))
        for count in (1, 2, 5):
            with using_threads(count):
                result = network(*drawn)
            assert torch.equal(result, results.setdefault(isa, result))
    assert threads() == 1
    if dtype == torch.float32:  # nor do instruction sets that multiply and add at once
        fused = [result for isa, result in results.items() if isa != "portable"]
        assert all(torch.equal(result, fused[0]) for result in fused)


def test_one_picture_of_a_batch_is_that_picture_alone(fast):
    network = NativeUNet(fast.build_packed(), Engine(ISAS[-1], torch.float32))
    x, condition, t = inputs(3, 32, 64)
    for i, whole in enumerate(network(x, condition, t)):
        alone = network(x[i : i + 1], condition[i : i + 1], t[i : i + 1])[0]
        assert (whole - alone).square().mean() < 1e-4 * alone.square().mean()  # the time embedding's sums differ


def activated(isa, x, norm):
    """SiLU(scale x + shift) as the engine computes it, handed through by a convolution that changes nothing."""
    channels = x.shape[1]
    weight = native.prepare_full(isa, torch.eye(channels).view(channels, channels, 1, 1), torch.float32)
    return native.full_conv(isa, 1, [x], FullConv(weight, torch.zeros(channels), 1), norm=norm)[0]


def test_few_signs_flip(fast, monkeypatch):
    """What the bundled model's signs are decided on differs by rounding alone: of a million few come out otherwise."""
    seen = {"reference": [], "native": []}

    def binarize(x, shift):
        signs = reference.binarize(x, shift)
        seen["reference"].append(signs > 0)
        return signs

    def binary_block(engine, sources, convs, **around):
        data = [source.data for source in sources]
        if around.get("norm") is not None:
            data = [activated(engine.isa, data[0], around["norm"])]
        for conv in convs:
            x = torch.cat([reference._channels(data[segment.source], segment) for segment in conv.segments], dim=1)
            seen["native"].append(reference.binarize(x, conv.tar.view(-1, 1, 1)) > 0)
        return original(engine, sources, convs, **around)

    original = twins.binary_block
    monkeypatch.setattr(forms, "binarize", binarize)
    monkeypatch.setattr(twins, "binary_block", binary_block)
    drawn = inputs(1, 96, 96)
    expected = freeze(fast.build_packed())(*drawn)
    result = NativeUNet(fast.build_packed(), Engine(ISAS[-1], torch.float32))(*drawn)
    flipped = sum(int((a != b).sum()) for a, b in zip(seen["reference"], seen["native"], strict=True))
    signs = sum(a.numel() for a in seen["reference"])
    print(f"{flipped} of {signs} signs flipped")
    assert signs > 1_000_000 and flipped / signs < 1e-4
    assert (result - expected).square().mean() < 1e-4 * expected.square().mean()


def test_the_network_keeps_bits_alone(fast):
    """No float copy of a binary weight stays behind: the network's tensors are about as large as its file."""
    network = NativeUNet(fast.build_packed(), Engine(ISAS[-1], torch.bfloat16))
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    latent = sum(tensor.nbytes for tensor in fast.build().state_dict().values())
    assert size < latent / 7


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_packed_and_unpacked_again(switch):
    network = randomized(dataclasses.replace(TINY, **switch), condition_channels=6)
    again = unpack(pack(copy.deepcopy(network)))
    assert again.state_dict().keys() == network.state_dict().keys()
    drawn = inputs(1, 8, 16)
    torch.testing.assert_close(again(*drawn), network(*drawn))
