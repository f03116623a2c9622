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

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import UNetConfig
from ..errors import UsageError
from ..networks.bi_conv import BIConv
from ..networks.binary_conv import FullPrecisionConv
from ..networks.blocks import CPDown, CPUp, CSFusion, ResBlock, SelfAttention
from ..networks.unet import DecoderLevel, UNet


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


class When:
    """The time step of a forward pass: t, B, and T."""

    def __init__(self, t: Tensor, total_steps: int) -> None:
        self.t, self.total_steps = t, total_steps

    def choose(self, modules: nn.ModuleList) -> nn.Module:
        """The module of the group in which the batch's first time step falls, of K modules."""
        return modules[min(int(self.t[0] * len(modules) / self.total_steps), len(modules) - 1)]


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

    def forward(self, x: Tensor, when: When) -> Tensor:
        signs = binarized_activation(when.choose(self.tar)(x))
        y = F.conv2d(signs, binarized_weight(self.weight), padding=self.weight.shape[-1] // 2)
        y = when.choose(self.taa)(y)
        return y + x if self.identity else y


class UpstreamStyleConv(nn.Module):
    """FullPrecisionConv."""

    def __init__(self, conv: FullPrecisionConv) -> None:
        super().__init__()
        self.weight, self.bias, self.padding = conv.weight, conv.bias, conv.padding

    def forward(self, x: Tensor, when: When) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


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
        self.norm1, self.norm2, self.time = block.norm1, block.norm2, block.time
        self.conv1, self.conv2 = style(block.conv1), style(block.conv2)
        self.attention = style(block.attention)

    def forward(self, x: Tensor, embedding: Tensor, when: When) -> Tensor:
        h = self.conv1(swish(self.norm1(x)), when)
        h = h + self.time(swish(embedding)).view(x.shape[0], -1, 1, 1)
        h = self.conv2(swish(self.norm2(h)), when)
        return self.attention(h + x)


class UpstreamStyleDown(nn.Module):
    """CPDown."""

    def __init__(self, block: CPDown) -> None:
        super().__init__()
        self.conv1, self.conv2 = style(block.conv1), style(block.conv2)

    def forward(self, x: Tensor, embedding: Tensor, when: When) -> Tensor:
        x1, x2 = torch.chunk(x, 2, dim=1)
        return F.pixel_unshuffle(self.conv1(x1, when) + self.conv2(x2, when), 2)


class UpstreamStyleUp(nn.Module):
    """CPUp."""

    def __init__(self, block: CPUp) -> None:
        super().__init__()
        self.conv1, self.conv2 = style(block.conv1), style(block.conv2)

    def forward(self, x: Tensor, embedding: Tensor, when: When) -> Tensor:
        return F.pixel_shuffle(torch.cat([self.conv1(x, when), self.conv2(x, when)], dim=1), 2)


class UpstreamStyleFusion(nn.Module):
    """CSFusion."""

    def __init__(self, block: CSFusion) -> None:
        super().__init__()
        self.conv1, self.conv2 = style(block.conv1), style(block.conv2)

    def forward(self, x: Tensor, skip: Tensor, when: When) -> Tensor:
        odd_even = torch.cat([x[:, 1::2], skip[:, 0::2]], dim=1)
        even_odd = torch.cat([x[:, 0::2], skip[:, 1::2]], dim=1)
        return self.conv1(odd_even, when) + self.conv2(even_odd, when)


class UpstreamStyleLevel(nn.Module):
    """DecoderLevel."""

    def __init__(self, level: DecoderLevel) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(map(style, level.fusions))
        self.blocks = nn.ModuleList(map(style, level.blocks))
        self.up = None if level.up is None else style(level.up)

    def forward(self, x: Tensor, skips: list[Tensor], embedding: Tensor, when: When) -> Tensor:
        for fusion, block in zip(self.fusions, self.blocks, strict=True):
            x = block(fusion(x, skips.pop(), when), embedding, when)
        return x if self.up is None else self.up(x, embedding, when)


class UpstreamStyleUNet(nn.Module):
    """UNet in the style of the authors' code; it shares the given network's parameters.

    Args:
        network: in its trained form; with the blocks of the paper, not those of its ablations.

    Raises:
        UsageError: it has other blocks.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        config = network.config
        check_blocks(config)
        self.total_steps, self.unshuffle = config.total_steps, config.pixel_unshuffle
        self.time_embedding = network.time_embedding
        self.stem, self.head_norm, self.head = network.stem, network.head_norm, network.head
        self.encoder = nn.ModuleList(map(style, network.encoder))
        self.middle = nn.ModuleList(map(style, network.middle))
        self.decoder = nn.ModuleList(map(style, network.decoder))
        self.eval()

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """As of UNet."""
        embedding, when = self.time_embedding(t), When(t, self.total_steps)
        x = self.stem(F.pixel_unshuffle(torch.cat([condition, x_t], dim=1), self.unshuffle))
        skips = [x]
        for block in self.encoder:
            x = block(x, embedding, when)
            skips.append(x)
        for block in self.middle:
            x = block(x, embedding, when)
        for level in self.decoder:
            x = level(x, skips, embedding, when)
        return F.pixel_shuffle(self.head(swish(self.head_norm(x))), self.unshuffle)


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


def style(module: nn.Module) -> nn.Module:
    """The module of the same kind in the authors' style; an identity is one already."""
    kinds: dict[type[nn.Module], Any] = {
        BIConv: UpstreamStyleBIConv,
        FullPrecisionConv: UpstreamStyleConv,
        SelfAttention: UpstreamStyleAttention,
        ResBlock: UpstreamStyleResBlock,
        CPDown: UpstreamStyleDown,
        CPUp: UpstreamStyleUp,
        CSFusion: UpstreamStyleFusion,
        DecoderLevel: UpstreamStyleLevel,
        nn.Identity: nn.Identity,
    }
    return kinds[type(module)](module)
