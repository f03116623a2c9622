"""Sign bits <-> bytes: the one bit layout of checkpoint files and of every backend.

A weight O×I×k×k becomes O rows of bytes. A row holds its k·k·I sign bits, tap by tap (ky, then kx), channels innermost;
bit 1 means value >= 0; the first sign is the lowest bit of the first byte; the row is filled up with zero bits to a
multiple of 8 bytes, so that it can be read as little-endian 64-bit words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .array import Array

if TYPE_CHECKING:
    from torch import Tensor

ROW_BYTES = 8
"""Every row is a multiple of this many bytes."""


def row_bytes(bits: int) -> int:
    """Bytes of a row of `bits` signs."""
    return -(-bits // (8 * ROW_BYTES)) * ROW_BYTES


def pack_signs(weight: Tensor) -> Tensor:
    """Pack the signs of a convolution's weight.

    Args:
        weight: O×I×k×k, any real type.

    Returns:
        O×`row_bytes(k·k·I)`, uint8.
    """
    import torch

    rows = (weight >= 0).permute(0, 2, 3, 1).flatten(1)  # (O, k·k·I), channels innermost
    filler = 8 * row_bytes(rows.shape[1]) - rows.shape[1]
    octets = torch.nn.functional.pad(rows, (0, filler)).unflatten(1, (-1, 8)).to(torch.uint8)
    return (octets << torch.arange(8, dtype=torch.uint8)).sum(2, dtype=torch.uint8)


def unpack_signs(packed: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Undo `pack_signs`: the signs as +1.0 and -1.0, float32, of the given O×I×k×k shape."""
    import torch

    outputs, inputs, height, width = shape
    bits = (packed.unsqueeze(2) >> torch.arange(8, dtype=torch.uint8)) & 1
    signs = bits.flatten(1)[:, : height * width * inputs].to(torch.float32).mul_(2).sub_(1)
    return signs.reshape(outputs, height, width, inputs).permute(0, 3, 1, 2).contiguous()


def filler_is_zero(packed: Array, bits: int) -> bool:
    """Whether the bits behind the first `bits` of every row are zero, as `pack_signs` leaves them."""
    octets, row = packed.numbers(), packed.shape[1]
    whole, rest = divmod(bits, 8)
    partial = max(octets[whole::row], default=0) >> rest if rest else 0
    return not partial and not any(any(octets[at::row]) for at in range(whole + bool(rest), row))
