"""Every method of the paper's table 2, on SR3's network and on BI-DiffSR's: trained, folded, packed, on the engine."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_native

from bidiffsr_cli.configs import METHODS
from bidiffsr_cli.errors import CheckpointError
from bidiffsr_cli.networks.binary_conv import (
    BatchNorm,
    BatchNormConv,
    BIConv,
    FullPrecisionConv,
    ReActNetConv,
    anneal,
    convs_of,
    measuring,
)
from bidiffsr_cli.networks.blueprint import Conv
from bidiffsr_cli.networks.latent_conv import LatentConv
from bidiffsr_cli.networks.native_unet import NativeUNet
from bidiffsr_cli.networks.packed import PackedBIConv, freeze, pack
from bidiffsr_cli.networks.systems import SYSTEMS, find_system
from bidiffsr_cli.networks.time_aware import TimestepContext
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.ops import native
from bidiffsr_cli.ops.threads import using_threads
from bidiffsr_cli.runtime import one_torch_thread
from networks.test_native import inputs_without_close_calls, parts_of
from networks.test_unet import TINY, randomized

FIXED = {"tar_groups": 1, "taa_groups": 1}
CTX = TimestepContext(torch.zeros(1, 1), 900, 2000)
METHODS_OF_TABLE_2 = ["bnn", "dorefa", "xnor", "irnet", "reactnet", "bbcu"]


def of(method: str, kind: str = "sr3"):
    """A tiny network's config."""
    if kind == "sr3":
        system = find_system("bnn" if method != "full_precision" else "sr3")
        return dataclasses.replace(system.applied_to(TINY), method=method)
    return dataclasses.replace(TINY, method=method, **FIXED)


def conv_of(config, inputs, outputs, stride=1):
    """A binary convolution of 3×3 by the config's method."""
    return convs_of(config)(Conv("", inputs, outputs, 3, 0, full=False, stride=stride))


EVERY = [(method, kind) for method in METHODS if method != "bi_diffsr" for kind in ("sr3", "bi_diffsr")]


@pytest.mark.parametrize(("method", "kind"), EVERY)
def test_the_inference_form_equals_the_trained_one(method, kind, monkeypatch):
    network = randomized(of(method, kind), condition_channels=6).eval()
    with torch.inference_mode():
        frozen = freeze(copy.deepcopy(network))
        if METHODS[method]:
            drawn = torch.randn(2, 3, 8, 16), torch.randn(2, 6, 8, 16), torch.full((2,), 900)
            expected = frozen(*drawn)
        else:
            assert not any(isinstance(module, LatentConv) for module in frozen.modules())
            drawn, expected = inputs_without_close_calls(frozen, monkeypatch)
        torch.testing.assert_close(network(*drawn), expected, rtol=1e-3, atol=1e-4)


@needs_native
@pytest.mark.parametrize(("method", "kind"), [pair for pair in EVERY if not METHODS[pair[0]]])
def test_on_the_native_engine(method, kind, monkeypatch):
    network = randomized(of(method, kind), condition_channels=6).eval()
    with torch.inference_mode(), one_torch_thread():
        drawn, expected = inputs_without_close_calls(freeze(copy.deepcopy(network)), monkeypatch)
        for isa in native.supported_isas():
            packed = pack(copy.deepcopy(network))
            assert sum(isinstance(module, PackedBIConv) for module in packed.modules()) >= 10
            engine = NativeUNet(*parts_of(packed), isa, "float32")
            torch.testing.assert_close(engine(*drawn), expected, rtol=1e-3, atol=1e-4)


@needs_native
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_do_not_change_a_byte(dtype):
    network = pack(randomized(of("reactnet"), condition_channels=6).eval())
    drawn = torch.randn(1, 3, 64, 48), torch.randn(1, 6, 64, 48), torch.full((1,), 900)
    for isa in native.supported_isas():
        engine = NativeUNet(*parts_of(network), isa, dtype)
        alone = engine(*drawn)
        for count in (2, 5):
            with using_threads(count):
                assert torch.equal(engine(*drawn), alone) and bool(alone.isfinite().all())


