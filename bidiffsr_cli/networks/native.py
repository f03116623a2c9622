"""The UNet's blocks on the native engine: the same network, computed with few passes over memory.

BI-DiffSR's network has a twin for every block; of SR3's, whose blocks are others, the binary convolutions alone run on
the engine (`NativeConvs`).

Binary convolutions run on packed bits, full-precision ones on blocks of floats (`ops.native`), each with the GroupNorm,
Swish and shortcuts around it; so does attention. The threads change no byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import BinaryConv, FullConv, Segment, native
from ..ops.threads import threads
from .binary_conv import FullPrecisionConv
from .blocks import (
    AddFusion,
    ConcatFusion,
    ConvDown,
    ConvUp,
    CPDown,
    CPUp,
    CSFusion,
    ResBlock,
    SelfAttention,
    SplitFusion,
)
from .packed import PackedBIConv, swap
from .time_aware import TimestepContext
from .unet import DecoderLevel, UNet


@dataclass(frozen=True)
class Engine:
    """What the twins run on.

    Attributes:
        isa: the instruction set.
        dtype: of what the full-precision convolutions multiply; everything else is float32.
    """

    isa: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Features:
    """A feature map, B×C×H×W, and what the next GroupNorm needs of it (`ops.reference.moments`)."""

    data: Tensor
    moments: Tensor


class NativeUNet(UNet):
    """BI-DiffSR's UNet for inference on the native engine; takes the parameters of a packed network over."""

    stem: NativeConv  # type: ignore[assignment]
    head: NativeConv  # type: ignore[assignment]

    def __init__(self, network: UNet, engine: Engine) -> None:
        nn.Module.__init__(self)
        self.config, self.engine = network.config, engine
        self.time_embedding = network.time_embedding
        # what the stem rounds reaches every sign: bf16 here costs 2 to 8 dB, everywhere else together less
        self.stem = NativeConv(network.stem, replace(engine, dtype=torch.float32))
        self.encoder = nn.ModuleList(twin(block, engine) for block in network.encoder)
        self.middle = nn.ModuleList(twin(block, engine) for block in network.middle)
        self.decoder = nn.ModuleList(twin(level, engine) for level in network.decoder)
        self.head_norm = network.head_norm
        self.head = NativeConv(network.head, engine)
        self.requires_grad_(False).eval()

    def enter(self, x_t: Tensor, condition: Tensor) -> Features:
        return self.stem(condition.contiguous(), x_t.contiguous(), unshuffle=self.config.pixel_unshuffle)

    def leave(self, x: Features) -> Tensor:
        return self.head(x.data, norm=norm_coefficients(self.head_norm, x), shuffle=self.config.pixel_unshuffle).data


class NativeConvs(nn.Module):
    """A network whose packed convolutions, one by one, run on the native engine, and everything else in torch."""

    def __init__(self, network: UNet, engine: Engine) -> None:
        super().__init__()
        self.config, self.dtype = network.config, engine.dtype
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = swap(network, PackedBIConv, lambda conv: NativeBIConv(conv, engine))
        self.requires_grad_(False).eval()

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.network(x_t, condition, t, step).float()


class NativeConv(nn.Module):
    """A full-precision convolution, with what surrounds it (`ops.reference.full_conv`)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, engine: Engine) -> None:
        super().__init__()
        self.engine, self.kernel = engine, conv.kernel_size[0]
        self.register_buffer("weight", native.prepare_full(engine.isa, conv.weight, engine.dtype))
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.register_buffer("bias", bias)

    @property
    def conv(self) -> FullConv:
        """What the engine takes."""
        return FullConv(self.weight, self.bias, self.kernel, self.engine.dtype)

    def forward(self, *sources: Tensor, **around: Any) -> Features:
        return Features(*native.full_conv(self.engine.isa, threads(), sources, self.conv, **around))


class NativeResBlock(nn.Module):
    """Twin of a ResBlock whose convolutions are binary."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.norm1, self.norm2, self.time = block.norm1, block.norm2, block.time
        self.conv1, self.conv2 = NativeBIConv(block.conv1, engine), NativeBIConv(block.conv2, engine)
        self.attention = attention_twin(block.attention, engine)

    def forward(self, x: Features, ctx: TimestepContext) -> Features:
        norm1 = norm_coefficients(self.norm1, x)
        h = binary_block(self.engine, [x], [self.conv1.at(ctx)], norm=norm1, addend=self.time(ctx.embedding))
        norm2 = norm_coefficients(self.norm2, h)
        return self.attention(binary_block(self.engine, [h], [self.conv2.at(ctx)], norm=norm2, residual=x.data))


