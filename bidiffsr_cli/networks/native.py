"""The UNet's blocks on the native engine: the same network, computed with few passes over memory.

BI-DiffSR's network has a twin for every block; of SR3's, whose blocks are others, the binary convolutions alone run on
the engine (`NativeConvs`).

Binary convolutions run on packed bits (`ops.native`), each with the GroupNorm, Swish and shortcuts around it.
Full-precision convolutions stay with torch and see bands of rows, which the native engine activates before and finishes
behind them while they are in the cache. Bands have the same height whatever the number of threads, and torch computes
each with one thread: the threads change no byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import BinaryConv, Segment, native
from ..ops.threads import parallel, threads
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

QUERIES = 256
"""Positions of a picture whose attention is computed at once."""
BAND = 2**18
"""About how many values of a feature map a full-precision convolution sees at once (1 MB)."""


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
        r, stem = self.config.pixel_unshuffle, self.stem
        batch, _, height, width = x_t.shape
        planes = condition.contiguous(), x_t.contiguous()
        result = empty_features(batch, stem.outputs, height // r, width // r)

        def band(picture: int, first: int, last: int) -> None:
            seen = native.unshuffle_rows([part[picture] for part in planes], r, first - stem.margin, last + stem.margin)
            finish(self.engine, stem.convolve(seen), stem.bias, result, picture, first, None)

        in_bands(band, result.data)
        return result

    def leave(self, x: Features) -> Tensor:
        r, head, isa = self.config.pixel_unshuffle, self.head, self.engine.isa
        batch, _, height, width = x.data.shape
        norm = norm_coefficients(self.head_norm, x)
        result = torch.empty(batch, head.outputs // r**2, height * r, width * r)

        def band(picture: int, first: int, last: int) -> None:
            seen = activate(isa, [x.data], norm, picture, first - head.margin, last + head.margin, head.weight.dtype)
            native.shuffle_rows(head.convolve(seen), head.bias, r, first, result[picture])

        in_bands(band, x.data)
        return result


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
    """A full-precision convolution, with what surrounds it: residual + bias + conv(Swish(scale x + shift))."""

    def __init__(self, conv: nn.Conv2d, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        weight = conv.weight.detach().to(engine.dtype).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        assert conv.bias is not None
        self.bias = conv.bias
        self.outputs, self.margin = conv.out_channels, conv.kernel_size[0] // 2

    def convolve(self, seen: Tensor) -> Tensor:
        """The convolution of rows that bring their own margin above and below."""
        if torch.backends.mkldnn.is_available():
            # conv2d would leave some of these to a slower library where torch has one thread
            y = torch.mkldnn_convolution(seen, self.weight, None, (0, self.margin), (1, 1), (1, 1), 1)
        else:
            y = F.conv2d(seen, self.weight, padding=(0, self.margin))
        return y.contiguous(memory_format=torch.channels_last)

    def forward(
        self,
        *sources: Tensor,
        norm: tuple[Tensor, Tensor] | None = None,
        addend: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Features:
        batch, _, height, width = sources[0].shape
        bias = self.bias.expand(batch, -1) if addend is None else self.bias + addend
        result = empty_features(batch, self.outputs, height, width)

        def band(picture: int, first: int, last: int) -> None:
            margin, dtype = self.margin, self.engine.dtype
            seen = activate(self.engine.isa, sources, norm, picture, first - margin, last + margin, dtype)
            finish(self.engine, self.convolve(seen), bias[picture], result, picture, first, residual)

        in_bands(band, result.data)
        return result


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
    """Twin of SelfAttention; a band is some rows of queries."""

    def __init__(self, attention: Any, engine: Engine) -> None:
        super().__init__()
        self.engine, self.norm = engine, attention.norm
        self.qkv, self.out = (
            nn.Parameter(conv.weight.detach().flatten(1).to(engine.dtype), requires_grad=False)
            for conv in (attention.qkv, attention.out)
        )
        self.bias = attention.out.bias

    def forward(self, x: Features) -> Features:
        batch, channels, height, width = x.data.shape
        scale, shift = norm_coefficients(self.norm, x)
        result = empty_features(batch, channels, height, width)
        qkv = torch.empty(3, batch, height, width, channels, dtype=self.engine.dtype)
        tokens = x.data.permute(0, 2, 3, 1)  # (B, H, W, C)
        rows = max(1, QUERIES // width)
        bands = [(picture, first) for picture in range(batch) for first in range(0, height, rows)]

        def project(item: tuple[int, int]) -> None:
            picture, first = item
            normed = tokens[picture, first : first + rows] * scale[picture] + shift[picture]
            projected = F.linear(normed.to(self.engine.dtype), self.qkv).unflatten(2, (3, channels))
            qkv[:, picture, first : first + rows] = projected.permute(2, 0, 1, 3)

        def attend(item: tuple[int, int]) -> None:
            picture, first = item
            _, keys, values = qkv[:, picture].reshape(3, height * width, channels)
            queries = qkv[0, picture, first : first + rows].reshape(-1, channels) * channels**-0.5
            scores = (queries @ keys.T).softmax(1, torch.float32).to(self.engine.dtype)
            y = F.linear(scores @ values, self.out)
            y = y.view(1, -1, width, channels).permute(0, 3, 1, 2)
            finish(self.engine, y, self.bias, result, picture, first, x.data)

        parallel(project, bands)
        parallel(attend, bands)
        return result


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


def empty_features(batch: int, channels: int, height: int, width: int) -> Features:
    """Features that are yet to be computed."""
    return Features(native.new_map(batch, channels, height, width), torch.empty(batch, height, 2, channels))


def in_bands(band: Callable[[int, int, int], None], like: Tensor) -> None:
    """Call band(picture, first row, last row + 1) for all bands of a map, on the threads of this context."""
    batch, channels, height, width = like.shape
    rows = max(8, min(BAND // (width * channels), -(-height // 4)))
    bands = [(picture, first) for picture in range(batch) for first in range(0, height, rows)]
    parallel(lambda item: band(*item, min(item[1] + rows, height)), bands)


def activate(
    isa: str,
    sources: Sequence[Tensor],
    norm: tuple[Tensor, Tensor] | None,
    picture: int,
    first: int,
    last: int,
    dtype: torch.dtype,
) -> Tensor:
    """`ops.native.activate_rows` of one picture."""
    coefficients = None if norm is None else (norm[0][picture, None], norm[1][picture, None])
    return native.activate_rows(isa, [source[picture, None] for source in sources], coefficients, first, last, dtype)


def finish(
    engine: Engine, y: Tensor, bias: Tensor, result: Features, picture: int, first: int, residual: Tensor | None
) -> None:
    """Put a band of a convolution's result in its place, from row `first` of one picture on."""
    native.finish_rows(
        engine.isa,
        y,
        bias,
        result.data[picture, None],
        result.moments[picture, None],
        first,
        None if residual is None else residual[picture, None],
    )
