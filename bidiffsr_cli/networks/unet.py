"""UNet, the denoising network of the paper, computed as the authors' code computes it.

One skeleton serves BI-DiffSR, its ablations and SR3; `blueprint` says of what it consists.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import ModelConfig, UNetConfig
from ..ops.reference import sinusoids
from . import blueprint as plans
from .binary_conv import convs_of
from .blocks import ConvOf, Fusion, Resample, ResBlock, group_norm
from .time_aware import TimestepContext
from .upsampler import Upsampler


class TimeEmbedding(nn.Module):
    """t -> B×C: sinusoids of t, Linear, Swish, Linear."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)

    def forward(self, t: Tensor) -> Tensor:
        weight = self.linear1.weight
        return self.linear2(F.silu(self.linear1(sinusoids(t, weight.shape[1]).to(weight.dtype))))


class DecoderLevel(nn.Module):
    """One resolution of the decoder: fusions with the encoder's features, each before a ResBlock, then the way up."""

    def __init__(self, plan: plans.DecoderLevel, conv: ConvOf) -> None:
        super().__init__()
        pairs = [
            (Fusion(fusion, conv), ResBlock(block, conv))
            for fusion, block in zip(plan.fusions, plan.blocks, strict=True)
        ]
        self.fusions = nn.ModuleList(fusion for fusion, _ in pairs)
        self.blocks = nn.ModuleList(block for _, block in pairs)
        self.up = None if plan.up is None else block_of(plan.up, conv)

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

    Attributes:
        upsamplers: scale -> what enlarges the picture beforehand; no part of the forward pass.
    """

    def __init__(self, config: UNetConfig, condition_channels: int = 3) -> None:
        super().__init__()
        self.config = config
        plan, conv = plans.blueprint(config, condition_channels), convs_of(config)
        self.time_embedding = TimeEmbedding(config.inner_channel)
        self.stem = nn.Conv2d(plan.stem.inputs, plan.stem.outputs, 3, padding=1)
        self.encoder = nn.ModuleList(block_of(part, conv) for part in plan.encoder)
        self.middle = nn.ModuleList(block_of(part, conv) for part in plan.middle)
        self.decoder = nn.ModuleList(DecoderLevel(level, conv) for level in plan.decoder)
        self.head_norm = group_norm(plan.head_norm)
        self.head = nn.Conv2d(plan.head.inputs, plan.head.outputs, 3, padding=1)
        self.upsamplers = nn.ModuleDict({str(part.scale): Upsampler(part) for part in plan.upsamplers})

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


def block_of(plan: plans.ResBlock | plans.Resample, conv: ConvOf) -> nn.Module:
    """A block that is no fusion, by its plan."""
    return ResBlock(plan, conv) if isinstance(plan, plans.ResBlock) else Resample(plan, conv)


def meta_network(config: ModelConfig) -> UNet:
    """The network with names and shapes but without memory."""
    with torch.device("meta"):
        return UNet(config.network, config.condition_channels)
