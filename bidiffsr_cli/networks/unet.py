"""UNet, the denoising network of the paper, computed as the authors' code computes it.

One skeleton serves BI-DiffSR, its ablations and SR3: every block says how many channels it gives, the next takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import ModelConfig, UNetConfig
from .binary_conv import ConvFactory, FullPrecisionConv, binary_conv
from .blocks import DOWN, FUSION, UP, Block, ResBlock
from .time_aware import TimestepContext


class TimeEmbedding(nn.Module):
    """t -> B×C: sinusoids of t, Linear, Swish, Linear."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)

    def forward(self, t: Tensor) -> Tensor:
        weight = self.linear1.weight
        half = weight.shape[1] // 2
        rates = torch.exp(torch.arange(half, device=t.device) / half * -math.log(1e4))
        angles = t.to(torch.float32)[:, None] * rates  # (B, C/2)
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=1).to(weight.dtype)
        return self.linear2(F.silu(self.linear1(sinusoids)))


class DecoderLevel(nn.Module):
    """One resolution of the decoder: fusions with the encoder's features, each before a ResBlock, then the way up."""

    def __init__(self, fusions: Sequence[nn.Module], blocks: Sequence[nn.Module], up: nn.Module | None) -> None:
        super().__init__()
        self.fusions, self.blocks, self.up = nn.ModuleList(fusions), nn.ModuleList(blocks), up

    def forward(self, x: Tensor, skips: list[Tensor], ctx: TimestepContext) -> Tensor:
        for fusion, block in zip(self.fusions, self.blocks, strict=True):
            x = fusion(x, skips.pop(), ctx)
            x = block(x, ctx)
        return x if self.up is None else self.up(x, ctx)


class UNet(nn.Module):
    """The denoising network: BI-DiffSR's, its ablations', SR3's (arXiv 2104.07636), as its config says.

    SR3's too is asked at integer t, as the paper's methods share one diffusion; SR3 itself gives it the noise level.
    BI-DiffSR's is full precision at both ends and in the finest decoder levels, and mostly 1-bit convolutions.

    Args:
        config: widths, levels, methods and ablations.
        condition_channels: channels of the condition: 3 for each of its parts.
    """

    def __init__(self, config: UNetConfig, condition_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        binary = binary_conv(config)
        widths = [config.inner_channel * mult for mult in config.channel_mults]
        r2 = config.pixel_unshuffle**2

        def res_block(place: str, channels: int, width: int, conv: ConvFactory = binary, **more: bool) -> ResBlock:
            full = place in config.full_precision_blocks
            return ResBlock(channels, width, config, FullPrecisionConv if full else conv, **more)

        self.time_embedding = TimeEmbedding(config.inner_channel)
        self.stem = nn.Conv2d((condition_channels + 3) * r2, config.inner_channel, 3, padding=1)

        self.encoder = nn.ModuleList()
        channels, skips = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(config.res_blocks):
                self.encoder.append(res_block(f"encoder.{len(self.encoder)}", channels, width))
                channels = width
                skips.append(channels)
            if level < config.levels - 1:
                down: Block = DOWN[config.resample](channels, binary)
                self.encoder.append(down)
                channels = down.out_channels
                skips.append(channels)

        self.middle = nn.ModuleList(
            [res_block("middle.0", channels, channels, attention=True), res_block("middle.1", channels, channels)]
        )

        self.decoder = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            conv = FullPrecisionConv if level in config.full_precision_levels else binary
            fusions, blocks = list[Block](), list[ResBlock]()
            for index in range(config.res_blocks + 1):
                fusions.append(FUSION[config.fusion](channels, skips.pop(), conv))
                place = f"decoder.{len(self.decoder)}.blocks.{index}"
                blocks.append(res_block(place, fusions[-1].out_channels, width, conv))
                channels = width
            up: Block | None = UP[config.resample](channels, binary) if level > 0 else None
            self.decoder.append(DecoderLevel(fusions, blocks, up))
            channels = channels if up is None else up.out_channels

        self.head_norm = nn.GroupNorm(config.norm_groups, widths[0])
        self.head = nn.Conv2d(widths[0], 3 * r2, 3, padding=1)

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """Predict what the diffusion's parameterization asks for.

        Args:
            x_t: B×3×H×W, the noisy picture; H and W multiples of `config.multiple_of`.
            condition: B×C×H×W, the enlarged picture and whatever else the network was trained to see.
            t: B, integers in 0..T-1, all in one TaR/TaA group.
            step: t[0]; spares a device from being asked and waited for.

        Returns:
            B×3×H×W.
        """
        embedding = self.time_embedding(t)
        if self.config.type != "sr3":  # whose linear layers see it as it is
            embedding = F.silu(embedding)
        ctx = TimestepContext(embedding, int(t[0]) if step is None else step, self.config.total_steps)
        x = self.enter(x_t, condition)
        skips = [x]
        for block in self.encoder:
            x = block(x, ctx)
            skips.append(x)
        for block in self.middle:
            x = block(x, ctx)
        for level in self.decoder:
            x = level(x, skips, ctx)
        return self.leave(x)

    def enter(self, x_t: Tensor, condition: Tensor) -> Any:
        """The first features."""
        x = F.pixel_unshuffle(torch.cat([condition, x_t], dim=1), self.config.pixel_unshuffle)
        y = self.stem(x.contiguous(memory_format=torch.channels_last))
        return y.to(x.dtype) if self.training else y

    def leave(self, x: Any) -> Tensor:
        """The prediction, from the last features."""
        return F.pixel_shuffle(self.head(F.silu(self.head_norm(x))), self.config.pixel_unshuffle)


def meta_network(config: ModelConfig) -> UNet:
    """The network with names and shapes but without memory."""
    with torch.device("meta"):
        return UNet(config.network, config.condition_channels)
