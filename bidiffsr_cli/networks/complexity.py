"""Params and OPs of a network as the paper counts them (section 4.1 and its fvcore tool).

A binary weight is 1/32 of a parameter, a binary multiply-add 1/64 of an operation. Multiply-adds of convolutions,
linear layers and attention count as one each, GroupNorm as five for each element, all else as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..configs import ModelConfig
from .blocks import SelfAttention
from .time_aware import BIConv
from .unet import meta_network

BITS_OF_A_PARAMETER, BITS_OF_AN_OPERATION = 32, 64
OPS_OF_GROUP_NORM = 5


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        weights: how many numbers it has, binary ones among them.
        binary_weights: how many of them are one bit each.
        macs: kind of layer -> multiply-adds of one evaluation; "binary" ones counted in full.
        size: of the square result that they are for, pixels a side.
    """

    weights: int
    binary_weights: int
    macs: dict[str, int]
    size: int

    @property
    def params(self) -> float:
        """Params of the paper."""
        return self.weights - self.binary_weights + self.binary_weights / BITS_OF_A_PARAMETER

    @property
    def ops(self) -> float:
        """OPs of the paper."""
        return sum(
            count / BITS_OF_AN_OPERATION if kind == "binary convolution" else count for kind, count in self.macs.items()
        )


def complexity(config: ModelConfig, size: int = 256) -> Complexity:
    """Count one evaluation, batch 1, for a result of `size`×`size` pixels, rounded up to what the network can make."""
    step = config.network.multiple_of
    size = -(-size // step) * step
    network = meta_network(config).eval()
    macs: dict[str, int] = {}

    def visit(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        kind, count = _cost(module, output)
        if count:
            macs[kind] = macs.get(kind, 0) + count

    for module in network.modules():
        module.register_forward_hook(visit)
    with torch.no_grad(), torch.device("meta"):
        picture, condition = torch.empty(1, 3, size, size), torch.empty(1, config.condition_channels, size, size)
        network(picture, condition, torch.zeros(1, dtype=torch.long), 0)
    binary = sum(module.weight.numel() for module in network.modules() if isinstance(module, BIConv))
    return Complexity(sum(parameter.numel() for parameter in network.parameters()), binary, macs, size)


def _cost(module: nn.Module, output: Tensor) -> tuple[str, int]:
    """Kind and multiply-adds of one module, those of its children left out."""
    match module:
        case BIConv():
            return "binary convolution", module.weight.numel() * output.shape[-2] * output.shape[-1]
        case nn.Conv2d():
            return "convolution", module.weight.numel() * output.shape[-2] * output.shape[-1]
        case nn.Linear():
            return "linear", module.weight.numel()
        case nn.GroupNorm():
            return "norm", OPS_OF_GROUP_NORM * output.numel()
        case SelfAttention():
            positions = output.shape[-2] * output.shape[-1]
            return "attention", 2 * positions**2 * output.shape[1]
    return "", 0
