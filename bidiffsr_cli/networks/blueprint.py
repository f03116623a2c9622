"""The structure of the UNet as plain data, without torch: which layers there are, and what they are called.

    plan = blueprint(config, condition_channels)
    plan.encoder[0].conv1          Conv("encoder.0.conv1", 64, 64, 3, ...)
    shapes(config, condition_channels, packed=True)["encoder.0.conv1.sign"]      (64, 72)

The torch network is built from it, the native engine's program is written by it, packed files are checked against it,
and Params and OPs are counted on it. Names are those of `UNet.state_dict()`; fields are in the order of its tensors.

More than 300 lines: one network has one structure, and a part of it says little without the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..configs import UNetConfig, UpsamplerConfig
from ..ops.packing import row_bytes

BATCH_NORM_METHODS = ("bnn", "dorefa", "dorefa_01", "xnor", "xnor_map", "irnet", "reactnet")
"""Methods that have a BatchNorm behind each binary convolution."""
SHIFT_METHODS = ("bi_diffsr", "bbcu", "reactnet")
"""Methods that shift values before the sign, and have an RPReLU."""
IDENTITY = {"bi_diffsr": "after", "bbcu": "after", "irnet": "after", "reactnet": "before"}
"""Methods that can add a binary convolution's input to its result -> where: before or after the activation."""


@dataclass(frozen=True)
class Conv:
    """A convolution.

    Attributes:
        name: in the network.
        inputs, outputs, kernel, stride: its size; it is padded so that a stride of 1 keeps height and width.
        level: resolution of its result; 0 is the finest, and each has half the sides of the one before.
        full: whether it is full precision; else it is of the config's method.
        bias: whether it has one, if it is full precision.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    level: int
    full: bool
    stride: int = 1
    bias: bool = True


@dataclass(frozen=True)
class Linear:
    """A linear layer with a bias."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Norm:
    """A GroupNorm; `level` as of `Conv`."""

    name: str
    channels: int
    groups: int
    level: int


@dataclass(frozen=True)
class SelfAttention:
    """Of the norm's result; `qkv` gives three times as many channels, `out` takes a third of them."""

    norm: Norm
    qkv: Conv
    out: Conv


@dataclass(frozen=True)
class ResBlock:
    """A residual block; `shortcut` takes the place of x where channels change."""

    norm1: Norm
    conv1: Conv
    time: Linear
    norm2: Norm
    conv2: Conv
    shortcut: Conv | None
    attention: SelfAttention | None


@dataclass(frozen=True)
class Resample:
    """A change of resolution.

    Attributes:
        kind: a word of `UNetConfig.resample`.
        up: to a finer level, or to a coarser one.
        convs: `conv`, or `conv1` and `conv2`.
        outputs: channels of its result.
    """

    kind: str
    up: bool
    convs: tuple[Conv, ...]
    outputs: int


@dataclass(frozen=True)
class Fusion:
    """How the decoder takes in a skip.

    Attributes:
        kind: a word of `UNetConfig.fusion`.
        convs: `conv`, or `conv1` and `conv2`, or none.
        outputs: channels of its result.
    """

    kind: str
    convs: tuple[Conv, ...]
    outputs: int


@dataclass(frozen=True)
class DecoderLevel:
    """A resolution of the decoder: each fusion is before a block; the finest level has no way up."""

    fusions: tuple[Fusion, ...]
    blocks: tuple[ResBlock, ...]
    up: Resample | None


@dataclass(frozen=True)
class Upsampler:
    """A network that enlarges the picture beforehand; its convolutions see the small one."""

    scale: int
    head: Conv
    blocks: tuple[tuple[Conv, Conv], ...]
    tail: Conv

    @property
    def radius(self) -> int:
        """How far it sees, in pixels of the small picture: one for each convolution."""
        return 2 * len(self.blocks) + 2


@dataclass(frozen=True)
class Blueprint:
    """The whole network."""

    linear1: Linear
    linear2: Linear
    stem: Conv
    encoder: tuple[ResBlock | Resample, ...]
    middle: tuple[ResBlock, ...]
    decoder: tuple[DecoderLevel, ...]
    head_norm: Norm
    head: Conv
    upsamplers: tuple[Upsampler, ...]


Layer = Conv | Linear | Norm


