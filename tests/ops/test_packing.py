"""The bit layout: round trips, and one example spelled out."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.ops import Array
from bidiffsr_cli.ops.packing import filler_is_zero, pack_signs, row_bytes, unpack_signs

shapes = st.tuples(st.integers(1, 5), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from([1, 3]))


@given(shapes, st.integers(0, 2**31))
def test_unpack_undoes_pack(shape, seed):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    packed = pack_signs(weight)
    bits = weight[0].numel()
    assert packed.shape == (shape[0], row_bytes(bits)) and packed.dtype == torch.uint8
    assert torch.equal(unpack_signs(packed, shape), torch.where(weight >= 0, 1.0, -1.0))
    assert filler_is_zero(Array.of(packed), bits)


def test_bits_lie_tap_by_tap_with_channels_innermost_lowest_bit_first():
    weight = -torch.ones(1, 2, 3, 3)
    weight[0, 0, 0, 0] = 1  # tap 0, channel 0: bit 0
    weight[0, 1, 0, 1] = 1  # tap 1, channel 1: bit 3
    weight[0, 0, 1, 1] = 1  # tap 4, channel 0: bit 8
    weight[0, 1, 2, 2] = 1  # tap 8, channel 1: bit 17
    assert pack_signs(weight).tolist() == [[0b1001, 0b1, 0b10, 0, 0, 0, 0, 0]]


def test_zero_of_either_sign_is_bit_one():
    assert pack_signs(torch.tensor([0.0, -0.0, -1e-30]).view(1, 3, 1, 1))[0, 0] == 0b011


def test_set_filler_is_noticed():
    packed = pack_signs(torch.ones(2, 3, 3, 3))  # 27 bits in 64
    for byte, bit in ((3, 3), (3, 7), (4, 0), (7, 7)):
        damaged = packed.clone()
        damaged[1, byte] |= 1 << bit
        assert not filler_is_zero(Array.of(damaged), 27)
