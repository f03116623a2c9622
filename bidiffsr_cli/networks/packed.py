"""The binary convolution's forms for inference: packed (bits), and frozen (signs as floats, for plain torch).

    LatentConv   latent weights        what is trained, by any method
    PackedBIConv sign bits and alpha   what packed files hold, and what the native engine takes
    FrozenBIConv signs and alpha       what runs in plain torch, on any device

`pack`, `unpack` and `freeze` bring a whole network from one form into another. Whatever the method, what is packed or
frozen is its `Folded` form, a BI-Conv; methods that have none stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..configs import ModelConfig
from ..ops.packing import pack_signs, row_bytes, unpack_signs
from ..ops.reference import binarize, binary_conv
from .binary_conv import BIConv
from .latent_conv import LatentConv
from .time_aware import TaA, TaR, TimestepContext
from .unet import UNet, meta_network

Module = TypeVar("Module", bound=nn.Module)


class PackedBIConv(nn.Module):
    """A folded convolution whose weight is `sign`, bits as in `ops/packing.py`. It computes nothing itself."""

    def __init__(self, trained: LatentConv) -> None:
        super().__init__()
        outputs, self.inputs, self.kernel, _ = trained.weight.shape
        if trained.weight.is_meta:  # names and shapes alone: arithmetic on them would load 50 MB of torch
            groups = (len(trained.tar.bias), len(trained.taa.shift)) if isinstance(trained, BIConv) else (1, 1)
            with torch.device("meta"):
                sign = torch.empty(outputs, row_bytes(self.inputs * self.kernel**2), dtype=torch.uint8)
                alpha = torch.empty(outputs)
                self.tar, self.taa = TaR(self.inputs, groups[0]), TaA(outputs, groups[1])
        else:
            folded = trained.fold()
            sign, alpha = pack_signs(folded.signs.detach()), folded.alpha
            self.tar, self.taa = folded.tar, folded.taa
        self.register_buffer("sign", sign)
        self.register_buffer("alpha", alpha)
        self.sign: Tensor
        self.alpha: Tensor
        self.identity, self.stride = trained.identity, trained.stride

    def signs(self) -> Tensor:
        """The weight's signs as +1.0 and -1.0, O×I×k×k."""
        return unpack_signs(self.sign, (self.sign.shape[0], self.inputs, self.kernel, self.kernel))


class FrozenBIConv(nn.Module):
    """A folded convolution in plain torch: signs and alpha are computed once, and nothing has a gradient.

    Args:
        packed: whose parameters these are.
        dtype: in which signs are multiplied. float16 is for devices that add its products up in float32; the sums
            are exact up to 4096: channels are even in number, so sums are even. A 3×3 convolution of 512 channels
            exceeds that only where 94 of 100 signs agree, one of 1024 (in SR3) where 72 do, and is off by 2 then.
    """

    def __init__(self, packed: PackedBIConv, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.tar = copy.deepcopy(packed.tar)
        self.tar.bias.data.add_(0.0)  # turns -0.0 into 0.0, as `binarize` asks
        weight = packed.signs().to(dtype).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.alpha = nn.Parameter(packed.alpha, requires_grad=False)
        self.taa = packed.taa
        self.identity, self.stride = packed.identity, packed.stride

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        signs = binarize(x, self.tar(ctx), self.weight.dtype)
        y = binary_conv(signs, self.weight, self.alpha, self.stride)
        if self.identity == "before":
            y = y.add_(x)
        y = self.taa(y, ctx)
        return y.add_(x) if self.identity == "after" else y  # float32 also where x is not


def pack(network: Module) -> Module:
    """Every binary convolution to its packed form, in place; those stay that have none."""
    return swap(network, LatentConv, lambda conv: PackedBIConv(conv) if conv.foldable else conv)


def packed_network(config: ModelConfig, state: Mapping[str, Tensor]) -> UNet:
    """The packed network of a model; it shares its memory with `state`, its packed tensors by their names."""
    network = pack(meta_network(config))
    network.load_state_dict(state, assign=True)
    return network


def unpack(network: Module) -> Module:
    """Every packed convolution to a BIConv that computes the same, in place; its latent weight is alpha Sign(w).

    That is the form that BI-DiffSR and BBCU are trained in; of other methods BatchNorm stays folded.
    """

    def trained(packed: PackedBIConv) -> BIConv:
        outputs = packed.sign.shape[0]
        groups = {"tar_groups": packed.tar.bias.shape[0], "taa_groups": packed.taa.slope.shape[0]}
        with torch.device("meta"):
            conv = BIConv(packed.inputs, outputs, packed.kernel, packed.stride, **groups, identity=packed.identity)
        conv.weight = nn.Parameter(packed.signs() * packed.alpha.view(-1, 1, 1, 1))
        conv.tar, conv.taa = packed.tar, packed.taa
        return conv

    return swap(network, PackedBIConv, trained)


def freeze(network: Module, dtype: torch.dtype = torch.float32) -> Module:
    """A network in its form for plain torch, in place: weights binarized once, no gradients, evaluation mode.

    Args:
        network: trained or packed.
        dtype: in which signs are multiplied, see `FrozenBIConv`.
    """
    swap(pack(network), PackedBIConv, lambda conv: FrozenBIConv(conv, dtype))
    return network.requires_grad_(False).eval()


def swap(network: Module, kind: type, twin: Callable[..., nn.Module]) -> Module:
    """Put a twin in the place of every module of a kind."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, twin(child))
    return network