def blueprint(config: UNetConfig, condition_channels: int = 3) -> Blueprint:
    """The network of a config, for a condition of so many channels."""
    draw = Draftsman(config)
    widths = [config.inner_channel * mult for mult in config.channel_mults]
    base, r2 = widths[0], config.pixel_unshuffle**2
    encoder: list[ResBlock | Resample] = []
    channels, skips = base, [base]
    for level, width in enumerate(widths):
        for _ in range(config.res_blocks):
            encoder.append(draw.res_block(f"encoder.{len(encoder)}", channels, width, level))
            channels = width
            skips.append(channels)
        if level < config.levels - 1:
            down = draw.down(f"encoder.{len(encoder)}", channels, level)
            encoder.append(down)
            channels = down.outputs
            skips.append(channels)
    last = config.levels - 1
    middle = (
        draw.res_block("middle.0", channels, channels, last, attention=True),
        draw.res_block("middle.1", channels, channels, last),
    )
    decoder: list[DecoderLevel] = []
    for level, width in reversed(list(enumerate(widths))):
        place, full = f"decoder.{len(decoder)}", level in config.full_precision_levels
        fusions, blocks = list[Fusion](), list[ResBlock]()
        for index in range(config.res_blocks + 1):
            fusions.append(draw.fusion(f"{place}.fusions.{index}", channels, skips.pop(), level, full))
            blocks.append(draw.res_block(f"{place}.blocks.{index}", fusions[-1].outputs, width, level, full))
            channels = width
        up = draw.up(f"{place}.up", channels, level) if level > 0 else None
        decoder.append(DecoderLevel(tuple(fusions), tuple(blocks), up))
        channels = channels if up is None else up.outputs
    return Blueprint(
        Linear("time_embedding.linear1", base, 4 * base),
        Linear("time_embedding.linear2", 4 * base, base),
        Conv("stem", (condition_channels + 3) * r2, base, 3, 0, full=True),
        tuple(encoder),
        middle,
        tuple(decoder),
        draw.norm("head_norm", base, 0),
        Conv("head", base, 3 * r2, 3, 0, full=True),
        upsamplers(config.upsampler),
    )


def upsamplers(config: UpsamplerConfig | None) -> tuple[Upsampler, ...]:
    """A config's upsamplers, in its order."""
    if config is None:
        return ()

    def conv(name: str, inputs: int, outputs: int) -> Conv:
        return Conv(name, inputs, outputs, 3, 0, full=True)

    def upsampler(scale: int, count: int) -> Upsampler:
        place, channels = f"upsamplers.{scale}", config.channels
        blocks = (
            tuple(conv(f"{place}.blocks.{index}.conv{i}", channels, channels) for i in (1, 2)) for index in range(count)
        )
        head, tail = conv(f"{place}.head", 3, channels), conv(f"{place}.tail", channels, 3 * scale**2)
        return Upsampler(scale, head, tuple((first, second) for first, second in blocks), tail)

    return tuple(upsampler(int(scale), count) for scale, count in config.blocks.items())