class NativeFullResBlock(nn.Module):
    """Twin of a ResBlock whose convolutions are full precision."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        self.norm1, self.norm2, self.time = block.norm1, block.norm2, block.time
        self.conv1, self.conv2 = NativeConv(block.conv1, engine), NativeConv(block.conv2, engine)
        self.attention = attention_twin(block.attention, engine)

    def forward(self, x: Features, ctx: TimestepContext) -> Features:
        h = self.conv1(x.data, norm=norm_coefficients(self.norm1, x), addend=self.time(ctx.embedding))
        return self.attention(self.conv2(h.data, norm=norm_coefficients(self.norm2, h), residual=x.data))


class NativeAttention(nn.Module):
    """Twin of SelfAttention."""

    def __init__(self, attention: Any, engine: Engine) -> None:
        super().__init__()
        self.norm, engine = attention.norm, replace(engine, dtype=torch.float32)
        self.qkv, self.out = NativeConv(attention.qkv, engine), NativeConv(attention.out, engine)

    def forward(self, x: Features) -> Features:
        norm, engine = norm_coefficients(self.norm, x), self.out.engine
        return Features(*native.attention(engine.isa, threads(), x.data, norm, self.qkv.conv, self.out.conv))


class NativeResample(nn.Module):
    """Twin of CPDown, CPUp, ConvDown and ConvUp."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.up = isinstance(block, CPUp | ConvUp)
        self.halves = isinstance(block, CPDown)
        convs: list[Any] = [block.conv] if isinstance(block, ConvDown | ConvUp) else [block.conv1, block.conv2]
        self.convs: Any = nn.ModuleList(NativeBIConv(conv, engine) for conv in convs)

    def forward(self, x: Features, ctx: TimestepContext) -> Features:
        inputs = self.convs[0].inputs
        return binary_block(
            self.engine,
            [x],
            [
                conv.at(ctx, Segment(0, index * inputs if self.halves else 0, 1, inputs))
                for index, conv in enumerate(self.convs)
            ],
            concatenate=self.up and len(self.convs) == 2,
            arrangement="shuffle" if self.up else "unshuffle",
        )


class NativeFusion(nn.Module):
    """Twin of CSFusion, SplitFusion and ConcatFusion with binary convolutions."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        convs: list[Any] = [block.conv] if isinstance(block, ConcatFusion) else [block.conv1, block.conv2]
        self.convs: Any = nn.ModuleList(NativeBIConv(conv, engine) for conv in convs)
        self.segments = fusion_segments(block, convs[0].inputs)

    def forward(self, x: Features, skip: Features, ctx: TimestepContext) -> Features:
        convs = [conv.at(ctx, *segments) for conv, segments in zip(self.convs, self.segments, strict=True)]
        return binary_block(self.engine, [x, skip], convs)


class NativeFullFusion(nn.Module):
    """Twin of the fusions with full-precision convolutions: one matrix for x and the skip side by side."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        convs: list[Any] = [block.conv] if isinstance(block, ConcatFusion) else [block.conv1, block.conv2]
        outputs, inputs = convs[0].weight.shape[:2]
        channels = inputs // 2 if isinstance(block, ConcatFusion) else inputs
        weight = torch.zeros(outputs, 2, channels)
        for conv, segments in zip(convs, fusion_segments(block, inputs), strict=True):
            parts = conv.weight.detach().flatten(1).split([segment.count for segment in segments], dim=1)
            for segment, part in zip(segments, parts, strict=True):
                weight[:, segment.source, segment.first :: segment.step][:, : segment.count] += part
        joined = nn.Conv2d(2 * channels, outputs, 1)
        joined.weight = nn.Parameter(weight.view(outputs, 2 * channels, 1, 1))
        joined.bias = nn.Parameter(torch.stack([conv.bias for conv in convs]).sum(0))
        self.conv = NativeConv(joined, engine)

    def forward(self, x: Features, skip: Features, ctx: TimestepContext) -> Features:
        return self.conv(x.data, skip.data)


