"""Params and OPs, against the figures that the paper prints."""

import pytest

from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, TileConfig, UNetConfig
from bidiffsr_cli.networks.complexity import complexity


def test_the_published_network() -> None:
    cost = complexity(ModelConfig(UNetConfig(), DiffusionConfig(), (2,)))
    assert (cost.weights, cost.binary_weights, cost.params) == (51_280_387, 48_211_968, 4_575_043)
    assert cost.macs == {
        "linear": 405_504,
        "convolution": 33_625_735_168,
        "norm": 427_294_720,
        "binary convolution": 98_650_030_080,
        "attention": 1_073_741_824,
    }
    assert cost.ops == pytest.approx(36.668584e9, rel=1e-7)


def test_full_precision_and_size() -> None:
    small, large = (complexity(ModelConfig(UNetConfig(), DiffusionConfig(), (2,)), size) for size in (128, 256))
    assert small.params == large.params
    assert small.macs["binary convolution"] * 4 == large.macs["binary convolution"]
    odd = UNetConfig(inner_channel=8, norm_groups=8, pixel_unshuffle=3)
    assert complexity(ModelConfig(odd, DiffusionConfig(), (2,), TileConfig(240, 48))).size == 264
    assert small.macs["attention"] * 16 == large.macs["attention"]
