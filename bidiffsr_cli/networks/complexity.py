"""Params and OPs of a network as the paper counts them (section 4.1 and its fvcore tool).

A binary weight is 1/32 of a parameter, a binary multiply-add 1/64 of an operation. Multiply-adds of convolutions,
linear layers and attention count as one each, GroupNorm as five for each element, BatchNorm as two, a repeated pixel as
one, all else as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..configs import UNetConfig
from .binary_conv import BatchNorm
from .blocks import SelfAttention
from .latent_conv import LatentConv
from .unet import UNet

BITS_OF_A_PARAMETER, BITS_OF_AN_OPERATION = 32, 64
OPS_OF_GROUP_NORM, OPS_OF_BATCH_NORM = 5, 2
BINARY = "binary convolution"


@dataclass
class Cost:
    """Of all layers of a kind.

    Attributes:
        weights: how many numbers they have.
        binary_weights: how many of them are one bit each.
        operations: multiply-adds and the like of one evaluation, binary ones counted in full.
    """

    weights: int = 0
    binary_weights: int = 0
    operations: int = 0

    @property
    def params(self) -> float:
        """Params of the paper."""
        return self.weights - self.binary_weights + self.binary_weights / BITS_OF_A_PARAMETER


@dataclass(frozen=True)
class Complexity:
    """What a network costs.

    Attributes:
        size: of the square result that it is for, pixels a side.
        kinds: kind of layer -> its cost.
    """

    size: int
    kinds: dict[str, Cost] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """How many numbers the network has."""
        return sum(cost.weights for cost in self.kinds.values())

    @property
    def binary_weights(self) -> int:
        """How many of them are one bit each."""
        return sum(cost.binary_weights for cost in self.kinds.values())

    @property
    def params(self) -> float:
        """Params of the paper."""
        return sum(cost.params for cost in self.kinds.values())

    @property
    def ops(self) -> float:
        """OPs of the paper."""
        return sum(map(self.ops_of, self.kinds))

    def ops_of(self, kind: str) -> float:
        """OPs of all layers of a kind."""
        operations = self.kinds[kind].operations
        return operations / BITS_OF_AN_OPERATION if kind == BINARY else operations


def complexity(config: UNetConfig, condition_channels: int = 3, size: int = 256) -> Complexity:
    """Count one evaluation, batch 1, for a result of `size`×`size` pixels, rounded up to what the network can make."""
    size = -(-size // config.multiple_of) * config.multiple_of
    with torch.device("meta"):
        network = UNet(config, condition_channels).eval()
    cost = Complexity(size)

    def of_kind(module: nn.Module) -> Cost:
        return cost.kinds.setdefault(_kind(module), Cost())

    def visit(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        operations = _operations(module, output)
        if operations:
            of_kind(module).operations += operations

    for module in network.modules():
        module.register_forward_hook(visit)
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own:
            of_kind(module).weights += own
            of_kind(module).binary_weights += module.weight.numel() if isinstance(module, LatentConv) else 0
    with torch.no_grad(), torch.device("meta"):
        picture, condition = torch.empty(1, 3, size, size), torch.empty(1, condition_channels, size, size)
        network(picture, condition, torch.zeros(1, dtype=torch.long), 0)
    return cost


def _kind(module: nn.Module) -> str:
    match module:
        case LatentConv():
            return BINARY
        case nn.Conv2d():
            return "convolution"
        case nn.Linear():
            return "linear"
        case nn.GroupNorm():
            return "GroupNorm"
        case BatchNorm():
            return "BatchNorm"
        case SelfAttention():
            return "attention"
        case nn.Upsample():
            return "upsampling"
    return "shifts and RPReLU"  # TaR and TaA, which cost parameters alone


def _operations(module: nn.Module, output: Tensor) -> int:
    """Of one module, those of its children left out."""
    match module:
        case LatentConv() | nn.Conv2d():
            return module.weight.numel() * output.shape[-2] * output.shape[-1]
        case nn.Linear():
            return module.weight.numel()
        case nn.GroupNorm():
            return OPS_OF_GROUP_NORM * output.numel()
        case BatchNorm():
            return OPS_OF_BATCH_NORM * output.numel()
        case SelfAttention():
            positions = output.shape[-2] * output.shape[-1]
            return 2 * positions**2 * output.shape[1]
        case nn.Upsample():
            return output.numel()
    return 0
