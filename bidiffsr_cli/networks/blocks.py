"""The UNet's blocks (paper: ResBlock, CP-Down, CP-Up, CS-Fusion), their ablation twins (table 1), and SR3's.

Every block is `forward(x, ctx)` (a fusion: `forward(x, skip, ctx)`), takes the factory of its convolutions, `conv`, and
says in `out_channels` what it gives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import UNetConfig
from .binary_conv import ConvFactory
from .time_aware import TimestepContext


class SelfAttention(nn.Module):
    """Single-head self-attention over all positions, full precision, with a shortcut (the authors' mid.0)."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

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

    def __init__(
        self, in_channels: int, channels: int, config: UNetConfig, conv: ConvFactory, attention: bool = False
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.norm1 = nn.GroupNorm(config.norm_groups, in_channels)
        self.conv1 = conv(in_channels, channels, 3)
        self.time = nn.Linear(config.inner_channel, channels)
        self.norm2 = nn.GroupNorm(config.norm_groups, channels)
        self.conv2 = conv(channels, channels, 3)
        self.shortcut = None if in_channels == channels else conv(in_channels, channels, 1)
        self.attention = SelfAttention(channels, config.norm_groups) if attention else nn.Identity()

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), ctx)
        h += self.time(ctx.embedding)[:, :, None, None]
        h = F.silu(self.norm2(h))
        if self.training and self.dropout:
            h = F.dropout(h, self.dropout)
        h = self.conv2(h, ctx)
        h += x if self.shortcut is None else self.shortcut(x, ctx)
        return self.attention(h)


class Block(nn.Module):
    """What the UNet is made of beside ResBlocks."""

    out_channels: int


class CPDown(Block):
    """C×H×W -> 2C×H/2×W/2: the channel halves' convolutions, summed and pixel-unshuffled."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = 2 * channels
        self.conv1 = conv(channels // 2, channels // 2, 3)
        self.conv2 = conv(channels // 2, channels // 2, 3)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)
        return F.pixel_unshuffle(self.conv1(x1, ctx) + self.conv2(x2, ctx), 2)


class CPUp(Block):
    """C×H×W -> C/2×2H×2W: two convolutions side by side, pixel-shuffled."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels // 2
        self.conv1 = conv(channels, channels, 3)
        self.conv2 = conv(channels, channels, 3)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return F.pixel_shuffle(torch.cat([self.conv1(x, ctx), self.conv2(x, ctx)], dim=1), 2)


class ConvDown(Block):
    """CPDown's twin in the ablation: one convolution to C/2, pixel-unshuffled."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = 2 * channels
        self.conv = conv(channels, channels // 2, 3)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return F.pixel_unshuffle(self.conv(x, ctx), 2)


class ConvUp(Block):
    """CPUp's twin in the ablation: one convolution to 2C, pixel-shuffled."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels // 2
        self.conv = conv(channels, 2 * channels, 3)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return F.pixel_shuffle(self.conv(x, ctx), 2)


class SplitFusion(Block):
    """C1(x) + C2(skip), C×H×W each: CSFusion's twin without the channel shuffle."""

    def __init__(self, channels: int, skip_channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        return self.conv1(x, ctx) + self.conv2(skip, ctx)


class CSFusion(SplitFusion):
    """Channel-shuffle fusion (CS-Fusion): either convolution sees one half of the channels of x and of the skip.

    The halves are of opposite parity, as in the authors' code; the paper's eq. 4 pairs equal ones.
    """

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        odd_even = torch.cat([x[:, 1::2], skip[:, 0::2]], dim=1)
        even_odd = torch.cat([x[:, 0::2], skip[:, 1::2]], dim=1)
        return super().forward(odd_even, even_odd, ctx)


class ConcatFusion(Block):
    """One 1x1 convolution of both, 2C to C: CSFusion's twin in the ablation."""

    def __init__(self, channels: int, skip_channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = conv(2 * channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        return self.conv(torch.cat([x, skip], dim=1), ctx)


class AddFusion(Block):
    """x + skip: CSFusion's twin without any convolution."""

    def __init__(self, channels: int, skip_channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        return x + skip


class StridedDown(Block):
    """C×H×W -> C×H/2×W/2: SR3's, a convolution with a stride of 2."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = conv(channels, channels, 3, 2)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return self.conv(x, ctx)


class NearestUp(Block):
    """C×H×W -> C×2H×2W: SR3's, pixels repeated and a convolution."""

    def __init__(self, channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels
        self.repeat = nn.Upsample(scale_factor=2, mode="nearest")
        self.conv = conv(channels, channels, 3)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return self.conv(self.repeat(x), ctx)


class JoinFusion(Block):
    """Channels of x, then those of the skip: SR3's, whose ResBlocks see both."""

    def __init__(self, channels: int, skip_channels: int, conv: ConvFactory) -> None:
        super().__init__()
        self.out_channels = channels + skip_channels

    def forward(self, x: Tensor, skip: Tensor, ctx: TimestepContext) -> Tensor:
        return torch.cat([x, skip], dim=1)


DOWN = {"cp": CPDown, "conv": ConvDown, "strided": StridedDown}
UP = {"cp": CPUp, "conv": ConvUp, "strided": NearestUp}
FUSION = {"cs": CSFusion, "split": SplitFusion, "concat": ConcatFusion, "add": AddFusion, "join": JoinFusion}
