"""A packed UNet as a program of the native engine, written from its tensors, without torch."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

from .. import ops
from ..configs import ModelConfig, UNetConfig
from ..ops import Array, BinaryBlock, BinaryConv, FullConv, Operation, Program, Segment
from . import blueprint as plans

CONDITION, X_T = 0, 1
"""The program's inputs."""
NORM_EPS = 1e-5
"""What GroupNorm adds to a variance; torch's."""


def program_of(config: ModelConfig, arrays: Mapping[str, Array], dtype: str) -> Program:
    """The program of a packed network; its inputs are the condition and x_t, as planes.

    Args:
        config: of the model.
        arrays: its packed tensors, by name.
        dtype: of what the full-precision convolutions of one tap multiply, "float32" or "bfloat16"; all else is
            float32, in which Winograd's algorithm computes 3×3 taps faster; what a stem rounds would reach all signs.
    """
    network, r = config.network, config.network.pixel_unshuffle
    plan = plans.blueprint(network, config.condition_channels)
    writer = Writer(network, arrays, dtype)
    x = writer.write(writer.full_conv((CONDITION, X_T), plan.stem, unshuffle=r, part="stem"))
    skips = [x]
    for block in plan.encoder:
        x = writer.block(block, x)
        skips.append(x)
    for block in plan.middle:
        x = writer.block(block, x)
    for level in plan.decoder:
        for fusion, block in zip(level.fusions, level.blocks, strict=True):
            x = writer.block(block, writer.write(writer.fusion(fusion, x, skips.pop())))
        if level.up is not None:
            x = writer.block(level.up, x)
    writer.write(writer.full_conv((x,), plan.head, norm=writer.norm(plan.head_norm), shuffle=r, part="head"))
    return Program(
        (config.condition_channels, 3),
        tuple(writer.operations),
        network.total_steps,
        ops.TimeEmbedding(writer.linear(plan.linear1), writer.linear(plan.linear2), swish=network.type != "sr3"),
        planes=True,
    )


def upsampler_program(plan: plans.Upsampler, arrays: Mapping[str, Array]) -> Program:
    """The program of an upsampler; its input is the small picture, as planes. It takes little time: float32 always.

    Args:
        plan: of it.
        arrays: the model's packed tensors, by name.
    """
    operations: list[Operation] = []

    def write(source: int, conv: plans.Conv, **around: Any) -> int:
        """Returns the number of the map that it makes."""
        weight, bias = arrays[f"{conv.name}.weight"], arrays[f"{conv.name}.bias"]
        operations.append(FullConv((source,), weight, bias, part="upsampler", **around))
        return len(operations)

    x = write(0, plan.head, unshuffle=1)
    for first, second in plan.blocks:
        x = write(write(x, first), second, relu=True, residual=x)
    write(x, plan.tail, shuffle=plan.scale)
    return Program((plan.head.inputs,), tuple(operations), 1, planes=True)


