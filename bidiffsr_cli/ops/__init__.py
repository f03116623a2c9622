"""The operations of 1-bit inference, and programs of them: what a network comes to once it is packed.

`reference` is their definition in plain torch, `native` computes the same with XOR and popcount on packed bits. The
numbers of a program are `Array`s, so that it can be written and run without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from .array import Array


@dataclass(frozen=True)
class Segment:
    """Channels first, first + step, ..., `count` of them, of one of an operation's sources."""

    source: int
    first: int
    step: int
    count: int


@dataclass(frozen=True)
class BinaryConv:
    """One binary convolution of a block, with the parameters of all groups that time is cut into.

    Attributes:
        signs: O rows of bits, as `packing.pack_signs` makes them.
        alpha: O, the scales.
        tar: G×I, TaR's bias.
        shift, slope, offset: G×O each, TaA's RPReLU.
        kernel: k, 1 or 3.
        identity: where the input is added to the output: "none", "before" or "after" the RPReLU.
        segments: one or two, whose channels one behind the other are the input.
    """

    signs: Array
    alpha: Array
    tar: Array
    shift: Array
    slope: Array
    offset: Array
    kernel: int
    identity: str
    segments: tuple[Segment, ...]

    @property
    def inputs(self) -> int:
        """I."""
        return sum(segment.count for segment in self.segments)


@dataclass(frozen=True)
class Norm:
    """GroupNorm: weight and bias are C each."""

    groups: int
    eps: float
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Linear:
    """weight (O×I) x + bias (O)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class BinaryBlock:
    """One or two binary convolutions, with all that surrounds them.

    Attributes:
        sources: one or two maps; the convolutions' segments choose channels of them.
        convs: side by side in the channels if `concatenate`, else added.
        norm: of the (one) source, of which every convolution then sees SiLU(norm(x)), all channels.
        time: of the time embedding, added to every pixel; plain only.
        residual: a map that is added; plain only.
        arrangement: plain; shuffle or unshuffle: pixel-(un)shuffle by 2 of the result; strided: with a stride of 2,
            which begins at the first pixel, of sources with even sides; plain and without identity.
        part: what kind of work it is, for profiles.
    """

    sources: tuple[int, ...]
    convs: tuple[BinaryConv, ...]
    norm: Norm | None = None
    time: Linear | None = None
    residual: int | None = None
    concatenate: bool = False
    arrangement: str = "plain"
    part: str = ""


@dataclass(frozen=True)
class FullConv:
    """A full-precision convolution of the sources' channels side by side, with all that surrounds it.

    Attributes:
        sources: one or two maps; planes where they are unshuffled.
        weight: O×I×k×k, k 1 or 3.
        bias: O.
        dtype: "float32", or where k is 1 "bfloat16", to which input and weight are rounded before they are multiplied;
            sums are float32.
        norm: of the (one) source, of which the convolution then sees SiLU(norm(x)).
        relu: whether the convolution sees max(x, 0) of its sources, which are maps and have no norm.
        time: of the time embedding, added to every pixel.
        residual: a map that is added; where nothing is shuffled or unshuffled.
        unshuffle, shuffle: pixel-unshuffle of the sources, pixel-shuffle of the result, by so much; 0 leaves it out.
        part: what kind of work it is, for profiles.
    """

    sources: tuple[int, ...]
    weight: Array
    bias: Array
    dtype: str = "float32"
    norm: Norm | None = None
    relu: bool = False
    time: Linear | None = None
    residual: int | None = None
    unshuffle: int = 0
    shuffle: int = 0
    part: str = ""


@dataclass(frozen=True)
class Attention:
    """x + out(softmax(q k^T / sqrt(C)) v) over all pixels, with one head, (q, k, v) = qkv(norm(x)).

    Attributes:
        sources: x.
        norm: of it, without a Swish.
        qkv: 3C×C.
        out: to C channels.
        part: what kind of work it is, for profiles.
    """

    sources: tuple[int]
    norm: Norm
    qkv: Array
    out: Linear
    part: str = ""


@dataclass(frozen=True)
class Add:
    """The sum of two maps."""

    sources: tuple[int, int]
    part: str = ""


@dataclass(frozen=True)
class Join:
    """The channels of one or two maps side by side, each pixel `repeat` times in both directions."""

    sources: tuple[int, ...]
    repeat: int = 1
    part: str = ""


Operation = BinaryBlock | FullConv | Attention | Add | Join


@dataclass(frozen=True)
class TimeEmbedding:
    """second(Swish(first(sinusoids of t))), and one more Swish if `swish`; `first` is 4E×E, `second` E×4E."""

    first: Linear
    second: Linear
    swish: bool


@dataclass(frozen=True)
class Program:
    """Operations, each of which makes a map of others: maps 0.. are the inputs, then come the results in order.

    Attributes:
        input_channels: of one or two inputs.
        operations: the last one's result is the program's.
        total_steps: T.
        embedding: for operations that have a `time`.
        planes: whether inputs are planes (contiguous) or maps (channels last).
    """

    input_channels: tuple[int, ...]
    operations: tuple[Operation, ...]
    total_steps: int
    embedding: TimeEmbedding | None = None
    planes: bool = False