@pytest.mark.parametrize("method", [method for method in METHODS if METHODS[method]])
def test_what_cannot_be_packed_stays(method):
    network = pack(UNet(of(method)))
    assert not any(isinstance(module, PackedBIConv) for module in network.modules())


@pytest.mark.parametrize(("method", "kind"), EVERY)
def test_gradients_reach_every_parameter(method, kind):
    network = randomized(of(method, kind)).train()
    x = torch.randn(2, 3, 16, 16)
    network(x, x, torch.tensor([850, 850])).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_units_are_those_of_the_papers():
    """Each unit by its formula, on one convolution."""
    x = torch.randn(2, 8, 6, 6)
    signs = torch.where(x >= 0, 1.0, -1.0)
    for method in METHODS_OF_TABLE_2:
        conv = conv_of(of(method), 8, 8).eval()
        for parameter in conv.parameters():
            parameter.data.normal_()
        for norm in (module for module in conv.modules() if isinstance(module, BatchNorm)):
            norm.mean.normal_(), norm.variance.uniform_(0.5, 2)
        w = conv.weight.detach()
        signs_of_w, alpha = torch.where(w >= 0, 1.0, -1.0), w.abs().mean((1, 2, 3), keepdim=True)
        with torch.no_grad():
            found = conv(x, CTX)
            if isinstance(conv, BIConv):
                shifted = torch.where(x + conv.tar.bias[0].view(-1, 1, 1) >= 0, 1.0, -1.0)
                sums = F.conv2d(shifted, alpha * signs_of_w, padding=1)
                shift, slope, offset = (p[0] for p in (conv.taa.shift, conv.taa.slope, conv.taa.offset))
                inner = conv.norm(sums) + x if isinstance(conv, ReActNetConv) else sums
                expected = F.prelu(inner + shift.view(-1, 1, 1), slope) + offset.view(-1, 1, 1)
                expected = expected if isinstance(conv, ReActNetConv) else expected + x
            else:
                u = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
                weights = {
                    "bnn": signs_of_w,
                    "dorefa": w.abs().mean() * signs_of_w,
                    "xnor": alpha * signs_of_w,
                    "irnet": 2 ** u.abs().mean((1, 2, 3), keepdim=True).log2().round() * u.sign(),
                }
                norm, sums = conv.norm, F.conv2d(signs, weights[method], padding=1)
                mean, variance, gamma, beta = (
                    v.view(-1, 1, 1) for v in (norm.mean, norm.variance, norm.weight, norm.bias)
                )
                expected = (sums - mean) / (variance + 1e-5).sqrt() * gamma + beta
                expected = expected + x if method == "irnet" else expected
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda text, m=method: f"{m}: {text}")


def test_xnor_with_its_map_of_scales():
    conv, x = conv_of(of("xnor_map"), 4, 6), torch.randn(1, 4, 5, 5)
    padded = F.pad(x.abs().mean(1), (1, 1, 1, 1))
    expected = sum(padded[:, i : i + 5, j : j + 5] for i in range(3) for j in range(3)) / 9
    torch.testing.assert_close(conv.scale_map(x)[:, 0], expected)
    plain = conv_of(of("xnor"), 4, 6)
    plain.load_state_dict(conv.state_dict())
    mapped, unmapped = conv.eval()(x, CTX), plain.eval()(x, CTX)
    torch.testing.assert_close(mapped, unmapped * expected, rtol=1e-4, atol=1e-5)  # the norm is an identity yet


def test_dorefa_with_zero_and_one():
    conv, x = conv_of(of("dorefa_01"), 4, 6).eval(), torch.randn(1, 4, 5, 5)
    w = conv.weight.detach()
    expected = F.conv2d((x > 0.5).float(), w.abs().mean() * torch.where(w >= 0, 1.0, -1.0), padding=1)
    torch.testing.assert_close(conv(x, CTX), expected / (1 + 1e-5) ** 0.5)