class Writer:
    """Writes the parts of a blueprint down as operations.

    Args:
        config: of the network.
        arrays: its packed tensors, by name.
        dtype: of what the full-precision convolutions of one tap multiply.
    """

    def __init__(self, config: UNetConfig, arrays: Mapping[str, Array], dtype: str = "float32") -> None:
        self.config, self.arrays, self.dtype = config, arrays, dtype
        self.operations: list[Operation] = []

    def write(self, operation: Operation) -> int:
        """Add an operation to the program: the number of the map that it gives."""
        self.operations.append(operation)
        return X_T + len(self.operations)

    def block(self, plan: plans.ResBlock | plans.Resample, x: int) -> int:
        """Likewise the operations of a block."""
        return self._res_block(plan, x) if isinstance(plan, plans.ResBlock) else self._resample(plan, x)

    def fusion(self, plan: plans.Fusion, x: int, skip: int) -> Operation:
        """The operation of a fusion."""
        if plan.kind == "add":
            return ops.Add((x, skip), "fusions")
        if plan.kind == "join":
            return ops.Join((x, skip), part="fusions")
        if plan.convs[0].full:
            weight, bias = self._as_one(plan)
            return FullConv((x, skip), weight, bias, self.dtype, part="fusions")
        convs = zip(plan.convs, fusion_segments(plan), strict=True)
        both = tuple(self.binary_conv(conv, *segments) for conv, segments in convs)
        return BinaryBlock((x, skip), both, part="fusions")

    def norm(self, plan: plans.Norm) -> ops.Norm:
        """A GroupNorm's numbers."""
        return ops.Norm(plan.groups, NORM_EPS, *self._weight_and_bias(plan))

    def linear(self, plan: plans.Linear) -> ops.Linear:
        """A linear layer's numbers."""
        return ops.Linear(*self._weight_and_bias(plan))

    def binary_conv(self, plan: plans.Conv, *segments: Segment) -> BinaryConv:
        """A packed convolution; of all channels of the first source, if no segments are given."""
        identity = plans.identity(self.config, plan.inputs, plan.outputs, plan.stride)
        names = "sign", "alpha", "tar.bias", "taa.shift", "taa.slope", "taa.offset"
        signs, alpha, tar, shift, slope, offset = (self.arrays[f"{plan.name}.{name}"] for name in names)
        seen = segments or (Segment(0, 0, 1, plan.inputs),)
        return BinaryConv(signs, alpha, tar, shift, slope, offset, plan.kernel, identity, seen)

    def full_conv(self, sources: tuple[int, ...], plan: plans.Conv, **around: Any) -> FullConv:
        """A full-precision convolution with what surrounds it."""
        dtype = self.dtype if plan.kernel == 1 else "float32"
        return FullConv(sources, *self._weight_and_bias(plan), dtype, **around)

    def _weight_and_bias(self, plan: plans.Layer) -> tuple[Array, Array]:
        return self.arrays[f"{plan.name}.weight"], self.arrays[f"{plan.name}.bias"]

    def _res_block(self, plan: plans.ResBlock, x: int) -> int:
        y = self.write(self._half(plan.conv1, x, norm=self.norm(plan.norm1), time=self.linear(plan.time)))
        if plan.shortcut is not None:
            x = self.write(self._half(plan.shortcut, x))
        y = self.write(self._half(plan.conv2, y, norm=self.norm(plan.norm2), residual=x))
        return y if plan.attention is None else self.write(self._attention(plan.attention, y))

    def _half(self, plan: plans.Conv, x: int, **around: Any) -> Operation:
        if plan.full:
            return self.full_conv((x,), plan, part="full-precision blocks", **around)
        return BinaryBlock((x,), (self.binary_conv(plan),), part="binary blocks", **around)

    def _attention(self, plan: plans.SelfAttention, x: int) -> Operation:
        channels = plan.norm.channels
        qkv = self.arrays[f"{plan.qkv.name}.weight"].reshaped(3 * channels, channels)
        weight, bias = self._weight_and_bias(plan.out)
        out = ops.Linear(weight.reshaped(channels, channels), bias)
        return ops.Attention((x,), self.norm(plan.norm), qkv, out, "attention")

    def _resample(self, plan: plans.Resample, x: int) -> int:
        part, inputs = "resampling", plan.convs[0].inputs
        if plan.kind == "strided":
            if plan.up:
                x = self.write(ops.Join((x,), repeat=2, part=part))
            arrangement = "plain" if plan.up else "strided"
            return self.write(BinaryBlock((x,), (self.binary_conv(plan.convs[0]),), arrangement=arrangement, part=part))
        halves = inputs if plan.kind == "cp" and not plan.up else 0  # each sees its own
        block = BinaryBlock(
            (x,),
            tuple(self.binary_conv(conv, Segment(0, i * halves, 1, inputs)) for i, conv in enumerate(plan.convs)),
            concatenate=plan.up and len(plan.convs) == 2,
            arrangement="shuffle" if plan.up else "unshuffle",
            part=part,
        )
        return self.write(block)

    def _as_one(self, plan: plans.Fusion) -> tuple[Array, Array]:
        """Weight and bias of a fusion's full-precision convolutions as one, of x and the skip side by side."""
        outputs = plan.outputs
        weight, bias = Array.empty((outputs, 2 * outputs, 1, 1)), array("f", bytes(4 * outputs))
        target = weight.numbers()
        for conv, segments in zip(plan.convs, fusion_segments(plan), strict=True):
            own_weight, own_bias = self._weight_and_bias(conv)
            source, at = own_weight.numbers(), 0
            for _ in range(outputs):
                row = 2 * outputs * (at // conv.inputs)
                for segment in segments:
                    first = row + outputs * segment.source + segment.first
                    end = first + segment.step * (segment.count - 1) + 1
                    target[first : end : segment.step] = source[at : at + segment.count]
                    at += segment.count
            bias = array("f", map(sum, zip(bias, own_bias.numbers(), strict=True)))
        return weight, Array((outputs,), "float32", bytearray(bias))


def fusion_segments(plan: plans.Fusion) -> list[tuple[Segment, ...]]:
    """What each of a fusion's convolutions sees of x (source 0) and the skip (source 1)."""
    channels, half = plan.outputs, plan.outputs // 2
    match plan.kind:
        case "concat":
            return [(Segment(0, 0, 1, channels), Segment(1, 0, 1, channels))]
        case "cs":
            return [
                (Segment(0, 1, 2, half), Segment(1, 0, 2, half)),  # odd channels of x, even ones of the skip
                (Segment(0, 0, 2, half), Segment(1, 1, 2, half)),
            ]
    return [(Segment(0, 0, 1, channels),), (Segment(1, 0, 1, channels),)]
