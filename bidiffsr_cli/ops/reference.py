"""The operations of 1-bit inference in plain torch: the definition that every other backend must equal.

The rule of signs: bit 1, that is +1, where the value is >= 0 (-0.0 included), else bit 0, that is -1. Zero padding
comes after the sign and contributes exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Add, Attention, BinaryBlock, BinaryConv, FullConv, Join, Linear, Norm, Program, TimeEmbedding
from .packing import unpack_signs

CPU = torch.device("cpu")


def binarize(x: Tensor, shift: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sign(x + shift) as +1.0 and -1.0 (paper, eq. 5-7).

    Args:
        x: B×C×H×W.
        shift: broadcastable to x, TaR's bias; free of -0.0, so that no sum is -0.0 and `copysign` keeps the rule.
        dtype: of the result; rounding to it keeps every sign.
    """
    y = torch.add(x, shift, out=torch.empty_like(x, dtype=dtype))
    return torch.copysign(torch.ones((), dtype=dtype, device=y.device), y, out=y)


def channel_scales(weight: Tensor) -> Tensor:
    """alpha, the mean |w| of each output channel (paper, eq. 5-7): O, float32.

    Summed in double precision, so that it is exact where all |w| of a channel are equal, as in a packed file.
    """
    return weight.detach().abs().double().mean(dim=(1, 2, 3)).float()


