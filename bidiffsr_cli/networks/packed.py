"""The binary convolution's forms for inference: packed (bits), and frozen (signs as floats, for plain torch).

    BIConv       latent weights        what is trained
    PackedBIConv sign bits and alpha   what packed files hold, and what the native engine takes
    FrozenBIConv signs and alpha       what runs in plain torch, on any device

`pack`, `unpack` and `freeze` bring a whole network from one form into another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..ops.packing import pack_signs, row_bytes, unpack_signs
from ..ops.reference import binarize, binary_conv, channel_scales
from .quantizers import ste_sign
from .time_aware import BIConv, TimestepContext

Network = TypeVar("Network", bound=nn.Module)


class PackedBIConv(nn.Module):
    """A BIConv whose weight is `sign`, bits as in `ops/packing.py`, and `alpha`. It computes nothing itself."""

    def __init__(self, trained: BIConv) -> None:
        super().__init__()
        outputs, self.inputs, self.kernel, _ = trained.weight.shape
        if trained.weight.is_meta:
            sign = torch.empty(outputs, row_bytes(trained.weight[0].numel()), dtype=torch.uint8, device="meta")
            alpha = torch.empty(outputs, device="meta")
        else:
            sign, alpha = pack_signs(trained.weight.detach()), channel_scales(trained.weight)
        self.register_buffer("sign", sign)
        self.register_buffer("alpha", alpha)
        self.sign: Tensor
        self.alpha: Tensor
        self.tar, self.taa = trained.tar, trained.taa
        self.identity = trained.identity

    def signs(self) -> Tensor:
        """The weight's signs as +1.0 and -1.0, O×I×k×k."""
        return unpack_signs(self.sign, (self.sign.shape[0], self.inputs, self.kernel, self.kernel))


class FrozenBIConv(nn.Module):
    """A BIConv for inference in plain torch: signs and alpha are computed once, and nothing has a gradient.

    Args:
        source: whose parameters these are.
        dtype: in which signs are multiplied. float16 is for devices that add its products up in float32; the sums
            are exact up to 4096: channels are even in number, so sums are even. A 3×3 convolution of 512 channels
            exceeds that only where 94 of 100 signs agree, and is off by 2 then.
    """

    def __init__(self, source: BIConv | PackedBIConv, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.tar = copy.deepcopy(source.tar)
        self.tar.bias.data.add_(0.0)  # turns -0.0 into 0.0, as `binarize` asks
        if isinstance(source, PackedBIConv):
            signs, alpha = source.signs(), source.alpha
        else:
            signs, alpha = ste_sign(source.weight.detach()), channel_scales(source.weight)
        weight = signs.to(dtype).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.alpha = nn.Parameter(alpha, requires_grad=False)
        self.taa = source.taa
        self.identity = source.identity

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # sums of signs do not fit the few bits of bfloat16
            signs = binarize(x.float(), self.tar(ctx)).to(self.weight.dtype)
            y = binary_conv(signs, self.weight, self.alpha)
        y = self.taa(y, ctx)
        return y.add_(x) if self.identity else y  # float32 also where x is not


def pack(network: Network) -> Network:
    """Every BIConv to its packed form, in place."""
    return _swap(network, BIConv, PackedBIConv)


def unpack(network: Network) -> Network:
    """Every packed convolution back to a BIConv, in place; its latent weight is alpha Sign(w)."""

    def trained(packed: PackedBIConv) -> BIConv:
        outputs = packed.sign.shape[0]
        groups = packed.tar.bias.shape[0], packed.taa.slope.shape[0]
        with torch.device("meta"):
            conv = BIConv(packed.inputs, outputs, packed.kernel, *groups, identity=packed.identity)
        conv.weight = nn.Parameter(packed.signs() * packed.alpha.view(-1, 1, 1, 1))
        conv.tar, conv.taa = packed.tar, packed.taa
        return conv

    return _swap(network, PackedBIConv, trained)


def freeze(network: Network, dtype: torch.dtype = torch.float32) -> Network:
    """A network in its form for plain torch, in place: weights binarized once, no gradients, evaluation mode.

    Args:
        network: trained or packed.
        dtype: in which signs are multiplied, see `FrozenBIConv`.
    """
    _swap(network, (BIConv, PackedBIConv), lambda conv: FrozenBIConv(conv, dtype))
    return network.requires_grad_(False).eval()


def _swap(network: Network, kind: type | tuple[type, ...], twin: Callable[..., nn.Module]) -> Network:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, twin(child))
    return network
