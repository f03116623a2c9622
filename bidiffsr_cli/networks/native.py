"""A packed UNet as a program of the native engine: the same network, computed with few passes over memory.

BI-DiffSR's network becomes one program. Of SR3's, whose blocks are others, every packed convolution becomes one of its
own, and everything else runs in torch (`NativeConvs`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..ops import BinaryBlock, BinaryConv, FullConv, Linear, Norm, Operation, Program, Segment, native
from ..ops.threads import threads
from .binary_conv import FullPrecisionConv
from .blocks import AddFusion, ConcatFusion, ConvDown, ConvUp, CPDown, CPUp, CSFusion, ResBlock, SelfAttention
from .packed import PackedBIConv, swap
from .time_aware import TimestepContext
from .unet import UNet

CONDITION, X_T = 0, 1
"""The program's inputs."""


@dataclass(frozen=True)
class Engine:
    """What a network runs on.

    Attributes:
        isa: the instruction set.
        dtype: of what the full-precision convolutions multiply; everything else is float32.
    """

    isa: str
    dtype: torch.dtype


class NativeUNet:
    """BI-DiffSR's UNet for inference on the native engine, of a packed network."""

    def __init__(self, network: UNet, engine: Engine) -> None:
        self.network = native.Network(engine.isa, program_of(network, engine.dtype))

    def __call__(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward."""
        return self._run(x_t, condition, t, step, None)

    def profile(self, x_t: Tensor, condition: Tensor, t: Tensor) -> dict[str, float]:
        """Seconds of each kind of work in one run."""
        seconds: list[float] = []
        self._run(x_t, condition, t, None, seconds)
        parts: defaultdict[str, float] = defaultdict(float)
        for part, taken in zip(self.network.parts, seconds, strict=True):
            parts[part] += taken
        return parts

    def _run(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None, seconds: list[float] | None) -> Tensor:
        times = t.tolist()
        planes = [condition.contiguous(), x_t.contiguous()]
        return self.network(planes, times, times[0] if step is None else step, threads(), seconds)


class NativeConvs(nn.Module):
    """A network whose packed convolutions, one by one, run on the native engine, and everything else in torch."""

    def __init__(self, network: UNet, engine: Engine) -> None:
        super().__init__()
        self.dtype = engine.dtype
        total = network.config.total_steps
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = swap(network, PackedBIConv, lambda conv: NativeBIConv(conv, engine, total))
        self.requires_grad_(False).eval()

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.network(x_t, condition, t, step).float()


class NativeBIConv(nn.Module):
    """A packed convolution on the engine."""

    def __init__(self, packed: PackedBIConv, engine: Engine, total_steps: int) -> None:
        super().__init__()
        self.stride = packed.stride
        block = BinaryBlock((0,), (binary_conv(packed),))
        self.network = native.Network(engine.isa, Program((packed.inputs,), (block,), total_steps))

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """With a stride every pixel is computed, and some are taken."""
        x = x.float().contiguous(memory_format=torch.channels_last)
        y = self.network([x], [ctx.t] * len(x), ctx.t, threads())
        return y if self.stride == 1 else y[:, :, :: self.stride, :: self.stride]


def native_network(network: UNet, engine: Engine) -> NativeUNet | NativeConvs:
    """A packed network's form on the engine; the given one may be used up."""
    return NativeConvs(network, engine) if network.config.type == "sr3" else NativeUNet(network, engine)


def program_of(network: UNet, dtype: torch.dtype) -> Program:
    """The program of a packed network of BI-DiffSR's kind; its inputs are the condition and x_t, as planes.

    Args:
        network: packed.
        dtype: of what the full-precision convolutions multiply.
    """
    r = network.config.pixel_unshuffle
    writer = _Writer(dtype)
    # what the stem rounds reaches every sign: bf16 here costs 2 to 8 dB, everywhere else together less
    stem = full_conv((CONDITION, X_T), network.stem, torch.float32, unshuffle=r, part="stem")
    x = writer.write(stem)
    skips = [x]
    for block in network.encoder:
        x = writer.block(block, x)
        skips.append(x)
    for block in network.middle:
        x = writer.block(block, x)
    level: Any
    for level in network.decoder:
        for fusion, block in zip(level.fusions, level.blocks, strict=True):
            x = writer.block(block, writer.fusion(fusion, x, skips.pop()))
        if level.up is not None:
            x = writer.block(level.up, x)
    writer.write(full_conv((x,), network.head, dtype, norm=norm_of(network.head_norm), shuffle=r, part="head"))
    embedding = network.time_embedding
    return Program(
        (network.stem.in_channels // r**2 - 3, 3),
        tuple(writer.operations),
        network.config.total_steps,
        ops.TimeEmbedding(linear_of(embedding.linear1), linear_of(embedding.linear2), swish=True),
        planes=True,
    )


class _Writer:
    """Writes blocks down as operations; what it returns are the numbers of the maps that they give."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.operations: list[Operation] = []
        self.dtype = dtype

    def write(self, operation: Operation) -> int:
        self.operations.append(operation)
        return X_T + len(self.operations)

    def block(self, block: Any, x: int) -> int:
        return self._res_block(block, x) if isinstance(block, ResBlock) else self._resample(block, x)

    def fusion(self, block: Any, x: int, skip: int) -> int:
        if isinstance(block, AddFusion):
            return self.write(ops.Add((x, skip), "fusions"))
        convs: list[Any] = [block.conv] if isinstance(block, ConcatFusion) else [block.conv1, block.conv2]
        if isinstance(convs[0], FullPrecisionConv):
            return self.write(full_conv((x, skip), joined(block, convs), self.dtype, part="fusions"))
        segments = fusion_segments(block, convs[0].inputs)
        both = tuple(binary_conv(conv, *seen) for conv, seen in zip(convs, segments, strict=True))
        return self.write(BinaryBlock((x, skip), both, part="fusions"))

    def _res_block(self, block: Any, x: int) -> int:
        first: dict[str, Any] = {"norm": norm_of(block.norm1), "time": linear_of(block.time)}
        second: dict[str, Any] = {"norm": norm_of(block.norm2), "residual": x}
        if isinstance(block.conv1, FullPrecisionConv):
            part = "full-precision blocks"
            h = self.write(full_conv((x,), block.conv1, self.dtype, part=part, **first))
            y = self.write(full_conv((h,), block.conv2, self.dtype, part=part, **second))
        else:
            h = self.write(BinaryBlock((x,), (binary_conv(block.conv1),), part="binary blocks", **first))
            y = self.write(BinaryBlock((h,), (binary_conv(block.conv2),), part="binary blocks", **second))
        attention = block.attention
        if not isinstance(attention, SelfAttention):
            return y
        qkv, out = (conv.weight.flatten(1) for conv in (attention.qkv, attention.out))
        bias = attention.out.bias
        assert bias is not None
        return self.write(ops.Attention((y,), norm_of(attention.norm), qkv, Linear(out, bias), "attention"))

    def _resample(self, block: Any, x: int) -> int:
        up = isinstance(block, CPUp | ConvUp)
        convs: list[Any] = [block.conv] if isinstance(block, ConvDown | ConvUp) else [block.conv1, block.conv2]
        inputs = convs[0].inputs
        halves = inputs if isinstance(block, CPDown) else 0  # each sees its own
        return self.write(
            BinaryBlock(
                (x,),
                tuple(binary_conv(conv, Segment(0, index * halves, 1, inputs)) for index, conv in enumerate(convs)),
                concatenate=up and len(convs) == 2,
                arrangement="shuffle" if up else "unshuffle",
                part="resampling",
            )
        )


def binary_conv(packed: PackedBIConv, *segments: Segment) -> BinaryConv:
    """A packed convolution; of all channels of the first source, if no segments are given."""
    taa = packed.taa
    return BinaryConv(
        packed.sign,
        packed.alpha,
        packed.tar.bias.detach() + 0.0,  # turns -0.0 into 0.0, as the sign's rule asks
        taa.shift,
        taa.slope,
        taa.offset,
        packed.kernel,
        packed.identity,
        segments or (Segment(0, 0, 1, packed.inputs),),
    )


def full_conv(sources: tuple[int, ...], conv: nn.Conv2d, dtype: torch.dtype, **around: Any) -> FullConv:
    """A full-precision convolution with what surrounds it."""
    assert conv.bias is not None
    return FullConv(sources, conv.weight, conv.bias, dtype, **around)


def joined(block: nn.Module, convs: list[nn.Conv2d]) -> nn.Conv2d:
    """A fusion's full-precision convolutions as one, of x and the skip side by side."""
    outputs, inputs = convs[0].weight.shape[:2]
    channels = inputs // 2 if isinstance(block, ConcatFusion) else inputs
    weight = torch.zeros(outputs, 2, channels)
    for conv, segments in zip(convs, fusion_segments(block, inputs), strict=True):
        parts = conv.weight.detach().flatten(1).split([segment.count for segment in segments], dim=1)
        for segment, part in zip(segments, parts, strict=True):
            weight[:, segment.source, segment.first :: segment.step][:, : segment.count] += part
    result = nn.Conv2d(2 * channels, outputs, 1)
    result.weight = nn.Parameter(weight.view(outputs, 2 * channels, 1, 1))
    result.bias = nn.Parameter(torch.stack([conv.bias for conv in convs if conv.bias is not None]).sum(0))
    return result


def fusion_segments(block: nn.Module, channels: int) -> list[tuple[Segment, ...]]:
    """What each of a fusion's convolutions sees of x (source 0) and the skip (source 1)."""
    half = channels // 2
    if isinstance(block, ConcatFusion):
        return [(Segment(0, 0, 1, half), Segment(1, 0, 1, half))]
    if isinstance(block, CSFusion):
        return [
            (Segment(0, 1, 2, half), Segment(1, 0, 2, half)),  # odd channels of x, even ones of the skip
            (Segment(0, 0, 2, half), Segment(1, 1, 2, half)),
        ]
    return [(Segment(0, 0, 1, channels),), (Segment(1, 0, 1, channels),)]


def norm_of(norm: nn.GroupNorm) -> Norm:
    """A GroupNorm's numbers."""
    return Norm(norm.num_groups, norm.eps, norm.weight, norm.bias)


def linear_of(linear: nn.Linear) -> Linear:
    """A linear layer's numbers."""
    return Linear(linear.weight, linear.bias)
