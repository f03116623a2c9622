"""The UNet's blocks (paper: ResBlock, CP-Down, CP-Up, CS-Fusion), their ablation twins (table 1), and SR3's.

Every block is `forward(x, ctx)` (a fusion: `forward(x, skip, ctx)`), and is built from its plan and by the factory of
its convolutions, `conv`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import blueprint
from .time_aware import TimestepContext

ConvOf = Callable[[blueprint.Conv], nn.Module]
"""Makes the convolutions of a block."""


class SelfAttention(nn.Module):
    """Single-head self-attention over all positions, full precision, with a shortcut (the authors' mid.0)."""

    def __init__(self, plan: blueprint.SelfAttention) -> None:
        super().__init__()
        self.norm = group_norm(plan.norm)
        self.qkv = nn.Conv2d(plan.qkv.inputs, plan.qkv.outputs, 1, bias=False)
        self.out = nn.Conv2d(plan.out.inputs, plan.out.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(batch, 1, height * width, 3 * channels)
        q, k, v = tokens.chunk(3, dim=-1)  # (B, 1, H·W, C) each
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.reshape(batch, height, width, channels).permute(0, 3, 1, 2)  # channels_last
        return x + self.out(y)


class ResBlock(nn.Module):
    """x + Conv2(Swish(GN(Conv1(Swish(GN(x))) + time))), and self-attention where asked for.

    Where channels change, as in SR3, a 1×1 convolution of x takes the place of x. In training, `dropout` of the values
    before Conv2 are left out.
    """

    dropout = 0.0

    def __init__(self, plan: blueprint.ResBlock, conv: ConvOf) -> None:
        super().__init__()
        self.norm1 = group_norm(plan.norm1)
        self.conv1 = conv(plan.conv1)
        self.time = nn.Linear(plan.time.inputs, plan.time.outputs)
        self.norm2 = group_norm(plan.norm2)
        self.conv2 = conv(plan.conv2)
        self.shortcut = None if plan.shortcut is None else conv(plan.shortcut)
        self.attention = nn.Identity() if plan.attention is None else SelfAttention(plan.attention)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), ctx)
        h += self.time(ctx.embedding)[:, :, None, None]
        h = F.silu(self.norm2(h))
        if self.training and self.dropout:
            h = F.dropout(h, self.dropout)
        h = self.conv2(h, ctx)
        h += x if self.shortcut is None else self.shortcut(x, ctx)
        return self.attention(h)


class Convs(nn.Module):
    """A block of convolutions, which have their plans' names: `conv`, or `conv1` and `conv2`, or none."""

    conv: nn.Module
    conv1: nn.Module
    conv2: nn.Module

    def __init__(self, plan: blueprint.Resample | blueprint.Fusion, conv: ConvOf) -> None:
        super().__init__()
        self.kind = plan.kind
        for own in plan.convs:
            self.add_module(own.name.rpartition(".")[2], conv(own))


class Resample(Convs):
    """A change of resolution: C×H×W -> 2C×H/2×W/2, or up, C×H×W -> C/2×2H×2W. SR3's keeps C.

    kind     down                                          up
    cp       CP-Down: the channel halves' convolutions,    CP-Up: two convolutions side by side, pixel-shuffled
             summed and pixel-unshuffled
    conv     its twin in the ablation: one convolution     likewise: one convolution to 2C, pixel-shuffled
             to C/2, pixel-unshuffled
    strided  SR3's: a convolution with a stride of 2       SR3's: pixels repeated, and a convolution
    """

    def __init__(self, plan: blueprint.Resample, conv: ConvOf) -> None:
        super().__init__(plan, conv)
        self.up = plan.up

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        if self.kind == "strided":
            return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x, ctx)
        if self.kind == "conv":
            y = self.conv(x, ctx)
        elif self.up:
            y = torch.cat([self.conv1(x, ctx), self.conv2(x, ctx)], dim=1)
        else:
            x1, x2 = x.chunk(2, dim=1)
            y = self.conv1(x1, ctx) + self.conv2(x2, ctx)
        return F.pixel_shuffle(y, 2) if self.up else F.pixel_unshuffle(y, 2)


class Fusion(Convs):
    """x and a skip, C×H×W each -> C×H×W; SR3's keeps the channels of both.

    cs      CS-Fusion, channel shuffle: either convolution sees one half of the channels of x and of the skip, and their
            results are added. The halves are of opposite parity, as in the authors' code; the paper's eq. 4 pairs equal
            ones.
    split   its twin without the shuffle: C1(x) + C2(skip)
    concat  its twin in the ablation: one 1×1 convolution of both, 2C to C
    add     its twin without any convolution: x + skip
    join    SR3's, whose ResBlocks see both: the channels of x, then those of the skip
    """

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        match self.kind:
            case "concat":
                return self.conv(torch.cat([x, skip], dim=1), ctx)
            case "add":
                return x + skip
            case "join":
                return torch.cat([x, skip], dim=1)
            case "cs":
                odd_even = torch.cat([x[:, 1::2], skip[:, 0::2]], dim=1)
                even_odd = torch.cat([x[:, 0::2], skip[:, 1::2]], dim=1)
                x, skip = odd_even, even_odd
        return self.conv1(x, ctx) + self.conv2(skip, ctx)


def group_norm(plan: blueprint.Norm) -> nn.GroupNorm:
    """A GroupNorm by its plan."""
    return nn.GroupNorm(plan.groups, plan.channels)
