"""The few operations of 1-bit inference, and the layout of their bits.

`reference` is their definition in plain torch, `native` computes the same with XOR and popcount on packed bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """Channels first, first + step, ..., `count` of them, of one of a block's sources."""

    source: int
    first: int
    step: int
    count: int


@dataclass(frozen=True)
class BinaryConv:
    """One binary convolution of a block, its time step's parameters selected.

    Attributes:
        weight: for `reference` O×I×k×k of +1.0 and -1.0, for `native` what `native.prepare` made of them.
        alpha: O, the scales.
        tar: I, TaR's bias; free of -0.0.
        shift, slope, offset: O each, TaA's RPReLU.
        kernel: k, 1 or 3.
        identity: where the input is added to the output: "none", "before" or "after" the RPReLU.
        segments: one or two, whose channels one behind the other are the input.
    """

    weight: Tensor
    alpha: Tensor
    tar: Tensor
    shift: Tensor
    slope: Tensor
    offset: Tensor
    kernel: int
    identity: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class FullConv:
    """A full-precision convolution.

    Attributes:
        weight: for `reference` O×I×k×k, for `native` what `native.prepare_full` made of it.
        bias: O.
        kernel: k, 1 or 3.
        dtype: to which inputs and weight are rounded before they are multiplied, float32 or bfloat16; sums are float32.
    """

    weight: Tensor
    bias: Tensor
    kernel: int
    dtype: torch.dtype = torch.float32
