"""What depends on the time step inside a binary convolution: TaR before the sign, TaA behind it.

T time steps are split evenly into K groups; a group selects one of K sets of parameters. One `TimestepContext` is built
per forward pass and handed to every block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import reference
from ..ops.reference import channel_scales
from . import quantizers
from .latent_conv import Folded, LatentConv, conv_dtype
from .quantizers import approx_sign, scaled_ste_sign


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


class BIConv(LatentConv):
    """The basic BI-Conv block: TaA(Sign(x + TaR) * alpha Sign(w)) + x (paper, figure 5, eq. 5-7).

    With one group each, TaR and TaA are a fixed shift and a plain RPReLU: BBCU's unit (arXiv 2210.00405).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        tar_groups: int = 1,
        taa_groups: int = 1,
        identity: str = "after",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, identity)
        self.tar = TaR(in_channels, tar_groups)
        self.taa = TaA(out_channels, taa_groups)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        y = self.sums(x, ctx)
        if self.identity == "before":
            y = y + x
        y = self.taa(y, ctx)
        return y + x if self.identity == "after" else y

    def sums(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """The binary convolution, scaled."""
        dtype = conv_dtype(x)
        signs = approx_sign(x + self.tar(ctx), dtype)
        weight = scaled_ste_sign(self.weight, dtype)
        return F.conv2d(signs, weight, stride=self.stride, padding=weight.shape[-1] // 2).to(x.dtype)

    def fold(self) -> Folded:
        return Folded(self.weight, channel_scales(self.weight), self.tar, self.taa)