class Draftsman:
    """Draws the parts of a config's network."""

    def __init__(self, config: UNetConfig) -> None:
        self.config = config

    def res_block(
        self, name: str, inputs: int, outputs: int, level: int, full: bool = False, attention: bool = False
    ) -> ResBlock:
        """A ResBlock; the config may name it as full precision whatever `full` says."""
        full = full or name in self.config.full_precision_blocks
        return ResBlock(
            self.norm(f"{name}.norm1", inputs, level),
            self._conv(f"{name}.conv1", inputs, outputs, 3, level, full),
            Linear(f"{name}.time", self.config.inner_channel, outputs),
            self.norm(f"{name}.norm2", outputs, level),
            self._conv(f"{name}.conv2", outputs, outputs, 3, level, full),
            None if inputs == outputs else self._conv(f"{name}.shortcut", inputs, outputs, 1, level, full),
            self._attention(f"{name}.attention", outputs, level) if attention else None,
        )

    def down(self, name: str, channels: int, level: int) -> Resample:
        """From a level to the next coarser one."""
        half = channels // 2
        match self.config.resample:
            case "cp":
                return Resample("cp", False, self._two_convs(name, half, 3, level), 2 * channels)
            case "conv":
                return Resample("conv", False, (self._conv(f"{name}.conv", channels, half, 3, level),), 2 * channels)
        conv = self._conv(f"{name}.conv", channels, channels, 3, level + 1, stride=2)
        return Resample("strided", False, (conv,), channels)

    def up(self, name: str, channels: int, level: int) -> Resample:
        """From a level to the next finer one."""
        half = channels // 2
        match self.config.resample:
            case "cp":
                return Resample("cp", True, self._two_convs(name, channels, 3, level), half)
            case "conv":
                return Resample("conv", True, (self._conv(f"{name}.conv", channels, 2 * channels, 3, level),), half)
        return Resample("strided", True, (self._conv(f"{name}.conv", channels, channels, 3, level - 1),), channels)

    def fusion(self, name: str, channels: int, skip_channels: int, level: int, full: bool = False) -> Fusion:
        """Of so many channels with a skip's."""
        match kind := self.config.fusion:
            case "cs" | "split":
                return Fusion(kind, self._two_convs(name, channels, 1, level, full), channels)
            case "concat":
                return Fusion(kind, (self._conv(f"{name}.conv", 2 * channels, channels, 1, level, full),), channels)
        return Fusion(kind, (), channels + skip_channels if kind == "join" else channels)

    def norm(self, name: str, channels: int, level: int) -> Norm:
        """A GroupNorm with the config's groups."""
        return Norm(name, channels, self.config.norm_groups, level)

    def _attention(self, name: str, channels: int, level: int) -> SelfAttention:
        return SelfAttention(
            self.norm(f"{name}.norm", channels, level),
            Conv(f"{name}.qkv", channels, 3 * channels, 1, level, full=True, bias=False),
            Conv(f"{name}.out", channels, channels, 1, level, full=True),
        )

    def _two_convs(self, name: str, channels: int, kernel: int, level: int, full: bool = False) -> tuple[Conv, Conv]:
        first, second = (self._conv(f"{name}.conv{i}", channels, channels, kernel, level, full) for i in (1, 2))
        return first, second

    def _conv(
        self, name: str, inputs: int, outputs: int, kernel: int, level: int, full: bool = False, stride: int = 1
    ) -> Conv:
        return Conv(name, inputs, outputs, kernel, level, full or self.config.method == "full_precision", stride)


def layers(part: Any) -> Iterator[Layer]:
    """All layers of a part, or of a whole blueprint."""
    if isinstance(part, Conv | Linear | Norm):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from layers(item)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from layers(getattr(part, field.name))


def shapes(config: UNetConfig, condition_channels: int = 3, *, packed: bool = False) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a network by their names, in order.

    Args:
        config: of the network.
        condition_channels: of the condition.
        packed: in the form in which binary weights are bits, if the method can be packed; else as it is trained.
    """
    return {
        f"{layer.name}.{name}": shape
        for layer in layers(blueprint(config, condition_channels))
        for name, shape in tensors(layer, config, packed=packed).items()
    }


def tensors(layer: Layer, config: UNetConfig, *, packed: bool = False) -> dict[str, tuple[int, ...]]:
    """Likewise of one layer, by their names in it."""
    if isinstance(layer, Norm):
        return {"weight": (layer.channels,), "bias": (layer.channels,)}
    if isinstance(layer, Linear):
        return {"weight": (layer.outputs, layer.inputs), "bias": (layer.outputs,)}
    weight = layer.outputs, layer.inputs, layer.kernel, layer.kernel
    if layer.full:
        return {"weight": weight} | ({"bias": (layer.outputs,)} if layer.bias else {})
    activation = (config.taa_groups, layer.outputs)
    shifts: dict[str, tuple[int, ...]] = {"tar.bias": (config.tar_groups, layer.inputs)}
    shifts |= {f"taa.{name}": activation for name in ("shift", "slope", "offset")}
    if packed and not config.why_not_packed:
        row = row_bytes(layer.inputs * layer.kernel**2)
        return {"sign": (layer.outputs, row), "alpha": (layer.outputs,), **shifts}
    found: dict[str, tuple[int, ...]] = {"weight": weight}
    if config.method == "irnet":
        found["ede"] = (2,)
    if config.method in SHIFT_METHODS:
        found |= shifts
    if config.method in BATCH_NORM_METHODS:
        found |= {f"norm.{name}": (layer.outputs,) for name in ("weight", "bias", "mean", "variance")}
    return found


def identity(config: UNetConfig, inputs: int, outputs: int, stride: int = 1) -> str:
    """Where a binary convolution of the config adds its input to its result: "none", "before" or "after" activation."""
    keeps_size = inputs == outputs and stride == 1
    return IDENTITY.get(config.method, "none") if config.identity and keeps_size else "none"
