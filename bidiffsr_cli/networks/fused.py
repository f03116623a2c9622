"""ResBlocks by Triton's pair around cuDNN's convolution (`ops/triton_pair.py`), where it is measured to be faster.

`fuse` looks once at each size of block on each device, while a network is prepared: both ways compute the same maps as
CUDA graphs, and the pair is taken if it agrees and needs less time. Where Triton is missing, or anything fails, blocks
stay as they are. `in_words` says what was found.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ResBlock
from .graphs import WORTH_A_GRAPH, CudaGraphs
from .packed import FrozenBIConv, swap
from .precision import ChannelsLastGroupNorm
from .time_aware import TimestepContext
from .unet import UNet

SIDE = 256
"""Of the finest maps that are measured: those of the published network, and of the bundled ones' windows."""
WORTH_IT = 1.05
"""How many times as fast the pair must be: less may be chance."""
LARGEST_DIFFERENCE = 1e-3
"""Mean square of the differences, as a part of the results': a few signs in a million tip by another rounding."""
Way = Callable[[], Tensor]
"""A way to compute something."""
Clock = Callable[[Way], float]
"""How many seconds a way takes."""


@dataclass(frozen=True)
class Size:
    """What a choice depends on: device, channels, groups of the norm, and side of the map."""

    device: torch.device
    channels: int
    groups: int
    side: int


@dataclass(frozen=True)
class Choice:
    """Whether blocks of a size are fused, and why, in words."""

    fused: bool
    why: str


choices: dict[Size, Choice] = {}
"""What was found in this process."""
_one_at_a_time = threading.Lock()  # measurements would take each other's time


class FusedResBlock(nn.Module):
    """A ResBlock by the pair; maps that are not float32, as which it was measured, go through the block itself.

    Args:
        block: one that `can_be_fused`, whose parameters are used where they are.
    """

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        from ..ops import triton_pair

        block: Any = self.block
        if x.dtype != torch.float32:
            return block(x, ctx)
        x = x.contiguous(memory_format=torch.channels_last)
        time = block.time(ctx.embedding).expand(len(x), -1).contiguous()
        h, moments = _half(block.conv1, block.norm1, x, block.norm1.statistics(x), ctx, time=time)
        statistics = triton_pair.statistics(moments, block.norm2.groups, x.shape[2] * x.shape[3])
        h, _ = _half(block.conv2, block.norm2, h, statistics, ctx, residual=x)
        return block.attention(h)


def _half(
    conv: FrozenBIConv,
    norm: ChannelsLastGroupNorm,
    x: Tensor,
    statistics: tuple[Tensor, Tensor],
    ctx: TimestepContext,
    **added: Tensor,
) -> tuple[Tensor, Tensor]:
    """A convolution with all around it: the result, and its sums."""
    from ..ops.triton_pair import Normed, finish, prepare

    normed, taa = Normed(x, *statistics, norm.weight, norm.bias, norm.eps), conv.taa
    signs = prepare(normed, conv.tar(ctx).flatten(), conv.weight.dtype)
    sums = F.conv2d(signs, conv.weight, padding=conv.weight.shape[-1] // 2)
    sums = sums.contiguous(memory_format=torch.channels_last)  # as it is, but nobody promises it
    group = ctx.group(len(taa.slope))
    return finish(sums, normed, conv.alpha, (taa.shift[group], taa.slope[group], taa.offset[group]), **added)


def can_be_fused(block: ResBlock) -> bool:
    """Whether its convolutions are frozen and add their input behind the activation, and its norms are channels last.

    Such convolutions change neither channels nor size, so the block has no shortcut but x.
    """
    convs = all(isinstance(conv, FrozenBIConv) and conv.identity == "after" for conv in (block.conv1, block.conv2))
    return convs and all(isinstance(norm, ChannelsLastGroupNorm) for norm in (block.norm1, block.norm2))


def fuse(network: UNet, clock: Clock | None = None) -> UNet:
    """Put the pair into a network's ResBlocks where it is faster, in place.

    Args:
        network: frozen, `in_precision`, and where it stays.
        clock: measures there; None for `graph_seconds`, on CUDA.
    """
    device = network.stem.weight.device

    def choose(block: Any) -> nn.Module:
        if not can_be_fused(block):
            return block
        norm = block.norm1
        size = Size(device, norm.channels, norm.groups, max(1, SIDE * network.config.inner_channel // norm.channels))
        with _one_at_a_time:
            if size not in choices:
                measure = clock or partial(graph_seconds, device)
                choices[size] = choice(partial(ways, block, size, network.config.total_steps), measure)
        return FusedResBlock(block) if choices[size].fused else block

    return swap(network, ResBlock, choose)


def ways(block: ResBlock, size: Size, total_steps: int, batch: int = 1) -> tuple[Way, Way]:
    """A block on random maps of a size, as it is and by the pair."""
    generator = torch.Generator(size.device).manual_seed(0)
    x = torch.randn(batch, size.channels, size.side, size.side, generator=generator, device=size.device)
    x = x.contiguous(memory_format=torch.channels_last)
    ctx = TimestepContext(x.new_zeros(batch, block.time.in_features), 0, total_steps)
    return partial(block, x, ctx), partial(FusedResBlock(block), x, ctx)


def choice(both: Callable[[], tuple[Way, Way]], clock: Clock) -> Choice:
    """What is found of two ways, the plain one and the pair's; that something fails is a finding, too."""
    try:
        plain, fused = measured(*both(), clock)
    except Exception as error:  # Triton, compilers and drivers know many, and nothing depends on the pair
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        logging.getLogger("bidiffsr").debug("Triton's pair is left out: %s", why)
        return Choice(False, why)
    return Choice(plain > WORTH_IT * fused, f"it is {plain / fused:.2f} times as fast")


@torch.inference_mode()
def measured(plain: Way, fused: Way, clock: Clock) -> tuple[float, float]:
    """Seconds of either way.

    Raises:
        ArithmeticError: they do not compute the same.
        Exception: whatever else goes wrong.
    """
    expected, found = plain(), fused()
    apart = float((found - expected).square().mean() / expected.square().mean())
    if not apart <= LARGEST_DIFFERENCE:  # nor where it is not a number
        raise ArithmeticError(f"it differs from the plain block by {apart:.0e} of its power")
    return clock(plain), clock(fused)


def graph_seconds(device: torch.device, way: Way, rounds: int = 5, replays: int = 10) -> float:
    """Seconds of a way that is replayed as a CUDA graph: the mean of some replays, in the best of some rounds."""
    graphs = CudaGraphs(device)
    with graphs.turn():
        for _ in range(WORTH_A_GRAPH):
            way()
        replay, seconds = graphs.capture(way), list[float]()
        for _ in range(rounds):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(replays):
                replay()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3 / replays)
    return min(seconds)


def in_words() -> str:
    """What was found in this process; empty where nothing was looked at."""
    taken = sorted({size.channels for size, found in choices.items() if found.fused})
    if taken:
        return f"Triton's pair in blocks of {', '.join(map(str, taken))} channels"
    return "".join(f"without Triton's pair ({found.why})" for found in list(choices.values())[:1])
