"""The blueprint says what the torch network is, for every system, and both forms."""

import dataclasses
import itertools

import pytest
import torch

from bidiffsr_cli.configs import METHODS, UNetConfig
from bidiffsr_cli.networks.blueprint import Conv, blueprint, layers, shapes
from bidiffsr_cli.networks.latent_conv import LatentConv
from bidiffsr_cli.networks.packed import pack
from bidiffsr_cli.networks.systems import SYSTEMS, find_system
from bidiffsr_cli.networks.unet import UNet
from networks.test_unet import SWITCHES, TINY

SIZES = (
    UNetConfig(),
    UNetConfig(inner_channel=12, norm_groups=6, channel_mults=(1, 2), res_blocks=3, pixel_unshuffle=3,
               full_precision_levels=(0,)),
    UNetConfig(inner_channel=16, channel_mults=(1,), res_blocks=1, full_precision_levels=()),
)  # fmt: skip
CONFIGS = [
    *(system.applied_to(size) for system, size in itertools.product(SYSTEMS, SIZES)),
    *(dataclasses.replace(TINY, **switch) for switch in SWITCHES),
    *(dataclasses.replace(find_system("bnn").applied_to(TINY), method=method) for method in METHODS
      if method != "bi_diffsr"),
    *(dataclasses.replace(TINY, method=method, tar_groups=1, taa_groups=1) for method in METHODS),
    dataclasses.replace(TINY, full_precision_blocks=("encoder.0", "middle.1", "decoder.1.blocks.1")),
]  # fmt: skip


def meta(config: UNetConfig, condition_channels: int) -> UNet:
    with torch.device("meta"):
        return UNet(config, condition_channels)


@pytest.mark.parametrize(
    "config",
    [  # the paper's Params and OPs are those of the published size, which test_complexity.py compares quickly
        pytest.param(config, marks=pytest.mark.slow if config.inner_channel == 64 else [])
        for config in dict.fromkeys(CONFIGS)
    ],
    ids=str,
)
def test_names_and_shapes_are_those_of_the_network(config):
    for channels, packed in ((3, False), (6, True)):
        network = meta(config, channels)
        network = pack(network) if packed else network
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        found = shapes(config, channels, packed=packed)
        assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_which_convolutions_are_binary(system):
    config = system.applied_to(UNetConfig())
    latent = {name: module for name, module in meta(config, 3).named_modules() if isinstance(module, LatentConv)}
    planned = {layer.name: layer for layer in layers(blueprint(config)) if isinstance(layer, Conv) and not layer.full}
    assert list(latent) == list(planned)
    assert all(module.stride == planned[name].stride for name, module in latent.items())
