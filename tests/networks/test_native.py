"""The network on the native engine equals the network in plain torch, for every switch of the config."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_native

from bidiffsr_cli.networks import packed as forms
from bidiffsr_cli.networks.native import Engine, NativeUNet, program_of
from bidiffsr_cli.networks.packed import freeze, pack, unpack
from bidiffsr_cli.ops import BinaryBlock, native, reference
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
        assert torch.equal(whole, alone)


def test_few_signs_flip(fast):
    """What the bundled model's signs are decided on differs by rounding alone: of a million few come out otherwise."""
    program, (x_t, condition, t) = program_of(fast.build_packed(), torch.float32), inputs(1, 96, 96)
    maps = reference.run(program, [condition, x_t], t, 900)
    flipped = signs = 0
    computed = [condition, x_t]  # the same maps by the engine, each of a program that ends there
    for index, operation in enumerate(program.operations):
        if isinstance(operation, BinaryBlock):
            here, there = (decided(operation, found) for found in (maps, computed))
            flipped += int((here != there).sum())
            signs += here.numel()
        until = native.Network(ISAS[-1], dataclasses.replace(program, operations=program.operations[: index + 1]))
        computed.append(until([condition, x_t], [900], 900, 1))
    print(f"{flipped} of {signs} signs flipped")
    assert signs > 1_000_000 and flipped / signs < 1e-4
    assert (computed[-1] - maps[-1]).square().mean() < 1e-4 * maps[-1].square().mean()


def decided(block, maps):
    """The signs of all that a block's convolutions see."""
    sources = [maps[source] for source in block.sources]
    if block.norm is not None:
        sources = [F.silu(F.group_norm(sources[0], block.norm.groups, block.norm.weight, block.norm.bias))]
    group = [900 * len(conv.tar) // 2000 for conv in block.convs]
    return torch.cat(
        [
            reference.convolved(conv, sources).flatten(2) + conv.tar[index].view(-1, 1) >= 0
            for conv, index in zip(block.convs, group, strict=True)
        ],
        dim=1,
    )


def test_the_network_keeps_bits_alone(fast):
    """No float copy of a binary weight stays behind: the network's tensors are about as large as its file."""
    network = NativeUNet(fast.build_packed(), Engine(ISAS[-1], torch.bfloat16))
    latent = sum(tensor.nbytes for tensor in fast.build().state_dict().values())
    assert network.network.nbytes < latent / 7


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_packed_and_unpacked_again(switch):
    network = randomized(dataclasses.replace(TINY, **switch), condition_channels=6)
    again = unpack(pack(copy.deepcopy(network)))
    assert again.state_dict().keys() == network.state_dict().keys()
    drawn = inputs(1, 8, 16)
    torch.testing.assert_close(again(*drawn), network(*drawn))
