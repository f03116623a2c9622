"""Params and OPs, against the figures that the paper prints and the tool that it counts with."""

import dataclasses
import warnings

import pytest
import torch

from bidiffsr_cli.configs import UNetConfig
from bidiffsr_cli.networks.complexity import BINARY, complexity
from bidiffsr_cli.networks.systems import SYSTEMS, System, find_system
from bidiffsr_cli.networks.unet import UNet

NOT_REPRODUCED = {"bnn": 4.787011, "dorefa": 4.787011, "xnor": 4.787011, "irnet": 4.787011, "b-add": 4.093635}
"""Params of the rows that nothing published explains; each says so."""


def test_the_published_network() -> None:
    cost = complexity(UNetConfig())
    assert (cost.weights, cost.binary_weights, cost.params) == (51_280_387, 48_211_968, 4_575_043)
    assert {kind: of_kind.operations for kind, of_kind in cost.kinds.items() if of_kind.operations} == {
        "linear": 405_504,
        "convolution": 33_625_735_168,
        "GroupNorm": 427_294_720,
        BINARY: 98_650_030_080,
        "attention": 1_073_741_824,
    }
    assert cost.ops == pytest.approx(36.668584e9, rel=1e-7)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_row_of_the_paper(system: System) -> None:
    cost = complexity(system.applied_to(UNetConfig()))
    assert round(cost.ops / 1e9, 2) == system.ops
    if system.name in NOT_REPRODUCED:
        assert cost.params / 1e6 == pytest.approx(NOT_REPRODUCED[system.name]) and system.note
        assert abs(cost.params / 1e6 - system.params) < 0.01
    else:
        assert round(cost.params / 1e6, 2) == system.params and not system.note


@pytest.mark.parametrize("name", ["bi-diffsr", "sr3", "reactnet", "b-add"])
def test_fvcore_counts_the_same(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is older than torch's deprecations
        from fvcore.nn import FlopCountAnalysis
        from fvcore.nn.jit_handles import get_shape

    def attention(inputs: list, outputs: list) -> int:
        _, _, positions, channels = get_shape(inputs[0])
        return 2 * positions**2 * channels

    shallow = UNetConfig(inner_channel=16, channel_mults=(1, 2), full_precision_levels=(0,))
    config, size = find_system(name).applied_to(shallow), 64
    network, x = UNet(config).eval(), torch.zeros(1, 3, size, size)
    analysis = FlopCountAnalysis(network, (x, x, torch.zeros(1, dtype=torch.long)))
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = analysis.by_operator()
    ours = {kind: cost.operations for kind, cost in complexity(config, size=size).kinds.items()}
    assert theirs["conv"] == ours["convolution"] + ours.get(BINARY, 0)
    assert theirs["group_norm"] == ours["GroupNorm"]
    assert theirs["scaled_dot_product_attention"] == ours["attention"]
    assert theirs["linear"] == ours["linear"]
    assert theirs.get("batch_norm", 0) == ours.get("BatchNorm", 0)
    assert theirs.get("upsample_nearest2d", 0) == ours.get("upsampling", 0)
    assert sum(theirs.values()) == sum(ours.values())


def test_size() -> None:
    small, large = (complexity(UNetConfig(), size=size) for size in (128, 256))
    assert small.params == large.params
    assert small.kinds[BINARY].operations * 4 == large.kinds[BINARY].operations
    assert small.kinds["attention"].operations * 16 == large.kinds["attention"].operations
    odd = UNetConfig(inner_channel=8, norm_groups=8, pixel_unshuffle=3)
    assert complexity(odd).size == 264


def test_a_wider_condition_costs_in_the_stem_alone() -> None:
    config = dataclasses.replace(UNetConfig(), inner_channel=16)
    one, two = (complexity(config, channels) for channels in (3, 6))
    assert two.weights - one.weights == 3 * 16 * 9
    assert two.ops - one.ops == 3 * 16 * 9 * 256**2
