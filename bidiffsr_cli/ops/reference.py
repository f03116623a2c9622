"""The operations of 1-bit inference in plain torch: the definition that every other backend must equal.

The rule of signs: bit 1, that is +1, where the value is >= 0 (-0.0 included), else bit 0, that is -1. Zero padding
comes after the sign and contributes exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import BinaryConv, FullConv, Segment


def binarize(x: Tensor, shift: Tensor) -> Tensor:
    """Sign(x + shift) as +1.0 and -1.0 (paper, eq. 5-7).

    Args:
        x: B×C×H×W.
        shift: broadcastable to x, TaR's bias; free of -0.0, so that no sum is -0.0 and `copysign` keeps the rule.
    """
    y = x + shift
    return torch.copysign(torch.ones((), dtype=y.dtype, device=y.device), y, out=y)


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
    return F.conv2d(signs, weight, stride=stride, padding=weight.shape[-1] // 2).float().mul_(alpha.view(-1, 1, 1))


def rprelu(x: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """PReLU(x + shift) + offset, per channel (ReActNet's RPReLU; TaA selects its parameters).

    Args:
        x: B×C×H×W; overwritten.
        shift, offset: broadcastable to x.
        slope: C.
    """
    return F.prelu(x.add_(shift), slope).add_(offset)


def norm_coefficients(x: Tensor, groups: int, eps: float, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """GroupNorm of B×C×H×W as a scale and a shift, B×C each: GN(x) = scale x + shift."""
    grouped = x.double().unflatten(1, (groups, -1))
    variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0)
    per_group = x.shape[1] // groups
    rate = (variance + eps).rsqrt().repeat_interleave(per_group, 1)
    scale = gamma.double() * rate
    return scale.float(), (beta.double() - mean.repeat_interleave(per_group, 1) * scale).float()


def moments(x: Tensor) -> Tensor:
    """Each row's sums of x and x² per channel, B×C×H×W -> B×H×2×C: what a GroupNorm needs of its input."""
    return torch.stack([x.sum(3), x.square().sum(3)], dim=1).permute(0, 3, 1, 2)


def binary_block(
    sources: Sequence[Tensor],
    convs: Sequence[BinaryConv],
    *,
    norm: tuple[Tensor, Tensor] | None = None,
    concatenate: bool = False,
    arrangement: str = "plain",
    addend: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """A block's one or two binary convolutions, with all that surrounds them.

    Args:
        sources: one or two, B×C×H×W.
        convs: one or two; their segments choose channels of the sources.
        norm: scale and shift, B×C each: the (one) source becomes SiLU(scale x + shift).
        concatenate: whether two convolutions' results lie side by side in the channels or are added.
        arrangement: plain; shuffle or unshuffle: pixel-(un)shuffle by 2 of the result.
        addend: B×C, added to every pixel of the result; plain only.
        residual: added to the result; plain only.

    Returns:
        B×C'×H'×W'.
    """
    if norm is not None:
        scale, shift = (coefficient[:, :, None, None] for coefficient in norm)
        sources = [F.silu(sources[0] * scale + shift)]
    results = []
    for conv in convs:
        x = torch.cat([_channels(sources[segment.source], segment) for segment in conv.segments], dim=1)
        y = binary_conv(binarize(x, conv.tar.view(-1, 1, 1)), conv.weight, conv.alpha)
        if conv.identity == "before":
            y = y.add_(x)
        y = rprelu(y, conv.shift.view(-1, 1, 1), conv.slope, conv.offset.view(-1, 1, 1))
        results.append(y.add_(x) if conv.identity == "after" else y)
    y = torch.cat(results, dim=1) if concatenate else sum(results[1:], start=results[0])
    if arrangement == "shuffle":
        return F.pixel_shuffle(y, 2)
    if arrangement == "unshuffle":
        return F.pixel_unshuffle(y, 2)
    if addend is not None:
        y = y + addend[:, :, None, None]
    return y if residual is None else y + residual


def full_conv(
    sources: Sequence[Tensor],
    conv: FullConv,
    *,
    norm: tuple[Tensor, Tensor] | None = None,
    addend: Tensor | None = None,
    residual: Tensor | None = None,
    unshuffle: int = 0,
    shuffle: int = 0,
) -> Tensor:
    """A full-precision convolution with all that surrounds it.

    Args:
        sources: one or two, B×C×H×W, whose channels come to lie side by side.
        conv: its weight O×I×k×k.
        norm: scale and shift, B×C each: the (one) source becomes SiLU(scale x + shift).
        addend: B×O, added to every pixel of the result.
        residual: added to the result.
        unshuffle: pixel-unshuffle of the sources, by so much; 0 leaves it out.
        shuffle: pixel-shuffle of the result likewise.

    Returns:
        B×O×H×W, float32.
    """
    x = torch.cat(list(sources), dim=1)
    if unshuffle:
        x = F.pixel_unshuffle(x, unshuffle)
    if norm is not None:
        x = F.silu(x * norm[0][:, :, None, None] + norm[1][:, :, None, None])
    x, weight = x.to(conv.dtype).float(), conv.weight.to(conv.dtype).float()
    y = F.conv2d(x, weight, conv.bias, padding=conv.kernel // 2)
    if addend is not None:
        y = y + addend[:, :, None, None]
    if residual is not None:
        y = y + residual
    return F.pixel_shuffle(y, shuffle) if shuffle else y


def attention(x: Tensor, norm: tuple[Tensor, Tensor], qkv: FullConv, out: FullConv) -> Tensor:
    """x + out(attention over all pixels of scale x + shift), with one head: B×C×H×W."""
    batch, channels, height, width = x.shape
    normed = x * norm[0][:, :, None, None] + norm[1][:, :, None, None]
    tokens = F.conv2d(normed, qkv.weight).flatten(2).transpose(1, 2)
    q, k, v = tokens.chunk(3, dim=2)
    y = F.scaled_dot_product_attention(q, k, v)
    return x + F.conv2d(y.transpose(1, 2).reshape(batch, channels, height, width), out.weight, out.bias)


def _channels(source: Tensor, segment: Segment) -> Tensor:
    return source[:, segment.first :: segment.step][:, : segment.count]
