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

from bidiffsr_cli.ops import (
    Add,
    Array,
    Attention,
    BinaryBlock,
    BinaryConv,
    FullConv,
    Join,
    Linear,
    Norm,
    Program,
    Segment,
    TimeEmbedding,
    native,
    reference,
)
from bidiffsr_cli.ops.packing import pack_signs
from bidiffsr_cli.runtime import one_torch_thread

ISAS = native.supported_isas()
FUSED = [isa for isa in ISAS if isa != "portable"]
"""Those that multiply and add at once."""
pytestmark = needs_native

SIDES = st.one_of(st.integers(1, 5), st.integers(6, 40))
CHANNELS = st.one_of(st.integers(1, 9), st.integers(10, 150), st.sampled_from([16, 32, 64, 96, 128]))
PAIRS = st.lists(CHANNELS, min_size=2, max_size=2) | CHANNELS.map(lambda count: [count, count])
THREADS = st.integers(1, 5)
EMBEDDED, STEPS = 8, 2000
KERNELS_AND_TYPES = [(1, "float32"), (1, "bfloat16"), (3, "float32")]
"""What full-precision convolutions there are."""


@pytest.fixture(autouse=True)
def _one_thread():
    with torch.inference_mode(), one_torch_thread():  # for its threads spin, which a busy machine pays dearly for
        yield


array = Array.of