def binary_conv(signs: Tensor, weight: Tensor, alpha: Tensor, stride: int = 1) -> Tensor:
    """alpha (Sign(x) * Sign(w)), padded with zeros: B×I×H×W -> B×O×H×W, or less with a stride (paper, eq. 5-7).

    The sums are integers below 2^24, hence exact in float32, whatever their order; alpha comes behind them.

    Args:
        signs: B×I×H×W of +1.0 and -1.0.
        weight: O×I×k×k of +1.0 and -1.0, of the same type.
        alpha: O, float32.
        stride: in both directions.

    Returns:
        B×O×H×W, float32.
    """
    sums = F.conv2d(signs, weight, stride=stride, padding=weight.shape[-1] // 2)
    scales = alpha.view(-1, 1, 1)
    return sums.mul_(scales) if sums.dtype == scales.dtype else sums * scales  # float32 either way


def rprelu(x: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """PReLU(x + shift) + offset, per channel (ReActNet's RPReLU; TaA selects its parameters).

    Args:
        x: B×C×H×W; overwritten.
        shift, offset: broadcastable to x.
        slope: C.
    """
    return F.prelu(x.add_(shift), slope).add_(offset)


def noise(height: int, width: int, seed: int, draw: int = 0, device: torch.device = CPU) -> Tensor:
    """N(0, 1) noise that depends on the seed and on the place alone, not on the canvas's size, the device or threads.

    Philox 4×32-10 (Salmon et al., SC 2011) counts by column, row and draw, and is keyed by the seed; of its four words
    Box and Muller's method makes three values. All arithmetic is integers, and float32 additions, products and
    quotients one by one, which every processor rounds alike; square roots, of which that is not true, are made of them.

    Args:
        height, width: of the canvas.
        seed: any integer >= 0, of which the lowest 64 bits count.
        draw: which of a run's fields; 0 is the start noise.
        device: where it is computed and stays.

    Returns:
        3×height×width, float32.
    """
    field = torch.empty(3, height, width, device=device)
    band = max(1, (NOISE_PIXELS if device.type == "cpu" else 32 * NOISE_PIXELS) // width)
    for top in range(0, height, band):
        rows = torch.arange(top, min(top + band, height), device=device)[:, None].expand(-1, width)
        columns = torch.arange(width, device=device).expand_as(rows)
        words = _philox([columns, rows, torch.full_like(rows, draw), torch.zeros_like(rows)], seed)
        part = field[:, top : top + band]
        part[0], part[1] = _normal(words[0], words[1])
        part[2], _ = _normal(words[2], words[3])
    return field


NOISE_PIXELS = 2**16
"""Pixels that are drawn at once on a CPU: the words of one counter take sixteen times the memory of its value."""


def _philox(counter: list[Tensor], seed: int) -> list[Tensor]:
    """Ten rounds on four words, int64 of 0..2^32-1; products of two wrap around, which leaves their 64 bits right."""
    c0, c1, c2, c3 = counter
    word = 0xFFFFFFFF
    for turn in range(10):
        k0, k1 = (seed + turn * 0x9E3779B9) & word, (seed // 2**32 + turn * 0xBB67AE85) & word
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32 & word) ^ c1 ^ k0, b & word, (a >> 32 & word) ^ c3 ^ k1, a & word
    return [c0, c1, c2, c3]


def _normal(distance: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent values, by Box and Muller: the distance by one word, the direction by another."""
    r = _square_root(_logarithm(distance) * -2.0)
    turn = direction >> 8
    quarter = turn >> 22
    a = ((turn & 0x3FFFFF).float() * 2.0**-22 - 0.5) * 1.57079633  # within an eighth of a turn
    z = a * a
    s, c = z * (1 / 362880) + -1 / 5040, z * (1 / 40320) + -1 / 720
    s, c = s * z + 1 / 120, c * z + 1 / 24
    s, c = s * z + -1 / 6, c * z + -0.5
    s, c = (s * z + 1.0) * a, c * z + 1.0
    odd, back = (quarter & 1).bool(), (quarter & 2).bool()
    x, y = torch.where(odd, -s, c), torch.where(odd, c, s)
    return torch.where(back, -x, x) * r, torch.where(back, -y, y) * r


def _square_root(x: Tensor) -> Tensor:
    """By three of Newton's steps towards 1 / sqrt(x), from what half the exponent says of it."""
    y = (0x5F3759DF - (x.view(torch.int32) >> 1)).view(torch.float32)
    for _ in range(3):
        y = y * (1.5 - x * 0.5 * y * y)
    return x * y


def _logarithm(words: Tensor) -> Tensor:
    """Of (word / 2^8 + 1) / 2^24, which lies in (0, 1]: 2 atanh((m - 1) / (m + 1)) with m near 1, and an exponent."""
    bits = (((words >> 8) + 1).float() * 2.0**-24).view(torch.int32)
    exponent = (bits - 0x3F3504F3) >> 23  # the square root of a half: m is within a factor of the root of two of 1
    m = (bits - (exponent << 23)).view(torch.float32)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = z * (2 / 9) + 2 / 7
    p = p * z + 2 / 5
    p = p * z + 2 / 3
    p = p * z + 2.0
    return p * s + exponent.float() * 0.69314718


@dataclass(frozen=True)
class TimestepContext:
    """The time step of one forward pass.

    Attributes:
        embedding: B×C, the time embedding, in BI-DiffSR's network behind a Swish; B×0 where there is none.
        t: The time step of the batch's first picture, 0..T-1; the others lie in the same group.
        total_steps: T.
    """

    embedding: Tensor
    t: int
    total_steps: int

    def group(self, groups: int) -> int:
        """Which of K groups t falls in: floor(K t / T)."""
        return min(self.t * groups // self.total_steps, groups - 1)


def run(program: Program, inputs: Sequence[Tensor], t: Tensor, step: int) -> list[Tensor]:
    """All maps of a program, the inputs first and the result last.

    Args:
        program: of operations.
        inputs: B×C×H×W each.
        t: B, for the embedding.
        step: chooses the groups of TaR and TaA.
    """
    embedding = embed(program.embedding, t) if program.embedding else torch.empty(len(t), 0)
    ctx = TimestepContext(embedding, step, program.total_steps)
    maps = list(inputs)
    for operation in program.operations:
        maps.append(FUNCTIONS[type(operation)](operation, maps, ctx))
    return maps


def embed(embedding: TimeEmbedding, t: Tensor) -> Tensor:
    """The embedding of time steps: B -> B×E."""
    hidden = F.silu(_linear(embedding.first, sinusoids(t, embedding.first.weight.shape[1])))
    result = _linear(embedding.second, hidden)
    return F.silu(result) if embedding.swish else result


def sinusoids(t: Tensor, channels: int) -> Tensor:
    """Sines and cosines of time steps, at rates from 1 down to almost 1e-4: B -> B×channels, float32."""
    half = channels // 2
    rates = torch.exp(torch.arange(half, device=t.device) / half * -math.log(1e4))
    angles = t.to(torch.float32)[:, None] * rates  # (B, C/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def binary_block(block: BinaryBlock, maps: Sequence[Tensor], ctx: TimestepContext) -> Tensor:
    """What a `BinaryBlock` computes."""
    sources = [maps[source] for source in block.sources]
    if block.norm is not None:
        sources = [F.silu(_normed(block.norm, sources[0]))]
    results = []
    for conv in block.convs:
        x = convolved(conv, sources)
        shift, slope, offset = (
            part.tensor()[ctx.group(part.shape[0])] for part in (conv.shift, conv.slope, conv.offset)
        )
        shape = conv.alpha.shape[0], x.shape[1], conv.kernel, conv.kernel
        tar = conv.tar.tensor()[ctx.group(conv.tar.shape[0])] + 0.0  # turns -0.0 into 0.0, as `binarize` asks
        signs = binarize(x, tar.view(-1, 1, 1))
        stride = 2 if block.arrangement == "strided" else 1
        y = binary_conv(signs, unpack_signs(conv.signs.tensor(), shape), conv.alpha.tensor(), stride)
        if conv.identity == "before":
            y = y.add_(x)
        y = rprelu(y, shift.view(-1, 1, 1), slope, offset.view(-1, 1, 1))
        results.append(y.add_(x) if conv.identity == "after" else y)
    y = torch.cat(results, dim=1) if block.concatenate else sum(results[1:], start=results[0])
    if block.arrangement == "shuffle":
        return F.pixel_shuffle(y, 2)
    if block.arrangement == "unshuffle":
        return F.pixel_unshuffle(y, 2)
    return _with_all_that_is_added(y, block, maps, ctx)


def convolved(conv: BinaryConv, sources: Sequence[Tensor]) -> Tensor:
    """What a binary convolution sees of a block's sources: B×I×H×W."""
    return torch.cat(
        [sources[part.source][:, part.first :: part.step][:, : part.count] for part in conv.segments], dim=1
    )


def full_conv(conv: FullConv, maps: Sequence[Tensor], ctx: TimestepContext) -> Tensor:
    """What a `FullConv` computes."""
    x = torch.cat([maps[source] for source in conv.sources], dim=1)
    if conv.unshuffle:
        x = F.pixel_unshuffle(x, conv.unshuffle)
    if conv.norm is not None:
        x = F.silu(_normed(conv.norm, x))
    if conv.relu:
        x = F.relu(x)
    dtype = getattr(torch, conv.dtype)
    x, weight = x.to(dtype).float(), conv.weight.tensor().to(dtype).float()
    y = F.conv2d(x, weight, conv.bias.tensor(), padding=weight.shape[-1] // 2)
    y = _with_all_that_is_added(y, conv, maps, ctx)
    return F.pixel_shuffle(y, conv.shuffle) if conv.shuffle else y


def attention(block: Attention, maps: Sequence[Tensor], ctx: TimestepContext) -> Tensor:
    """What an `Attention` computes."""
    x = maps[block.sources[0]]
    tokens = _normed(block.norm, x).flatten(2).transpose(1, 2) @ block.qkv.tensor().T  # (B, H·W, 3C)
    q, k, v = tokens.chunk(3, dim=2)
    y = _linear(block.out, F.scaled_dot_product_attention(q, k, v))
    return x + y.transpose(1, 2).reshape(x.shape)


def add(operation: Add, maps: Sequence[Tensor], ctx: TimestepContext) -> Tensor:
    """What an `Add` computes."""
    return maps[operation.sources[0]] + maps[operation.sources[1]]


def join(operation: Join, maps: Sequence[Tensor], ctx: TimestepContext) -> Tensor:
    """What a `Join` computes."""
    x = torch.cat([maps[source] for source in operation.sources], dim=1)
    return x if operation.repeat == 1 else F.interpolate(x, scale_factor=operation.repeat, mode="nearest")


FUNCTIONS: dict[type, Callable[..., Tensor]] = {
    BinaryBlock: binary_block,
    FullConv: full_conv,
    Attention: attention,
    Add: add,
    Join: join,
}


def _normed(norm: Norm, x: Tensor) -> Tensor:
    weight, bias = norm.weight.tensor(), norm.bias.tensor()
    return torch.group_norm(x, norm.groups, weight, bias, norm.eps)  # also of a single value


def _linear(linear: Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight.tensor(), linear.bias.tensor())


def _with_all_that_is_added(
    y: Tensor, operation: BinaryBlock | FullConv, maps: Sequence[Tensor], ctx: TimestepContext
) -> Tensor:
    """The time embedding and the residual."""
    if operation.time is not None:
        y = y + _linear(operation.time, ctx.embedding)[:, :, None, None]
    return y if operation.residual is None else y + maps[operation.residual]
