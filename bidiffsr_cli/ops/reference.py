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

from . import Add, Attention, BinaryBlock, BinaryConv, FullConv, Linear, Norm, Program, TimeEmbedding
from .packing import unpack_signs


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


@dataclass(frozen=True)
class Moment:
    """The time of a run: B×E, the embedding of each t; the step that chooses groups; T."""

    embedding: Tensor | None
    step: int
    total_steps: int

    def group(self, groups: int) -> int:
        """Which of so many groups the step lies in."""
        return min(self.step * groups // self.total_steps, groups - 1)


def run(program: Program, inputs: Sequence[Tensor], t: Tensor, step: int) -> list[Tensor]:
    """All maps of a program, the inputs first and the result last.

    Args:
        program: of operations.
        inputs: B×C×H×W each.
        t: B, for the embedding.
        step: chooses the groups of TaR and TaA.
    """
    moment = Moment(embed(program.embedding, t) if program.embedding else None, step, program.total_steps)
    maps = list(inputs)
    for operation in program.operations:
        maps.append(FUNCTIONS[type(operation)](operation, maps, moment))
    return maps


def embed(embedding: TimeEmbedding, t: Tensor) -> Tensor:
    """The embedding of time steps: B -> B×E."""
    half = embedding.first.weight.shape[1] // 2
    rates = torch.exp(torch.arange(half, device=t.device) / half * -math.log(1e4))
    angles = t.to(torch.float32)[:, None] * rates
    hidden = F.silu(_linear(embedding.first, torch.cat([angles.sin(), angles.cos()], dim=1)))
    result = _linear(embedding.second, hidden)
    return F.silu(result) if embedding.swish else result


def binary_block(block: BinaryBlock, maps: Sequence[Tensor], moment: Moment) -> Tensor:
    """What a `BinaryBlock` computes."""
    sources = [maps[source] for source in block.sources]
    if block.norm is not None:
        sources = [F.silu(_normed(block.norm, sources[0]))]
    results = []
    for conv in block.convs:
        x = convolved(conv, sources)
        group = moment.group(len(conv.slope))
        shape = conv.alpha.shape[0], x.shape[1], conv.kernel, conv.kernel
        signs = binarize(x, conv.tar[moment.group(len(conv.tar))].view(-1, 1, 1))
        y = binary_conv(signs, unpack_signs(conv.signs, shape), conv.alpha)
        if conv.identity == "before":
            y = y.add_(x)
        y = rprelu(y, conv.shift[group].view(-1, 1, 1), conv.slope[group], conv.offset[group].view(-1, 1, 1))
        results.append(y.add_(x) if conv.identity == "after" else y)
    y = torch.cat(results, dim=1) if block.concatenate else sum(results[1:], start=results[0])
    if block.arrangement == "shuffle":
        return F.pixel_shuffle(y, 2)
    if block.arrangement == "unshuffle":
        return F.pixel_unshuffle(y, 2)
    return _with_all_that_is_added(y, block, maps, moment)


def convolved(conv: BinaryConv, sources: Sequence[Tensor]) -> Tensor:
    """What a binary convolution sees of a block's sources: B×I×H×W."""
    return torch.cat(
        [sources[part.source][:, part.first :: part.step][:, : part.count] for part in conv.segments], dim=1
    )


def full_conv(conv: FullConv, maps: Sequence[Tensor], moment: Moment) -> Tensor:
    """What a `FullConv` computes."""
    x = torch.cat([maps[source] for source in conv.sources], dim=1)
    if conv.unshuffle:
        x = F.pixel_unshuffle(x, conv.unshuffle)
    if conv.norm is not None:
        x = F.silu(_normed(conv.norm, x))
    x, weight = x.to(conv.dtype).float(), conv.weight.to(conv.dtype).float()
    y = F.conv2d(x, weight, conv.bias, padding=weight.shape[-1] // 2)
    y = _with_all_that_is_added(y, conv, maps, moment)
    return F.pixel_shuffle(y, conv.shuffle) if conv.shuffle else y


def attention(block: Attention, maps: Sequence[Tensor], moment: Moment) -> Tensor:
    """What an `Attention` computes."""
    x = maps[block.sources[0]]
    tokens = _normed(block.norm, x).flatten(2).transpose(1, 2) @ block.qkv.T  # (B, H·W, 3C)
    q, k, v = tokens.chunk(3, dim=2)
    y = _linear(block.out, F.scaled_dot_product_attention(q, k, v))
    return x + y.transpose(1, 2).reshape(x.shape)


def add(operation: Add, maps: Sequence[Tensor], moment: Moment) -> Tensor:
    """What an `Add` computes."""
    return maps[operation.sources[0]] + maps[operation.sources[1]]


FUNCTIONS: dict[type, Callable[..., Tensor]] = {
    BinaryBlock: binary_block,
    FullConv: full_conv,
    Attention: attention,
    Add: add,
}


def _normed(norm: Norm, x: Tensor) -> Tensor:
    return torch.group_norm(x, norm.groups, norm.weight, norm.bias, norm.eps)  # also of a single value


def _linear(linear: Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight, linear.bias)


def _with_all_that_is_added(
    y: Tensor, operation: BinaryBlock | FullConv, maps: Sequence[Tensor], moment: Moment
) -> Tensor:
    """The time embedding and the residual."""
    if operation.time is not None:
        assert moment.embedding is not None
        y = y + _linear(operation.time, moment.embedding)[:, :, None, None]
    return y if operation.residual is None else y + maps[operation.residual]