def feature_map(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def linear(inputs: int, outputs: int) -> Linear:
    return Linear(array(torch.randn(outputs, inputs) / inputs**0.5), array(torch.randn(outputs)))


def norm_for(channels: int, groups: int = 1) -> Norm:
    return Norm(groups, 1e-5, array(torch.rand(channels) * 2), array(torch.randn(channels)))


def random_conv(
    inputs: int,
    outputs: int,
    kernel: int,
    segments: tuple[Segment, ...] = (),
    identity: str = "after",
    groups: tuple[int, int] = (1, 1),
) -> BinaryConv:
    return BinaryConv(
        signs=array(pack_signs(torch.randn(outputs, inputs, kernel, kernel))),
        alpha=array(torch.rand(outputs) / inputs**0.5),
        tar=array(torch.randn(groups[0], inputs) * 0.3),
        shift=array(torch.randn(groups[1], outputs)),
        slope=array(torch.randn(groups[1], outputs)),
        offset=array(torch.randn(groups[1], outputs)),
        kernel=kernel,
        identity=identity if inputs == outputs else "none",
        segments=segments or (Segment(0, 0, 1, inputs),),
    )


def program(inputs: list[Tensor], *operations, planes: bool = False) -> Program:
    embedding = TimeEmbedding(linear(EMBEDDED, 4 * EMBEDDED), linear(4 * EMBEDDED, EMBEDDED), swish=True)
    return Program(tuple(source.shape[1] for source in inputs), operations, STEPS, embedding, planes)


def run(isa: str, made: Program, inputs: list[Tensor], threads: int = 1, step: int = 900) -> Tensor:
    return native.NativeProgram(isa, made)(inputs, [step] * len(inputs[0]), step, threads)


def expected_of(made: Program, inputs: list[Tensor], step: int = 900) -> Tensor:
    return reference.run(made, inputs, torch.full((len(inputs[0]),), step), step)[-1]


def assert_equals_reference(inputs, *operations, threads: int = 2, step: int = 900) -> None:
    """Every bit is the reference's; with a time embedding, up to the order of its sums."""
    made = program(inputs, *operations)
    expected = expected_of(made, inputs, step)
    results = [run(isa, made, inputs, threads, step) for isa in ISAS]
    if any(getattr(operation, "time", None) for operation in operations):
        torch.testing.assert_close(results[0], expected, rtol=1e-4, atol=1e-4)
        expected = results[0]
    for isa, result in zip(ISAS, results, strict=True):
        assert torch.equal(result, expected), (isa, (result - expected).abs().max())


def test_a_machine_of_this_kind_has_more_than_the_portable_code():
    assert ISAS[0] == "portable" and len(ISAS) > 1  # x86 since 2013, and every 64-bit Arm


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_sums_of_signs_are_exactly_those_of_conv2d(isa, data, kernel, threads):
    batch, height, width = data.draw(st.integers(1, 3)), data.draw(SIDES), data.draw(SIDES)
    inputs, outputs = data.draw(CHANNELS), data.draw(CHANNELS)
    x, weight = feature_map(batch, inputs, height, width), torch.randn(outputs, inputs, kernel, kernel)
    neutral = Array.empty((1, outputs))
    conv = dataclasses.replace(
        random_conv(inputs, outputs, kernel, identity="none"),
        signs=array(pack_signs(weight)),
        alpha=array(torch.ones(outputs)),
        shift=neutral,
        slope=array(torch.ones(1, outputs)),
        offset=neutral,
    )
    signs = torch.where(x + conv.tar.tensor().view(-1, 1, 1) >= 0, 1.0, -1.0)
    expected = F.conv2d(signs, torch.where(weight >= 0, 1.0, -1.0), padding=kernel // 2)
    assert torch.equal(run(isa, program([x], BinaryBlock((0,), (conv,))), [x], threads), expected)


@given(data=st.data(), kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_one_convolution_with_everything_around_it(data, kernel, threads):
    batch, height, width = data.draw(st.integers(1, 2)), data.draw(SIDES), data.draw(SIDES)
    inputs = data.draw(CHANNELS)
    outputs = data.draw(st.one_of(st.just(inputs), CHANNELS))
    identity = data.draw(st.sampled_from(["none", "before", "after"]))
    groups = data.draw(st.sampled_from([(1, 1), (5, 1), (2, 5)]))
    conv = random_conv(inputs, outputs, kernel, identity=identity, groups=groups)
    time = linear(EMBEDDED, outputs) if data.draw(st.booleans()) else None
    residual = 1 if data.draw(st.booleans()) else None
    maps = [feature_map(batch, channels, height, width) for channels in (inputs, outputs)]
    block = BinaryBlock((0,), (conv,), time=time, residual=residual)
    assert_equals_reference(maps, block, threads=threads, step=data.draw(st.integers(0, STEPS - 1)))


@pytest.mark.parametrize("isa", ISAS)
def test_minus_zero_is_plus_one(isa):
    """Also where x and TaR are -0.0 both, whose sum is."""
    x = torch.full((1, 32, 4, 4), -0.0).contiguous(memory_format=torch.channels_last)
    conv = dataclasses.replace(random_conv(32, 32, 3), tar=array(torch.full((1, 32), -0.0)))
    made = program([x], BinaryBlock((0,), (conv,)))
    assert torch.equal(run(isa, made, [x]), expected_of(made, [x]))
    assert torch.equal(run(isa, made, [x]), run(isa, made, [-x]))


@given(half=st.integers(1, 70), height=SIDES, width=SIDES, kernel=st.sampled_from([1, 3]), threads=THREADS)
def test_channel_shuffle_fusion(half, height, width, kernel, threads):
    channels = 2 * half
    convs = (
        random_conv(channels, channels, kernel, (Segment(0, 1, 2, half), Segment(1, 0, 2, half))),
        random_conv(channels, channels, kernel, (Segment(0, 0, 2, half), Segment(1, 1, 2, half))),
    )
    sources = [feature_map(2, channels, height, width) for _ in range(2)]
    assert_equals_reference(sources, BinaryBlock((0, 1), convs), threads=threads)


@given(half=st.integers(1, 70), height=st.integers(1, 12), width=st.integers(1, 12), threads=THREADS)
def test_halves_added_and_unshuffled(half, height, width, threads):
    convs = tuple(random_conv(half, half, 3, (Segment(0, index * half, 1, half),)) for index in range(2))
    x = feature_map(2, 2 * half, 2 * height, 2 * width)
    assert_equals_reference([x], BinaryBlock((0,), convs, arrangement="unshuffle"), threads=threads)


@given(data=st.data(), kernel=st.sampled_from([1, 3]), count=st.integers(1, 2), threads=THREADS)
def test_with_a_stride_of_two(data, kernel, count, threads):
    height, width, inputs, outputs = (data.draw(drawn) for drawn in (SIDES, SIDES, CHANNELS, CHANNELS))
    convs = tuple(random_conv(inputs, outputs, kernel, identity="none") for _ in range(count))
    block = BinaryBlock((0,), convs, concatenate=data.draw(st.booleans()), arrangement="strided")
    assert_equals_reference([feature_map(2, inputs, 2 * height, 2 * width)], block, threads=threads)


@given(quarter=st.integers(1, 40), height=SIDES, width=SIDES, threads=THREADS)
def test_two_side_by_side_and_shuffled(quarter, height, width, threads):
    channels = 4 * quarter
    convs = random_conv(channels, channels, 3), random_conv(channels, channels, 3)
    block = BinaryBlock((0,), convs, concatenate=True, arrangement="shuffle")
    assert_equals_reference([feature_map(2, channels, height, width)], block, threads=threads)


@given(st.integers(1, 8), st.integers(1, 16), SIDES, SIDES, THREADS)
def test_normalized_and_activated(groups, size, height, width, threads):
    """Behind a norm bits can differ where a value is next to zero, so what differs is counted."""
    channels = groups * size
    x = feature_map(2, channels, height, width)
    made = program([x], BinaryBlock((0,), (random_conv(channels, channels, 3),), norm=norm_for(channels, groups)))
    expected = expected_of(made, [x])
    results = [run(isa, made, [x], threads) for isa in ISAS]
    assert all(torch.equal(result, results[0]) for result in results)  # instruction sets agree to the bit even here
    flipped = ~torch.isclose(results[0], expected, rtol=1e-4, atol=1e-4)
    assert flipped.sum() <= 9 * channels  # one flipped sign reaches nine pixels


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS_AND_TYPES)
@given(data=st.data(), threads=THREADS)
def test_a_full_precision_convolution_with_everything_around_it(kernel, dtype, data, threads):
    batch, height, width = data.draw(st.integers(1, 2)), data.draw(SIDES), data.draw(SIDES)
    inputs, outputs = data.draw(CHANNELS), data.draw(CHANNELS)
    norm = norm_for(inputs) if data.draw(st.booleans()) else None
    time = linear(EMBEDDED, outputs) if data.draw(st.booleans()) else None
    residual = 1 if data.draw(st.booleans()) else None
    maps = [feature_map(batch, channels, height, width) for channels in (inputs, outputs)]
    conv = random_full_conv((0,), inputs, outputs, kernel, dtype, norm=norm, time=time, residual=residual)
    assert_full_conv_equals_reference(maps, conv, threads)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@given(inputs=PAIRS, outputs=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_channels_of_two_sources_lie_side_by_side(dtype, inputs, outputs, height, width, threads):
    sources = [feature_map(2, count, height, width) for count in inputs]
    assert_full_conv_equals_reference(sources, random_full_conv((0, 1), sum(inputs), outputs, 1, dtype), threads)


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS_AND_TYPES)
@given(data=st.data(), r=st.integers(1, 3), threads=THREADS)
def test_planes_are_unshuffled_and_shuffled_back(kernel, dtype, data, r, threads):
    height, width, channels = data.draw(SIDES), data.draw(SIDES), data.draw(st.integers(1, 9))
    planes = [torch.randn(2, count, height * r, width * r) for count in (channels, 3)]
    conv = random_full_conv((0, 1), (channels + 3) * r**2, 3 * r**2, kernel, dtype, unshuffle=r, shuffle=r)
    assert_full_conv_equals_reference(planes, conv, threads, planes=True)


@pytest.mark.parametrize(("kernel", "dtype"), KERNELS_AND_TYPES)
@given(data=st.data(), threads=THREADS)
def test_what_is_below_zero_counts_as_zero(kernel, dtype, data, threads):
    inputs, outputs, height, width = (data.draw(sides) for sides in (CHANNELS, CHANNELS, SIDES, SIDES))
    sources = [feature_map(2, inputs, height, width), feature_map(2, outputs, height, width)]
    conv = random_full_conv((0,), inputs, outputs, kernel, dtype, relu=True, residual=1)
    assert_full_conv_equals_reference(sources, conv, threads)


def random_full_conv(sources, inputs: int, outputs: int, kernel: int, dtype: str, **around) -> FullConv:
    weight = torch.randn(outputs, inputs, kernel, kernel) / (inputs**0.5 * kernel)
    return FullConv(sources, array(weight), array(torch.randn(outputs)), dtype, **around)


def assert_full_conv_equals_reference(inputs, conv: FullConv, threads: int, planes: bool = False) -> None:
    """Up to the order of sums; the same bytes on all threads, and on instruction sets that multiply and add at once."""
    made = program(inputs, conv, planes=planes)
    expected = expected_of(made, inputs)
    # a value that lies between two of bfloat16 is rounded to either, as what it was made of differs by a last bit
    tolerance = 3e-2 if conv.dtype == "bfloat16" and conv.norm else 3e-5
    if conv.dtype == "float32" and conv.weight.shape[-1] == 3:
        tolerance = 3e-4  # Winograd's transforms magnify rounding
    results = {isa: run(isa, made, inputs, threads) for isa in ISAS}
    for isa, result in results.items():
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
        assert torch.equal(result, run(isa, made, inputs, 1))
    if conv.dtype == "float32":
        assert all(torch.equal(results[isa], results[FUSED[0]]) for isa in FUSED)


def silu(isa: str, x: Tensor) -> Tensor:
    """What the engine makes of values behind a norm that leaves them as they are."""
    # +a and -a in a group of their own channel: their mean is 0, and their deviation is undone by the weight
    values = torch.stack([x, -x]).t().reshape(1, 1, -1, 2).transpose(1, 2)  # (1, N, 1, 2), a pair in each channel
    values = values.contiguous(memory_format=torch.channels_last)
    count = x.numel()
    norm = Norm(count, 0.0, array(x.abs()), Array.empty((count,)))
    one = FullConv((0,), array(torch.eye(count).view(count, count, 1, 1)), Array.empty((count,)), norm=norm)
    return run(isa, program([values], one), [values])[0, :, 0, 0]


@pytest.mark.parametrize("isa", ISAS)
@given(st.integers(-80, 80), st.integers(1, 40))
def test_silu_is_exact_to_a_few_roundings(isa, first, count):
    x = first + torch.rand(count) * 3
    # exp(-x) inherits the rounding of x itself
    torch.testing.assert_close(silu(isa, x).double(), F.silu(x.double()), rtol=1e-6 + 3e-7 * abs(first), atol=1e-34)


@pytest.mark.parametrize("isa", ISAS)
def test_silu_of_huge_values(isa):
    x = torch.tensor([1e18, 90.0, 88.0, -88.0, -90.0, -1e18])
    expected = torch.tensor([1e18, 90.0, 88.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(silu(isa, x), expected, atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@given(batch=st.integers(1, 2), channels=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_attention(isa, batch, channels, height, width, threads):
    x = feature_map(batch, channels, height, width)
    qkv = array(torch.randn(3 * channels, channels) / channels**0.5)
    made = program([x], Attention((0,), norm_for(channels), qkv, linear(channels, channels)))
    result = run(isa, made, [x], threads)
    torch.testing.assert_close(result, expected_of(made, [x]), rtol=1e-4, atol=1e-4)
    assert torch.equal(result, run(isa, made, [x]))


@pytest.mark.parametrize("isa", ISAS)
def test_attention_to_scores_far_apart(isa):
    """One key takes everything; the others' shares are below what a float holds."""
    x = torch.zeros(1, 4, 1, 40).contiguous(memory_format=torch.channels_last)
    x[0, :, 0, 17] = 30.0
    norm = Norm(1, 1e-5, array(torch.full((4,), 30.0)), Array.empty((4,)))
    out = Linear(array(torch.eye(4)), Array.empty((4,)))
    made = program([x], Attention((0,), norm, array(torch.eye(4).repeat(3, 1)), out))
    torch.testing.assert_close(run(isa, made, [x], 2), expected_of(made, [x]), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.data(), threads=THREADS, mean=st.sampled_from([0.0, 3.0, -30.0]))
def test_a_norm_of_what_an_operation_gives(isa, data, threads, mean):
    """Its sums are taken on the way, row by row."""
    groups, size = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 9))
    channels, height, width = groups * size, data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
    x = feature_map(2, channels, height, width)
    unchanged = array(torch.eye(channels).view(channels, channels, 1, 1))
    first = FullConv((0,), unchanged, array(torch.full((channels,), mean)))
    second = random_full_conv((1,), channels, channels, 3, "float32", norm=norm_for(channels, groups))
    made = program([x], first, second)
    torch.testing.assert_close(run(isa, made, [x], threads), expected_of(made, [x]), rtol=1e-3, atol=5e-3)


@given(channels=CHANNELS, height=SIDES, width=SIDES, threads=THREADS)
def test_maps_are_added(channels, height, width, threads):
    maps = [feature_map(2, channels, height, width) for _ in range(2)]
    made = program(maps, Add((0, 1)))
    assert all(torch.equal(run(isa, made, maps, threads), maps[0] + maps[1]) for isa in ISAS)


@given(channels=st.lists(CHANNELS, min_size=1, max_size=2), repeat=st.integers(1, 3), data=st.data(), threads=THREADS)
def test_maps_are_joined_and_repeated(channels, repeat, data, threads):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    maps = [feature_map(2, count, height, width) for count in channels]
    join = Join((0, 1)[: len(maps)], repeat)
    assert_equals_reference(maps, join, threads=threads)
    after = random_full_conv((len(maps),), sum(channels), 8, 1, "float32", norm=norm_for(sum(channels)))
    made = program(maps, join, after)
    for isa in ISAS:  # the norm sees the sums of what is joined
        torch.testing.assert_close(run(isa, made, maps, threads), expected_of(made, maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_maps_live_as_long_as_they_are_read(isa):
    """The first is read again by the last operation, and one that nothing reads does no harm."""
    x = feature_map(1, 8, 9, 7)
    steps = [random_full_conv((source,), 8, 8, 3, "float32") for source in (0, 1, 1, 3)]
    made = program([x], *steps, Add((4, 1)), Add((5, 0)))
    torch.testing.assert_close(run(isa, made, [x], 2), expected_of(made, [x]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
@given(t=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=3), swish=st.booleans())
def test_the_embedding_of_time(isa, t, swish):
    x = torch.zeros(len(t), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    nothing = Array.empty((EMBEDDED, 1, 1, 1)), Array.empty((EMBEDDED,))
    seen = FullConv((0,), *nothing, time=Linear(array(torch.eye(EMBEDDED)), nothing[1]))
    made = program([x], seen)
    made = dataclasses.replace(made, embedding=dataclasses.replace(made.embedding, swish=swish))
    result = native.NativeProgram(isa, made)([x], t, t[0], 1)
    torch.testing.assert_close(result, reference.run(made, [x], torch.tensor(t), t[0])[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("isa", ISAS)
def test_bytes_do_not_depend_on_threads(isa):
    x = feature_map(2, 64, 50, 37)
    block = BinaryBlock((0,), (random_conv(64, 64, 3),), norm_for(64, 8), time=linear(EMBEDDED, 64), residual=0)
    made = program([x], block, random_full_conv((1,), 64, 32, 3, "float32", norm=norm_for(64, 8)))
    network = native.NativeProgram(isa, made)
    results = [network([x], [900, 17], 900, threads) for threads in (1, 2, 3, 7, 64)]
    assert all(torch.equal(result, results[0]) for result in results)


def test_many_callers_at_once():
    x = feature_map(1, 64, 64, 64)
    network = native.NativeProgram(ISAS[-1], program([x], BinaryBlock((0,), (random_conv(64, 64, 3),))))
    expected = network([x], [0], 0, 1)
    wrong = []

    def call() -> None:
        for _ in range(20):
            y = network([x], [0], 0, 3)
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
    x = feature_map(1, 32, 64, 64)
    network = native.NativeProgram(ISAS[-1], program([x], BinaryBlock((0,), (random_conv(32, 32, 3),))))
    expected = network([x], [0], 0, 4)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # torch's own threads do not survive a fork
        os._exit(0 if torch.equal(network([x], [0], 0, 4), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_weights_take_one_bit_each_in_memory():
    x, conv = feature_map(1, 256, 2, 2), random_conv(256, 256, 3)
    made = dataclasses.replace(program([x], BinaryBlock((0,), (conv,))), embedding=None)
    taps, others = 256 * 9 * 4, 5 * 256 * 4  # the number of set bits of each tap; alpha, TaR and TaA
    for isa in ISAS:
        bits = native.NativeProgram(isa, made).nbytes - taps - others
        assert bits == conv.signs.size * (2 if isa == "avx2" else 1)


@pytest.mark.parametrize("isa", ISAS)
def test_what_does_not_fit_is_refused_before_it_is_read(isa):
    x = feature_map(1, 32, 6, 6)
    conv, full = random_conv(32, 32, 3), random_full_conv((0,), 32, 32, 3, "float32")
    block, norm, time = BinaryBlock((0,), (conv,)), norm_for(32), linear(EMBEDDED, 32)

    def binary(**changes) -> BinaryBlock:
        return dataclasses.replace(block, convs=(dataclasses.replace(conv, **changes),))

    def other(operation=block, **changes):
        return dataclasses.replace(operation, **changes)

    attention = Attention((0,), norm, Array.empty((96, 32)), linear(32, 32))
    wrong = [
        binary(signs=array(conv.signs.tensor()[:-1])),
        binary(signs=Array.empty(conv.signs.shape)),
        binary(alpha=Array.empty((32,), "uint8")),
        binary(tar=Array.empty((1, 31))),
        binary(offset=Array.empty((2, 32))),  # of other groups
        binary(segments=(Segment(0, 1, 1, 32),)),
        binary(segments=(Segment(0, 0, 2, 32),)),
        binary(segments=(Segment(-1, 0, 1, 32),)),
        binary(segments=(Segment(1, 0, 1, 32),)),  # there is no second source
        binary(segments=(Segment(0, 0, 1, 10),) * 3),
        binary(kernel=5),
        other(sources=(1,)),  # its own result
        other(sources=(-1,)),
        other(residual=1),
        other(convs=()),
        other(convs=(conv,) * 3),
        other(convs=(conv, random_conv(32, 16, 3))),
        other(norm=norm_for(31)),
        other(norm=norm, convs=(random_conv(16, 16, 3),)),
        other(norm=Norm(5, 1e-5, norm.weight, norm.bias)),
        other(time=linear(EMBEDDED, 31)),
        other(time=linear(EMBEDDED + 1, 32)),
        other(arrangement="shuffle", time=time),
        other(arrangement="shuffle", residual=0),
        other(full, weight=Array.empty((32, 31, 3, 3))),
        other(full, bias=Array.empty((31,))),
        other(full, weight=Array.empty((32, 32, 5, 5))),
        other(full, dtype="float16"),
        other(full, dtype="bfloat16"),  # of 3×3 taps
        other(full, shuffle=3),
        other(full, shuffle=2, residual=0),
        other(full, unshuffle=1),  # of a map, which is no planes
        other(full, sources=(0, 0), norm=norm),
        other(attention, qkv=Array.empty((95, 32))),
        other(attention, out=linear(32, 31)),
        Add((0, 1)),
        other(arrangement="strided"),  # with an identity
        other(arrangement="strided", convs=(random_conv(32, 32, 3, identity="none"),), residual=0),
        other(arrangement="strided", convs=(random_conv(32, 32, 3, identity="none"),), time=time),
        Join(()),
        Join((0, 0, 0)),
        Join((0,), repeat=0),
        Join((0,), repeat=2**32 + 2),
    ]
    for operation in wrong:
        with pytest.raises(ValueError):
            native.NativeProgram(isa, program([x], operation))
    with pytest.raises(ValueError):  # of other channels
        native.NativeProgram(isa, program([x, feature_map(1, 31, 6, 6)], Add((0, 1))))
    good = native.NativeProgram(isa, program([x], block))
    for inputs, t, step in (
        ([torch.randn(1, 32, 6, 6)], [0], 0),  # not channels last
        ([x.double()], [0], 0),
        ([feature_map(1, 31, 6, 6)], [0], 0),
        ([x, x], [0], 0),
        ([x], [0, 0], 0),
        ([x], [0], STEPS),
        ([x], [0], -1),
    ):
        with pytest.raises(ValueError):
            good(inputs, t, step, 1)
    odd = feature_map(1, 32, 5, 6)
    with pytest.raises(ValueError):
        run(isa, program([odd], other(arrangement="unshuffle")), [odd])
    with pytest.raises(ValueError):
        run(isa, program([odd], other(arrangement="strided", convs=(random_conv(32, 32, 3, identity="none"),))), [odd])
    with pytest.raises(ValueError):  # of other sizes
        run(isa, program([x, odd], Join((0, 1))), [x, odd])
    with pytest.raises(ValueError):  # larger than numbers reach
        run(isa, program([x], Join((0,), repeat=2**30)), [x])
    with pytest.raises(ValueError):  # planes
        native.NativeProgram(isa, program([x], Join((0,)), planes=True))
    with pytest.raises(ValueError):  # of other sizes
        run(isa, program([x, odd], Add((0, 1))), [x, odd])


@given(st.binary(max_size=200).map(lambda octets: octets[: len(octets) // 4 * 4]), st.booleans())
def test_numbers_of_a_file(octets, half):
    """Float16 and float32, as torch reads them."""
    values, strange = native.read_floats(bytearray(octets), half=half)
    assert len(values) == len(octets) * (2 if half else 1)
    if not octets:
        assert strange == -1
        return
    expected = torch.frombuffer(bytearray(octets), dtype=torch.float16 if half else torch.float32)
    kept = expected.isfinite()
    assert strange == (-1 if bool(kept.all()) else int(kept.int().argmin()))
    found = torch.frombuffer(values, dtype=torch.float32)
    assert torch.equal(found[kept].view(torch.int32), expected.float()[kept].view(torch.int32))


def test_every_float16_is_read():
    bits = torch.arange(2**16).to(torch.uint16)
    finite = bits[bits.view(torch.float16).isfinite()]
    values, strange = native.read_floats(bytearray(finite.view(torch.uint8).tolist()), half=True)
    expected = finite.view(torch.float16).float()
    assert strange == -1
    assert torch.equal(torch.frombuffer(values, dtype=torch.int32), expected.view(torch.int32))


def test_the_figures_that_bench_divides_by_are_sane():
    clock = native.clock_rate()
    assert 2e8 < clock < 2e10
    for isa in ISAS[1:]:
        assert 8 < native.peak_rate(isa) / clock < 2048
    assert native.peak_rate("portable") == 0