class NativeAdd(nn.Module):
    """Twin of AddFusion."""

    def __init__(self, block: Any, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, x: Features, skip: Features, ctx: TimestepContext) -> Features:
        data = x.data + skip.data
        return Features(data, native.moments(self.engine.isa, threads(), data))


class NativeBIConv(nn.Module):
    """A folded convolution, its bits in the layout of an instruction set; `at` selects what is a time step's."""

    weight: Tensor
    alpha: Tensor
    tar: Tensor

    def __init__(self, packed: PackedBIConv, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.inputs, self.kernel, self.identity = packed.inputs, packed.kernel, packed.identity
        self.stride = packed.stride
        self.register_buffer("weight", native.prepare(engine.isa, packed.sign, packed.inputs, packed.kernel))
        self.register_buffer("alpha", packed.alpha)
        self.register_buffer("tar", packed.tar.bias.detach() + 0.0)  # turns -0.0 into 0.0, as the sign's rule asks
        self.taa = packed.taa

    def at(self, ctx: TimestepContext, *segments: Segment) -> BinaryConv:
        """The convolution at a time step; of all channels of the first source, if no segments are given."""
        group = ctx.group(self.taa.slope.shape[0])
        return BinaryConv(
            self.weight,
            self.alpha,
            self.tar[ctx.group(self.tar.shape[0])],
            self.taa.shift[group],
            self.taa.slope[group],
            self.taa.offset[group],
            self.kernel,
            self.identity,
            segments or (Segment(0, 0, 1, self.inputs),),
        )

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """The convolution alone; with a stride, of every pixel, of which some are taken."""
        x = x.float().contiguous(memory_format=torch.channels_last)
        y, _ = native.binary_block(self.engine.isa, threads(), [x], [self.at(ctx)])
        return y if self.stride == 1 else y[:, :, :: self.stride, :: self.stride]


class NativeDecoderLevel(DecoderLevel):
    """Twin of a DecoderLevel: the same way through other blocks."""

    def __init__(self, level: DecoderLevel, engine: Engine) -> None:
        nn.Module.__init__(self)
        self.fusions = nn.ModuleList(twin(fusion, engine) for fusion in level.fusions)
        self.blocks = nn.ModuleList(twin(block, engine) for block in level.blocks)
        self.up = None if level.up is None else twin(level.up, engine)


def native_network(network: UNet, engine: Engine) -> NativeUNet | NativeConvs:
    """A packed network's form on the engine; the given one is used up."""
    return NativeConvs(network, engine) if network.config.type == "sr3" else NativeUNet(network, engine)


def twin(block: nn.Module, engine: Engine) -> nn.Module:
    """The twin of a block."""
    full = any(isinstance(child, FullPrecisionConv) for child in block.children())
    twins: dict[type[nn.Module], Callable[..., nn.Module]] = {
        ResBlock: NativeFullResBlock if full else NativeResBlock,
        CSFusion: NativeFullFusion if full else NativeFusion,
        SplitFusion: NativeFullFusion if full else NativeFusion,
        ConcatFusion: NativeFullFusion if full else NativeFusion,
        AddFusion: NativeAdd,
        CPDown: NativeResample,
        CPUp: NativeResample,
        ConvDown: NativeResample,
        ConvUp: NativeResample,
        DecoderLevel: NativeDecoderLevel,
    }
    return twins[type(block)](block, engine)


def attention_twin(attention: nn.Module, engine: Engine) -> nn.Module:
    """Likewise of what stands behind a ResBlock."""
    return NativeAttention(attention, engine) if isinstance(attention, SelfAttention) else nn.Identity()


def fusion_segments(block: SplitFusion | ConcatFusion, channels: int) -> list[tuple[Segment, ...]]:
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


def binary_block(engine: Engine, sources: list[Features], convs: list[BinaryConv], **around: Any) -> Features:
    """`ops.native.binary_block` on features, on the threads of this context."""
    return Features(*native.binary_block(engine.isa, threads(), [source.data for source in sources], convs, **around))


def norm_coefficients(norm: nn.GroupNorm, x: Features) -> tuple[Tensor, Tensor]:
    """A GroupNorm as a scale and a shift, B×C each."""
    return native.norm_coefficients(x.moments, x.data.shape[3], norm.num_groups, norm.eps, norm.weight, norm.bias)
