"""What depends on the time step inside a binary convolution: TaR before the sign, TaA behind it.

T time steps are split evenly into K groups; a group selects one of K sets of parameters. One `TimestepContext` is built
per forward pass and handed to every block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..ops import reference
from . import quantizers


@dataclass(frozen=True)
class TimestepContext:
    """The time step of one forward pass.

    Attributes:
        embedding: B×C, the time embedding, in BI-DiffSR's network behind a Swish.
        t: The time step of the batch's first picture, 0..T-1; the others lie in the same group.
        total_steps: T.
    """

    embedding: Tensor
    t: int
    total_steps: int

    def group(self, groups: int) -> int:
        """Which of K groups t falls in: floor(K t / T)."""
        return min(self.t * groups // self.total_steps, groups - 1)


class TaR(nn.Module):
    """Time-aware redistribution: one learned shift per channel and group, added before the sign."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(groups, channels))

    def forward(self, ctx: TimestepContext) -> Tensor:
        return self.bias[ctx.group(self.bias.shape[0])].view(1, -1, 1, 1)


class TaA(nn.Module):
    """Time-aware activation: one RPReLU per group, PReLU(x + shift) + offset per channel."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(groups, channels))
        self.slope = nn.Parameter(torch.full((groups, channels), 0.25))
        self.offset = nn.Parameter(torch.zeros(groups, channels))

    @classmethod
    def of_one_group(cls, shift: Tensor, slope: Tensor, offset: Tensor) -> TaA:
        """An RPReLU with these parameters, C each, whatever the time step."""
        with torch.device("meta"):
            taa = cls(len(shift), 1)
        for name, value in (("shift", shift), ("slope", slope), ("offset", offset)):
            setattr(taa, name, nn.Parameter(value.detach().clone()[None]))
        return taa

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        group = ctx.group(self.slope.shape[0])
        rprelu = quantizers.rprelu if torch.is_grad_enabled() else reference.rprelu  # which overwrites x
        return rprelu(x, self.shift[group].view(1, -1, 1, 1), self.slope[group], self.offset[group].view(1, -1, 1, 1))
