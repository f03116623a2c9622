"""The network as the authors' code computes it, to measure against: our own words for their arithmetic.

Full precision throughout, B×C×H×W without channels last, weights latent: every forward pass takes the sign of all
weights and of all activations anew, in the expressions that carry their training's gradients, and each step between two
convolutions is a pass over memory of its own. The expressions are those of Bi-Real Net (arXiv 1808.00278) and ReActNet
(arXiv 2003.03488), on which the paper builds. The result equals the trained form's but for rounding; the authors'
Dropout is left out, which does nothing in evaluation.

    network = UpstreamStyleUNet(checkpoint.build())
    with torch.no_grad():
        prediction = network(x_t, condition, t)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import UNetConfig
from ..errors import UsageError
from ..networks.binary_conv import BIConv
from ..networks.blocks import ResBlock, SelfAttention
from ..networks.packed import swap
from ..networks.unet import UNet


def swish(x: Tensor) -> Tensor:
    """x σ(x), in two passes."""
    return x * torch.sigmoid(x)


def binarized_activation(x: Tensor) -> Tensor:
    """Sign(x), written as a value and a piecewise polynomial that is added for its gradient: 31 passes over x."""
    polynomial = _choose(x < -1, -1, x * x + 2 * x)
    polynomial = _choose(x < 0, polynomial, -x * x + 2 * x)
    polynomial = _choose(x < 1, polynomial, 1)
    return torch.sign(x).detach() - polynomial.detach() + polynomial


def binarized_weight(w: Tensor) -> Tensor:
    """alpha Sign(w), alpha the mean |w| of each output channel, with the clamp that is added for its gradient."""
    alpha = w.abs().mean(dim=(1, 2, 3), keepdim=True)
    clipped = torch.clamp(w, -1, 1)
    return (alpha * torch.sign(w)).detach() - clipped.detach() + clipped


def _choose(mask: Tensor, inside: Tensor | int, outside: Tensor | int) -> Tensor:
    """`inside` where the mask is true, else `outside`, by arithmetic with the mask as numbers."""
    return inside * mask.float() + outside * (1 - mask.float())


@dataclass(frozen=True)
class When:
    """The context of a forward pass, as TimestepContext: the embedding before its Swish, t (B), and T."""

    embedding: Tensor
    t: Tensor
    total_steps: int

    def group(self, groups: int) -> int:
        """The group in which the batch's first time step falls, of so many; the device is asked for it every time."""
        return min(int(self.t[0] * groups / self.total_steps), groups - 1)


class Shift(nn.Module):
    """One number for each channel, added."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand_as(x)


class RPReLU(nn.Module):
    """Shift, PReLU, shift."""

    def __init__(self, shift: Tensor, slope: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.before, self.after = Shift(shift), Shift(offset)
        self.prelu = nn.PReLU(len(slope))
        self.prelu.weight = nn.Parameter(slope.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.prelu(self.before(x)))


class UpstreamStyleBIConv(nn.Module):
    """BIConv, with one module for each group of time steps."""

    def __init__(self, conv: BIConv) -> None:
        super().__init__()
        taa = conv.taa
        self.weight = conv.weight
        self.tar = nn.ModuleList(Shift(bias) for bias in conv.tar.bias)
        self.taa = nn.ModuleList(map(RPReLU, taa.shift, taa.slope, taa.offset))
        self.identity = conv.identity == "after"

    def forward(self, x: Tensor, ctx: When) -> Tensor:
        signs = binarized_activation(self.tar[ctx.group(len(self.tar))](x))
        y = F.conv2d(signs, binarized_weight(self.weight), padding=self.weight.shape[-1] // 2)
        y = self.taa[ctx.group(len(self.taa))](y)
        return y + x if self.identity else y


class UpstreamStyleAttention(nn.Module):
    """SelfAttention, with the map of all pairs of positions in memory."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = attention.norm, attention.qkv, attention.out

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # B×C×L each
        pairs = torch.einsum("bcq,bck->bqk", q, k).contiguous() / x.shape[1] ** 0.5
        y = torch.einsum("bqk,bck->bcq", torch.softmax(pairs, dim=-1), v)
        return self.out(y.reshape(x.shape)) + x


class UpstreamStyleResBlock(nn.Module):
    """ResBlock."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, ctx: When) -> Tensor:
        block = self.block
        h = block.conv1(swish(block.norm1(x)), ctx)
        h = h + block.time(swish(ctx.embedding)).view(len(x), -1, 1, 1)
        h = block.conv2(swish(block.norm2(h)), ctx)
        return block.attention(h + x)


class UpstreamStyleUNet(nn.Module):
    """UNet in the style of the authors' code, where that differs from ours.

    Args:
        network: in its trained form; with the blocks of the paper, not those of its ablations. It is used up.

    Raises:
        UsageError: it has other blocks.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        check_blocks(network.config)
        swap(network, BIConv, UpstreamStyleBIConv)
        swap(network, SelfAttention, UpstreamStyleAttention)
        self.network = swap(network, ResBlock, UpstreamStyleResBlock)
        self.eval()

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """As of UNet."""
        network, config = self.network, self.network.config
        ctx = When(network.time_embedding(t), t, config.total_steps)
        x = network.stem(F.pixel_unshuffle(torch.cat([condition, x_t], dim=1), config.pixel_unshuffle))
        skips = [x]
        for block in network.encoder:
            x = block(x, ctx)
            skips.append(x)
        for block in network.middle:
            x = block(x, ctx)
        for level in network.decoder:
            x = level(x, skips, ctx)
        return F.pixel_shuffle(network.head(swish(network.head_norm(x))), config.pixel_unshuffle)


def check_blocks(config: UNetConfig) -> None:
    """Check that the network has an upstream style.

    Raises:
        UsageError: it has blocks of an ablation, or is binarized otherwise.
    """
    if (config.fusion, config.resample, config.method) != ("cs", "cp", "bi_diffsr"):
        raise UsageError(
            "The upstream style has no blocks of an ablation, and no other methods.",
            "Leave --against-upstream-style out.",
        )
