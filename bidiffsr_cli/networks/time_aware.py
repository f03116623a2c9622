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
from . import quantizers
from .quantizers import approx_sign, scaled_ste_sign


@dataclass(frozen=True)
class TimestepContext:
    """The time step of one forward pass.

    Attributes:
        embedding: B×C, the time embedding behind its Swish.
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

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        group = ctx.group(self.slope.shape[0])
        rprelu = quantizers.rprelu if torch.is_grad_enabled() else reference.rprelu  # which overwrites x
        return rprelu(x, self.shift[group].view(1, -1, 1, 1), self.slope[group], self.offset[group].view(1, -1, 1, 1))


class BIConv(nn.Module):
    """The basic BI-Conv block: TaA(Sign(x + TaR) * alpha Sign(w)) + x (paper, figure 5, eq. 5-7).

    The weight is latent, a real number of which sign and mean |w| count: the form that is trained. For inference
    `packed.freeze` puts a twin in its place that binarizes once.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, tar_groups: int, taa_groups: int, identity: bool
    ) -> None:
        super().__init__()
        self.tar = TaR(in_channels, tar_groups)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.taa = TaA(out_channels, taa_groups)
        self.identity = identity and in_channels == out_channels
        if not self.weight.is_meta:
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        dtype = conv_dtype(x)
        signs = approx_sign(x + self.tar(ctx), dtype)
        y = F.conv2d(signs, scaled_ste_sign(self.weight, dtype), padding=self.weight.shape[-1] // 2)
        y = self.taa(y.to(x.dtype), ctx)
        return y + x if self.identity else y


def conv_dtype(x: Tensor) -> torch.dtype:
    """In what convolutions of x compute: autocast's type where that is on, else x's own."""
    device = x.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # meta has none
    return torch.get_autocast_dtype(device) if enabled else x.dtype
