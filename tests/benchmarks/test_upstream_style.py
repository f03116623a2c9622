"""The authors' style: the same results as the trained form, by the work that the style stands for."""

import copy
import dataclasses

import pytest
import torch
from networks.test_native import inputs_without_close_calls
from networks.test_unet import SWITCHES, TINY, assert_parity, randomized
from torch.utils._python_dispatch import TorchDispatchMode

from bidiffsr_cli.benchmarks.upstream_style import (
    UpstreamStyleUNet,
    binarized_activation,
    binarized_weight,
)
from bidiffsr_cli.checkpoints.files import read_pth_checkpoint
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.quantizers import approx_sign, scaled_ste_sign

PAPERS = [switch for switch in SWITCHES if not {"fusion", "resample"} & set(switch)]


def test_parity_with_the_authors_network(golden):
    network = UpstreamStyleUNet(read_pth_checkpoint(golden / "tiny_official_format.pth", scales=(2,)).build())
    assert_parity(network, golden)


@pytest.mark.parametrize("switch", PAPERS, ids=str)
def test_it_equals_the_trained_form(switch, monkeypatch):
    network = randomized(dataclasses.replace(TINY, **switch), condition_channels=6)
    with torch.no_grad():
        drawn, _ = inputs_without_close_calls(freeze(copy.deepcopy(network)), monkeypatch)
        expected = network(*drawn)
        torch.testing.assert_close(UpstreamStyleUNet(network)(*drawn), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("switch", [{"fusion": "concat"}, {"resample": "conv"}], ids=str)
def test_an_ablation_has_no_upstream_style(switch):
    with pytest.raises(UsageError):
        UpstreamStyleUNet(randomized(dataclasses.replace(TINY, **switch)))


@pytest.mark.parametrize(("style", "ours"), [(binarized_activation, approx_sign), (binarized_weight, scaled_ste_sign)])
def test_values_and_gradients_of_a_sign(style, ours):
    """The expressions are the forward and backward passes of our quantizers."""
    x = torch.cat([torch.linspace(-3, 3, 61) + 0.013, 0.2 * torch.randn(83)]).view(4, 4, 3, 3)
    results = []
    for sign in (style, ours):
        given = x.clone().requires_grad_()
        value = sign(given)
        value.square().sum().backward()
        results.append((value.detach(), given.grad))
    torch.testing.assert_close(*results)


def test_passes_over_an_activation():
    """What the docstring says of the work: comparisons, conversions and arithmetic, each on the whole tensor."""
    passes = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            passes.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    x = torch.randn(1, 2, 4, 4)
    with torch.no_grad(), Count():
        binarized_activation(x)
    passes = [name for name in passes if name != "detach"]
    assert len(passes) == 31
    assert passes.count("lt") == 3 and passes.count("_to_copy") == 6
