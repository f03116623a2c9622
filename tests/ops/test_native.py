"""The native engine equals its definition, on every instruction set of this machine and any number of threads."""

import dataclasses
import os
import threading

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_native
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bidiffsr_cli.ops import BinaryConv, FullConv, Segment, native, reference
from bidiffsr_cli.ops.packing import pack_signs
from bidiffsr_cli.runtime import one_torch_thread

ISAS = native.supported_isas()
pytestmark = needs_native

SIDES = st.one_of(st.integers(1, 5), st.integers(6, 40))
CHANNELS = st.one_of(st.integers(1, 9), st.integers(10, 150), st.sampled_from([16, 32, 64, 96, 128]))
THREADS = st.integers(1, 5)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_torch_thread():  # for its threads spin, which a busy machine pays dearly for
        yield


def feature_map(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def random_conv(
    inputs: int, outputs: int, kernel: int, segments: tuple[Segment, ...] = (), identity: str = "after"
) -> BinaryConv:
    signs = torch.randint(0, 2, (outputs, inputs, kernel, kernel)).float() * 2 - 1
    return BinaryConv(
        weight=signs,
        alpha=torch.rand(outputs) / inputs**0.5,
        tar=torch.randn(inputs) * 0.3,
        shift=torch.randn(outputs),
        slope=torch.randn(outputs),
        offset=torch.randn(outputs),
        kernel=kernel,
        identity=identity if inputs == outputs else "none",
        segments=segments or (Segment(0, 0, 1, inputs),),
    )


def prepared(conv: BinaryConv, isa: str) -> BinaryConv:
    weight = native.prepare(isa, pack_signs(conv.weight), conv.weight.shape[1], conv.kernel)
    return dataclasses.replace(conv, weight=weight)


def assert_equals_reference(sources, convs, threads: int = 2, **around) -> None:
    """Every bit of the result is the reference's; the moments are, up to the order of a row's sum."""
    expected = reference.binary_block(sources, convs, **around)
    for isa in ISAS:
        y, moments = native.binary_block(isa, threads, sources, [prepared(conv, isa) for conv in convs], **around)
        assert torch.equal(y, expected), (isa, (y - expected).abs().max())
        torch.testing.assert_close(moments, reference.moments(expected), rtol=1e-4, atol=1e-3)


def test_a_machine_of_this_kind_has_more_than_the_portable_code():
    assert ISAS[0] == "portable" and len(ISAS) > 1  # x86 since 2013, and every 64-bit Arm


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_sums_of_signs_are_exactly_those_of_conv2d(isa, data, kernel, threads):
    batch, height, width = data.draw(st.integers(1, 3)), data.draw(SIDES), data.draw(SIDES)
    inputs, outputs = data.draw(CHANNELS), data.draw(CHANNELS)
    x = feature_map(batch, inputs, height, width)
    neutral = torch.zeros(outputs)
    conv = dataclasses.replace(
        random_conv(inputs, outputs, kernel, identity="none"),
        alpha=torch.ones(outputs),
        shift=neutral,
        slope=torch.ones(outputs),
        offset=neutral,
    )
    signs = torch.where(x + conv.tar.view(-1, 1, 1) >= 0, 1.0, -1.0)
    expected = F.conv2d(signs, conv.weight, padding=kernel // 2)
    y, _ = native.binary_block(isa, threads, [x], [prepared(conv, isa)])
    assert torch.equal(y, expected)


@given(data=st.data(), kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_one_convolution_with_everything_around_it(data, kernel, threads):
    batch, height, width = data.draw(st.integers(1, 2)), data.draw(SIDES), data.draw(SIDES)
    inputs = data.draw(CHANNELS)
    outputs = data.draw(st.one_of(st.just(inputs), CHANNELS))
    around = {}
    if data.draw(st.booleans()):
        around["addend"] = torch.randn(batch, outputs)
    if data.draw(st.booleans()):
        around["residual"] = feature_map(batch, outputs, height, width)
    x = feature_map(batch, inputs, height, width)
    identity = data.draw(st.sampled_from(["none", "before", "after"]))
    assert_equals_reference([x], [random_conv(inputs, outputs, kernel, identity=identity)], threads, **around)


@given(half=st.integers(1, 70), height=SIDES, width=SIDES, kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_channel_shuffle_fusion(half, height, width, kernel, threads):
    channels = 2 * half
    sources = [feature_map(2, channels, height, width) for _ in range(2)]
    convs = [
        random_conv(channels, channels, kernel, (Segment(0, 1, 2, half), Segment(1, 0, 2, half))),
        random_conv(channels, channels, kernel, (Segment(0, 0, 2, half), Segment(1, 1, 2, half))),
    ]
    assert_equals_reference(sources, convs, threads)


@given(half=st.integers(1, 70), height=st.integers(1, 12), width=st.integers(1, 12), threads=THREADS)
def test_halves_added_and_unshuffled(half, height, width, threads):
    x = feature_map(2, 2 * half, 2 * height, 2 * width)
    convs = [random_conv(half, half, 3, (Segment(0, index * half, 1, half),)) for index in range(2)]
    assert_equals_reference([x], convs, threads, arrangement="unshuffle")


@given(quarter=st.integers(1, 40), height=SIDES, width=SIDES, threads=THREADS)
def test_two_side_by_side_and_shuffled(quarter, height, width, threads):
    channels = 4 * quarter
    x = feature_map(2, channels, height, width)
    convs = [random_conv(channels, channels, 3) for _ in range(2)]
    assert_equals_reference([x], convs, threads, concatenate=True, arrangement="shuffle")


@given(channels=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_normalized_and_activated(channels, height, width, threads):
    """Behind SiLU bits can differ where a value is next to zero, so what differs is counted."""
    x = feature_map(2, channels, height, width)
    norm = torch.rand(2, channels) * 3, torch.randn(2, channels)
    conv = random_conv(channels, channels, 3)
    expected = reference.binary_block([x], [conv], norm=norm)
    results = [native.binary_block(isa, threads, [x], [prepared(conv, isa)], norm=norm)[0] for isa in ISAS]
    assert all(torch.equal(result, results[0]) for result in results)  # instruction sets agree to the bit even here
    flipped = ~torch.isclose(results[0], expected, rtol=1e-5, atol=1e-5)
    assert flipped.sum() <= 9 * channels  # one flipped sign reaches nine pixels


def prepared_full(conv: FullConv, isa: str) -> FullConv:
    return dataclasses.replace(conv, weight=native.prepare_full(isa, conv.weight, conv.dtype))


def silu(isa: str, x: Tensor) -> Tensor:
    """What the engine makes of one channel, which a convolution of weight 1 hands through."""
    one = prepared_full(FullConv(torch.ones(1, 1, 1, 1), torch.zeros(1), 1), isa)
    return native.full_conv(isa, 1, [x.view(1, 1, 1, -1)], one, norm=(torch.ones(1, 1), torch.zeros(1, 1)))[0].flatten()


@pytest.mark.parametrize("isa", ISAS)
def test_silu_of_huge_values(isa):
    x = torch.tensor([1e25, 90.0, 88.0, -88.0, -90.0, -1e25, float("inf"), float("nan")])
    expected = torch.tensor([1e25, 90.0, 88.0, 0.0, 0.0, 0.0, float("inf"), float("nan")])
    torch.testing.assert_close(silu(isa, x), expected, atol=1e-10, rtol=0, equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
@given(st.integers(-80, 80), st.integers(1, 640))
def test_silu_is_exact_to_a_few_roundings(isa, first, count):
    x = first + torch.rand(count) * 3
    # exp(-x) inherits the rounding of x itself
    torch.testing.assert_close(silu(isa, x).double(), F.silu(x.double()), rtol=3e-7 + 1e-7 * abs(first), atol=1e-35)


def random_full_conv(inputs: int, outputs: int, kernel: int, dtype: torch.dtype) -> FullConv:
    weight = torch.randn(outputs, inputs, kernel, kernel) / (inputs**0.5 * kernel)
    return FullConv(weight, torch.randn(outputs), kernel, dtype)


def assert_full_conv_equals_reference(sources, conv: FullConv, threads: int, **around) -> None:
    """Up to the order of sums; the same bytes on all threads, and on instruction sets that multiply and add at once."""
    expected = reference.full_conv(sources, conv, **around)
    fused = []
    for isa in ISAS:
        own = prepared_full(conv, isa)
        y, moments = native.full_conv(isa, threads, sources, own, **around)
        # a value that lies between two of bfloat16 is rounded to either, as its SiLU differs by a last bit
        tolerance = 3e-2 if conv.dtype == torch.bfloat16 and around.get("norm") is not None else 2e-5
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
        assert torch.equal(y, native.full_conv(isa, 1, sources, own, **around)[0])
        if not around.get("shuffle"):
            torch.testing.assert_close(moments, reference.moments(y), rtol=1e-4, atol=1e-3)
        fused += [y] if isa != "portable" and conv.dtype == torch.float32 else []
    assert all(torch.equal(y, fused[0]) for y in fused)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(data=st.data(), kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_a_full_precision_convolution_with_everything_around_it(dtype, data, kernel, threads):
    batch, height, width = data.draw(st.integers(1, 2)), data.draw(SIDES), data.draw(SIDES)
    inputs, outputs = data.draw(CHANNELS), data.draw(CHANNELS)
    around = {}
    if data.draw(st.booleans()):
        around["norm"] = torch.rand(batch, inputs) * 2, torch.randn(batch, inputs)
    if data.draw(st.booleans()):
        around["addend"] = torch.randn(batch, outputs)
    if data.draw(st.booleans()):
        around["residual"] = feature_map(batch, outputs, height, width)
    conv = random_full_conv(inputs, outputs, kernel, dtype)
    assert_full_conv_equals_reference([feature_map(batch, inputs, height, width)], conv, threads, **around)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(inputs=st.lists(CHANNELS, min_size=2, max_size=2), outputs=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_channels_of_two_sources_lie_side_by_side(dtype, inputs, outputs, height, width, threads):
    sources = [feature_map(2, count, height, width) for count in inputs]
    assert_full_conv_equals_reference(sources, random_full_conv(sum(inputs), outputs, 1, dtype), threads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(data=st.data(), r=st.integers(1, 3), threads=THREADS)
def test_planes_are_unshuffled_and_shuffled_back(dtype, data, r, threads):
    height, width, channels = data.draw(SIDES), data.draw(SIDES), data.draw(st.integers(1, 9))
    planes = [torch.randn(2, count, height * r, width * r) for count in (channels, 3)]
    conv = random_full_conv((channels + 3) * r**2, 3 * r**2, 3, dtype)
    assert_full_conv_equals_reference(planes, conv, threads, unshuffle=r, shuffle=r)


@pytest.mark.parametrize("isa", ISAS)
@given(batch=st.integers(1, 2), channels=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_attention(isa, batch, channels, height, width, threads):
    x, norm = feature_map(batch, channels, height, width), (torch.rand(batch, channels), torch.randn(batch, channels))
    convs = [random_full_conv(channels, outputs, 1, torch.float32) for outputs in (3 * channels, channels)]
    expected = reference.attention(x, norm, *convs)
    own = [prepared_full(conv, isa) for conv in convs]
    y, moments = native.attention(isa, threads, x, norm, *own)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments, reference.moments(y), rtol=1e-4, atol=1e-3)
    assert torch.equal(y, native.attention(isa, 1, x, norm, *own)[0])


def test_attention_to_scores_far_apart():
    """One key takes everything; the others' shares are below what a float holds."""
    x = torch.zeros(1, 4, 1, 40).contiguous(memory_format=torch.channels_last)
    x[0, :, 0, 17] = 30.0
    weight = torch.eye(4).repeat(3, 1).view(12, 4, 1, 1)
    convs = FullConv(weight, torch.zeros(12), 1), FullConv(torch.eye(4).view(4, 4, 1, 1), torch.zeros(4), 1)
    norm = torch.ones(1, 4), torch.zeros(1, 4)
    for isa in ISAS:
        y, _ = native.attention(isa, 2, x, norm, *(prepared_full(conv, isa) for conv in convs))
        torch.testing.assert_close(y, reference.attention(x, norm, *convs))


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), threads=THREADS, mean=st.sampled_from([0.0, 3.0, -30.0]))
def test_a_norm_from_the_moments_of_rows(isa, data, threads, mean):
    batch, groups, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8)), data.draw(st.integers(1, 9))
    channels, height, width = groups * size, data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
    x = feature_map(batch, channels, height, width) + mean
    gamma, beta = torch.randn(channels), torch.randn(channels)
    sums = native.moments(isa, threads, x)
    torch.testing.assert_close(sums, reference.moments(x), rtol=1e-4, atol=1e-3)
    scale, shift = native.norm_coefficients(sums, width, groups, 1e-5, gamma, beta)
    normed = x * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(normed, F.group_norm(x, groups, gamma, beta), rtol=1e-3, atol=5e-3)
    wanted = reference.norm_coefficients(x, groups, 1e-5, gamma, beta)
    torch.testing.assert_close((scale, shift), wanted, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("isa", ISAS)
def test_bytes_do_not_depend_on_threads(isa):
    x, time = feature_map(2, 64, 50, 37), torch.randn(2, 64)
    norm = torch.rand(2, 64), torch.randn(2, 64)
    conv = prepared(random_conv(64, 64, 3), isa)
    results = [native.binary_block(isa, n, [x], [conv], norm=norm, addend=time, residual=x) for n in (1, 2, 3, 7, 64)]
    for y, moments in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(moments, results[0][1])


def test_many_callers_at_once():
    x, conv = feature_map(1, 64, 64, 64), prepared(random_conv(64, 64, 3), ISAS[-1])
    expected, _ = native.binary_block(ISAS[-1], 1, [x], [conv])
    wrong = []

    def call() -> None:
        for _ in range(20):
            y, _ = native.binary_block(ISAS[-1], 3, [x], [conv])
            if not torch.equal(y, expected):
                wrong.append(y)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_computes_too():
    x, conv = feature_map(1, 32, 64, 64), prepared(random_conv(32, 32, 3), ISAS[-1])
    expected, _ = native.binary_block(ISAS[-1], 4, [x], [conv])
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # torch's own threads do not survive a fork
        y, _ = native.binary_block(ISAS[-1], 4, [x], [conv])
        os._exit(0 if torch.equal(y, expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_weights_take_one_bit_each_in_memory():
    signs = pack_signs(torch.randn(256, 256, 3, 3))
    sizes = {isa: native.prepare(isa, signs, 256, 3).numel() for isa in ISAS}
    taps = 256 * 9 * 4  # the number of set bits of each tap
    assert all(size == signs.numel() * (2 if isa == "avx2" else 1) + taps for isa, size in sizes.items())


@pytest.mark.parametrize("isa", ISAS)
def test_what_does_not_fit_is_refused_before_it_is_read(isa):
    x, conv = feature_map(1, 32, 6, 6), prepared(random_conv(32, 32, 3), isa)
    wrong = [
        ([torch.randn(1, 32, 6, 6)], [conv], {}),  # not channels last
        ([x.double()], [conv], {}),
        ([x], [dataclasses.replace(conv, weight=conv.weight[:-1])], {}),
        ([x], [dataclasses.replace(conv, tar=conv.tar[:-1])], {}),
        ([x], [dataclasses.replace(conv, slope=torch.zeros(64)[::2])], {}),
        ([x], [dataclasses.replace(conv, segments=(Segment(0, 1, 1, 32),))], {}),
        ([x], [dataclasses.replace(conv, segments=(Segment(0, 0, 2, 32),))], {}),
        ([x], [conv], {"residual": feature_map(1, 32, 6, 7)}),
        ([x], [conv], {"addend": torch.zeros(2, 32)}),
        ([x], [conv], {"norm": (torch.zeros(1, 31), torch.zeros(1, 31))}),
        ([feature_map(1, 32, 5, 6)], [conv], {"arrangement": "unshuffle"}),
        ([x, feature_map(1, 32, 6, 5)], [conv], {}),
        ([x], [conv], {"arrangement": "shuffle", "addend": torch.zeros(1, 32)}),
        ([x], [dataclasses.replace(conv, kernel=5)], {}),
        ([x], [dataclasses.replace(conv, segments=(Segment(-1, 0, 1, 32),))], {}),
    ]
    for sources, convs, around in wrong:
        with pytest.raises(ValueError):
            native.binary_block(isa, 1, sources, convs, **around)


@pytest.mark.parametrize("isa", ISAS)
def test_full_precision_operations_refuse_it_too(isa):
    x = feature_map(1, 8, 6, 6)
    conv = prepared_full(random_full_conv(8, 8, 3, torch.float32), isa)
    wrong = [
        ([torch.randn(1, 8, 6, 6)], conv, {}),  # not channels last
        ([x.double()], conv, {}),
        ([x, feature_map(1, 8, 6, 5)], conv, {}),
        ([x], dataclasses.replace(conv, weight=conv.weight[:-1]), {}),
        ([x], dataclasses.replace(conv, dtype=torch.bfloat16), {}),
        ([x], conv, {"residual": feature_map(1, 8, 6, 7)}),
        ([x], conv, {"addend": torch.zeros(2, 8)}),
        ([x], conv, {"norm": (torch.zeros(1, 7), torch.zeros(1, 7))}),
        ([x, x], conv, {"norm": (torch.zeros(1, 8), torch.zeros(1, 8))}),
        ([x], conv, {"shuffle": 3}),
        ([x.contiguous()], conv, {"unshuffle": 4}),
    ]
    for sources, own, around in wrong:
        with pytest.raises(ValueError):
            native.full_conv(isa, 1, sources, own, **around)
    with pytest.raises(ValueError):
        native.attention(isa, 1, x, (torch.zeros(1, 8), torch.zeros(1, 8)), conv, conv)


def test_the_figures_that_bench_divides_by_are_sane():
    clock = native.clock_rate()
    assert 2e8 < clock < 2e10
    for isa in ISAS[1:]:
        assert 8 < native.peak_rate(isa) / clock < 2048
    assert native.peak_rate("portable") == 0