def test_identity_is_of_the_methods_that_know_one():
    for method, identity in {
        "bnn": "none",
        "dorefa": "none",
        "xnor": "none",
        "irnet": "after",
        "reactnet": "before",
        "bbcu": "after",
    }.items():
        config = of(method)
        assert conv_of(config, 8, 8).identity == identity
        assert conv_of(config, 8, 4).identity == "none" and conv_of(config, 8, 8, 2).identity == "none"
        assert conv_of(dataclasses.replace(config, identity=False), 8, 8).identity == "none"


def test_irnets_gradients_sharpen_while_training_goes_on():
    network = UNet(of("irnet"))
    convs = [module for module in network.modules() if isinstance(module, BatchNormConv)]
    x = torch.linspace(-2, 2, 64).view(1, 1, 8, 8).repeat(1, convs[0].weight.shape[1], 1, 1)
    slopes = []
    for part_done in (0.0, 1.0):
        anneal(network, part_done)
        assert all(torch.equal(conv.ede, convs[0].ede) for conv in convs)
        y = x.clone().requires_grad_()
        convs[0].quantized(y).sum().backward()
        slopes.append(y.grad[0, 0].flatten())
    torch.testing.assert_close(slopes[0], torch.ones(64), atol=1e-4, rtol=0)  # an identity's
    assert slopes[1].max() > 9 and slopes[1][0] < 1e-6  # almost a step's


def test_statistics_are_those_of_all_batches_together():
    norm = BatchNorm(3).train()
    batches = [torch.randn(4, 3, 5, 5) * scale + shift for scale, shift in ((1, 0), (3, 2), (0.5, -1))]
    with measuring(norm):
        for batch in batches:
            torch.testing.assert_close(norm(batch), F.batch_norm(batch, None, None, training=True))
    everything = torch.cat(batches)
    torch.testing.assert_close(norm.mean, everything.mean((0, 2, 3)))
    torch.testing.assert_close(norm.variance, everything.var((0, 2, 3)), rtol=0.02, atol=0)
    before = norm.mean.clone()
    norm(batches[0])
    assert torch.equal(norm.mean, before)
    expected = F.batch_norm(batches[0], norm.mean, norm.variance)
    torch.testing.assert_close(norm.eval()(batches[0]), expected)


def test_the_full_precision_blocks_are_a_list():
    config = find_system("bnn").applied_to(dataclasses.replace(TINY, channel_mults=(1, 2, 4, 8), res_blocks=2))
    network = UNet(config)
    full = {
        name.rpartition(".")[0]
        for name, module in network.named_modules()
        if isinstance(module, FullPrecisionConv) and name.endswith("conv1")
    }
    assert full == {"decoder.2.blocks.0", "decoder.2.blocks.1", "decoder.2.blocks.2", "decoder.3.blocks.2"}
    other = dataclasses.replace(config, full_precision_levels=(), full_precision_blocks=("encoder.0", "middle.1"))
    kinds = {name: type(module) for name, module in UNet(other).named_modules()}
    assert kinds["encoder.0.conv1"] is kinds["middle.1.conv2"] is FullPrecisionConv
    assert kinds["encoder.1.conv1"] is kinds["decoder.2.blocks.1.conv1"] is BatchNormConv
    for wrong in ("encoder.2", "middle.2", "decoder.4.blocks.0", "head"):
        with pytest.raises(CheckpointError, match="full_precision_blocks"):
            dataclasses.replace(config, full_precision_blocks=(wrong,))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_of_the_paper_computes(system):
    config = system.applied_to(TINY)
    network = UNet(config).eval()
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([100])
    with torch.no_grad():
        assert network(x, x, t).shape == x.shape


def test_a_system_is_what_it_is_whatever_was_there_before():
    for one in SYSTEMS:
        for other in SYSTEMS:
            assert one.applied_to(other.applied_to(TINY)) == one.applied_to(TINY)


def test_switches_that_do_not_go_together():
    for wrong in ({"type": "sr3"}, {"fusion": "join"}, {"resample": "strided"}, {"method": "bnn"}, {"method": "other"}):
        with pytest.raises(CheckpointError):
            dataclasses.replace(TINY, **wrong)
