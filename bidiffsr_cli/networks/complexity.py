"""Params and OPs of a network as the paper counts them (section 4.1 and its fvcore tool).

A binary weight is 1/32 of a parameter, a binary multiply-add 1/64 of an operation. Multiply-adds of convolutions,
linear layers and attention count as one each, GroupNorm as five for each element, BatchNorm as two, a repeated pixel as
one, all else as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..configs import UNetConfig
from .blueprint import Conv, Layer, Linear, Norm, ResBlock, blueprint, layers, tensors

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
    """Count one evaluation, batch 1, for a result of `size`×`size` pixels, rounded up to what the network can make.

    An upsampler, which is asked once for a picture, counts with its parameters alone.
    """
    size = -(-size // config.multiple_of) * config.multiple_of
    finest, plan = size // config.pixel_unshuffle, blueprint(config, condition_channels)
    cost = Complexity(size)
    for layer in layers(replace(plan, upsamplers=())):
        pixels = 1 if isinstance(layer, Linear) else _pixels(finest, layer.level)
        for kind, of_layer in _costs(layer, config, pixels):
            of_kind = cost.kinds.setdefault(kind, Cost())
            of_kind.weights += of_layer.weights
            of_kind.binary_weights += of_layer.binary_weights
            of_kind.operations += of_layer.operations
    levels = plan.decoder
    blocks = [*plan.encoder, *plan.middle, *(block for level in levels for block in level.blocks)]
    for block in blocks:
        if isinstance(block, ResBlock) and block.attention:
            norm = block.attention.norm
            operations = 2 * _pixels(finest, norm.level) ** 2 * norm.channels
            cost.kinds.setdefault("attention", Cost()).operations += operations
    for up in (level.up for level in levels):
        if up and up.kind == "strided":
            repeated = up.convs[0]
            operations = repeated.inputs * _pixels(finest, repeated.level)
            cost.kinds.setdefault("upsampling", Cost()).operations += operations
    for upsampler in plan.upsamplers:
        weights = sum(math.prod(shape) for layer in layers(upsampler) for shape in tensors(layer, config).values())
        cost.kinds.setdefault("upsampler", Cost()).weights += weights
    return cost


def _pixels(finest: int, level: int) -> int:
    """Of a square map at a level, where the finest has so many a side."""
    return (finest >> level) ** 2


def _costs(layer: Layer, config: UNetConfig, pixels: int) -> Iterator[tuple[str, Cost]]:
    """What a layer costs: kind, cost; of a binary convolution also what its method has around it."""
    sizes = {name: math.prod(shape) for name, shape in tensors(layer, config).items()}
    own = sizes["weight"] + sizes.get("bias", 0)
    match layer:
        case Norm():
            yield "GroupNorm", Cost(own, 0, OPS_OF_GROUP_NORM * layer.channels * pixels)
        case Linear():
            yield "linear", Cost(own, 0, sizes["weight"])
        case Conv(full=True):
            yield "convolution", Cost(own, 0, sizes["weight"] * pixels)
        case Conv():
            yield BINARY, Cost(own, own, own * pixels)
            shifts = sum(size for name, size in sizes.items() if name.startswith(("tar.", "taa.")))
            if shifts:
                yield "shifts and RPReLU", Cost(shifts)  # which cost parameters alone
            if "norm.weight" in sizes:
                trained = sizes["norm.weight"] + sizes["norm.bias"]
                yield "BatchNorm", Cost(trained, 0, OPS_OF_BATCH_NORM * layer.outputs * pixels)
