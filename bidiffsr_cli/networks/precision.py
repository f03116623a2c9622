"""A frozen network for accelerators: full-precision convolutions in few bits, GroupNorm as it is fast there.

Weights are cast once. The stem, norms, the time's linear layers, and sums of signs with all that is added to them stay
in float32. It is one form for every device, so a CPU can tell what it costs in dB.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .packed import swap
from .unet import UNet


def in_precision(network: UNet, dtype: torch.dtype) -> UNet:
    """Bring a frozen network into that form, in place.

    Args:
        network: frozen; its inputs are float32.
        dtype: of the full-precision convolutions but the stem: float32, float16 or bfloat16. (The native engine's
            bfloat16 is of those of one tap alone.)
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module is not network.stem:
            module.to(dtype).register_forward_pre_hook(_in_its_type)
    return swap(network, nn.GroupNorm, ChannelsLastGroupNorm)


class ChannelsLastGroupNorm(nn.Module):
    """GroupNorm to float32, of any type, that lies in memory as its input does; torch's own for CUDA rearranges it.

    Args:
        norm: whose parameters these are.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.channels, self.groups, self.eps = norm.num_channels, norm.num_groups, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        x, (batch, channels) = x.float(), x.shape[:2]
        mean, variance = self.statistics(x)
        scale = (variance + self.eps).rsqrt_()[..., None] * self.weight.view(self.groups, -1)  # B×G×C/G
        shift = self.bias.view(self.groups, -1) - mean[..., None] * scale
        of_channels = batch, channels, 1, 1
        return torch.addcmul(shift.view(of_channels), x, scale.view(of_channels))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, variance) of the groups of x, B×G each, float32."""
        variance, mean = torch.var_mean(x.float().unflatten(1, (self.groups, -1)), (2, 3, 4), correction=0)
        return mean, variance


def _in_its_type(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The input of a convolution, in the type of its weight."""
    x, *others = inputs
    return x.to(module.weight.dtype), *others
