"""Inference twins of the binary convolutions, and the swap that puts them in.

Nothing else in `networks/` knows of them.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.reference import binarize
from .quantizers import scaled_ste_sign
from .time_aware import BIConv, TimestepContext


class FrozenBIConv(nn.Module):
    """A BIConv for inference in plain torch: alpha Sign(w) is computed once, and nothing has a gradient."""

    def __init__(self, trained: BIConv) -> None:
        super().__init__()
        self.tar = copy.deepcopy(trained.tar)
        self.tar.bias.data.add_(0.0)  # turns -0.0 into 0.0, as `binarize` asks
        weight = scaled_ste_sign(trained.weight.detach())
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.taa = trained.taa
        self.identity = trained.identity

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # sums of signs do not fit the few bits of bfloat16
            y = F.conv2d(binarize(x.float(), self.tar(ctx)), self.weight, padding=self.weight.shape[-1] // 2)
        y = self.taa(y, ctx)
        return y.add_(x) if self.identity else y  # float32 also where x is not


def freeze(network: nn.Module) -> nn.Module:
    """Turn a network into its inference form, in place: weights binarized once, no gradients, evaluation mode."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BIConv):
                setattr(module, name, FrozenBIConv(child))
    return network.requires_grad_(False).eval()
