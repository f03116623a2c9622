"""The network: parity with the authors' code, the inference form, and every switch of the config."""

import dataclasses

import pytest
import torch
from safetensors import safe_open

from bidiffsr_cli.checkpoints.files import read_pth_checkpoint
from bidiffsr_cli.configs import UNetConfig, UpsamplerConfig
from bidiffsr_cli.networks.binary_conv import BatchNorm, BIConv
from bidiffsr_cli.networks.native_unet import NativeUNet
from bidiffsr_cli.networks.packed import FrozenBIConv, PackedBIConv, freeze
from bidiffsr_cli.networks.time_aware import TimestepContext
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.ops import native

TINY = UNetConfig(inner_channel=8, norm_groups=4, channel_mults=(1, 2, 4), res_blocks=1)


@pytest.fixture(scope="module")
def tiny_official(golden):
    return read_pth_checkpoint(golden / "tiny_official_format.pth", scales=(2,))


def assert_parity(network, golden):
    """The network, with the weights of the tiny checkpoint, computes what the authors' code computed."""
    with safe_open(golden / "tiny_cases.safetensors", "pt") as cases, torch.no_grad():
        names = sorted({key.split(".")[0] for key in cases.keys()})  # noqa: SIM118 - not a dict
        assert len(names) == 18
        for name in names:
            x, low_res, t, expected = (cases.get_tensor(f"{name}.{part}") for part in ("x", "low_res", "t", "out"))
            error = (network(x, low_res, t) - expected).abs().max()
            assert error < 1e-5, f"{name} at t={t.item()}: {error}"


@pytest.mark.parametrize("form", ["trained", "frozen", "frozen, channels_last", *native.supported_isas()])
def test_parity_with_the_authors_network(golden, tiny_official, form):
    network = tiny_official.build()
    if form in native.supported_isas():
        network = NativeUNet(tiny_official.config, tiny_official.packed_arrays(), form, "float32")
    elif form != "trained":
        network = freeze(network)
    if form.endswith("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    assert_parity(network, golden)


SWITCHES = [
    {},
    {"fusion": "split"},
    {"fusion": "concat"},
    {"fusion": "add"},
    {"resample": "conv"},
    {"identity": False},
    {"tar_groups": 1},
    {"taa_groups": 1, "tar_groups": 2},
    {"full_precision_levels": ()},
    {"full_precision_levels": (2,)},
    {"pixel_unshuffle": 2},
    {"channel_mults": (1,), "full_precision_levels": (0,)},
    {"channel_mults": (1, 2, 4, 8), "res_blocks": 2},
    {"upsampler": UpsamplerConfig({"2": 1}, channels=4)},
]


def randomized(config: UNetConfig, condition_channels: int = 3) -> UNet:
    """A network none of whose parameters has a neutral value."""
    network = UNet(config, condition_channels)
    for parameter in network.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.weight.data.normal_()  # a negative scale turns signs
            module.mean.normal_()
            module.variance.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_the_inference_form_equals_the_trained_one(switch):
    config = dataclasses.replace(TINY, **switch)
    network = randomized(config, condition_channels=6)
    x, condition, t = torch.randn(2, 3, 16, 32), torch.randn(2, 6, 16, 32), torch.tensor([900, 900])
    with torch.no_grad():
        expected = network(x, condition, t)
        assert expected.shape == x.shape
        frozen = freeze(network)
        assert not any(isinstance(module, BIConv) for module in frozen.modules())
        torch.testing.assert_close(frozen(x, condition, t), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("switch", [s for s in SWITCHES if s], ids=str)
def test_every_switch_changes_the_network(switch):
    def shapes(config: UNetConfig) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in UNet(config).state_dict().items()}

    config = dataclasses.replace(TINY, **switch)
    if switch in ({"identity": False}, {"fusion": "split"}):  # these have no parameters
        torch.manual_seed(1)
        one = randomized(TINY)
        two = UNet(config)
        two.load_state_dict(one.state_dict())
        x, t = torch.randn(1, 3, 16, 16), torch.tensor([3])
        assert not torch.allclose(one(x, x, t), two(x, x, t))
    else:
        assert shapes(config) != shapes(TINY)


def test_gradients_reach_every_parameter_of_the_asked_group():
    network = randomized(TINY)
    x = torch.randn(1, 3, 16, 16)
    network(x, x, torch.tensor([850])).square().mean().backward()  # group 2 of 5
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        if ".tar." in name or ".taa." in name:
            assert not parameter.grad[[0, 1, 3, 4]].any(), name


@pytest.mark.parametrize(("t", "group"), [(0, 0), (399, 0), (400, 1), (1199, 2), (1200, 3), (1999, 4)])
def test_time_steps_are_split_evenly_into_groups(t, group):
    assert TimestepContext(torch.zeros(1, 1), t, 2000).group(5) == group
    assert TimestepContext(torch.zeros(1, 1), t, 2000).group(1) == 0


def test_the_weight_is_binarized_once():
    conv = BIConv(8, 8, 3, tar_groups=5, taa_groups=5)
    frozen = FrozenBIConv(PackedBIConv(conv))
    assert torch.equal(frozen.weight, torch.where(conv.weight >= 0, 1.0, -1.0))
    torch.testing.assert_close(frozen.alpha, conv.weight.detach().abs().mean((1, 2, 3)))
