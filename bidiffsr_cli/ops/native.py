"""The native 1-bit engine (`csrc`) from Python: found, checked, called. `reference` says what its operations compute.

The library is optional: where it is missing or cannot run, `why_unavailable()` says why and nothing here may be called.
Every function lets other Python threads run while it computes.

More than 300 lines: it is one C header seen from Python, structure by structure.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import functools
import math
import os
import platform
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import Add, Attention, BinaryBlock, BinaryConv, FullConv, Join, Linear, Norm, Program, TimeEmbedding
from . import __path__ as FOLDERS
from .array import Array
from .packing import row_bytes

if TYPE_CHECKING:
    from torch import Tensor

ABI = 13
ISAS = {"portable": 0, "avx2": 1, "avx512": 2, "neon": 3}
"""Instruction sets, slowest first; what the library calls them."""
ARRANGEMENTS = {"plain": 0, "shuffle": 1, "unshuffle": 2, "strided": 3}
IDENTITIES = {"none": 0, "after": 1, "before": 2}
OPERATION_KINDS = {BinaryBlock: 0, FullConv: 1, Attention: 2, Add: 3, Join: 4}
ENVIRONMENT = "BIDIFFSR_CPU_ISA"
"""Names an instruction set that is to be used instead of the best one."""


def why_unavailable() -> str | None:
    """Why the native engine cannot run, in a sentence; None where it can."""
    return _load()[1]


def supported_isas() -> list[str]:
    """The instruction sets that can run here, slowest first; empty without the library."""
    library, _ = _load()
    return [] if library is None else [name for name, number in ISAS.items() if library.bidiffsr_supported(number)]


def choose_isa() -> str:
    """The best instruction set that can run here, or the one of BIDIFFSR_CPU_ISA.

    Raises:
        UsageError: BIDIFFSR_CPU_ISA names one that cannot run here.
    """
    supported = supported_isas()
    wanted = os.environ.get(ENVIRONMENT)
    if not wanted:
        return supported[-1]
    if wanted not in supported:
        raise UsageError(
            f"{ENVIRONMENT} is {wanted[:40]!r}, which cannot run here.",
            f"Set it to {', '.join(supported)}, or not at all.",
        )
    return wanted


def multiplies_bfloat16(isa: str) -> bool:
    """Whether the engine, with an instruction set, lets the processor multiply bfloat16; else it widens it first."""
    return isa == "avx512" and has_bfloat16()


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16."""
    return bool(library().bidiffsr_multiplies_bfloat16())


class NativeProgram:
    """A program on the engine, with its own copy of the weights in the layout of an instruction set.

    It may be called from several threads at once.

    Args:
        isa: the instruction set.
        program: what is computed.

    Raises:
        ValueError: operations, or the arrays in them, do not fit each other.
        MemoryError: there is not enough memory for it.
    """

    def __init__(self, isa: str, program: Program) -> None:
        self.input_channels, self.planes = program.input_channels, program.planes
        self.parts = [operation.part for operation in program.operations]
        last = program.operations[-1]
        self.gives_planes = isinstance(last, FullConv) and last.shuffle > 0
        description, self.handle = _Describer(isa, program), ctypes.c_void_p()
        check_status(library().bidiffsr_network_new(ctypes.byref(description.result), ctypes.byref(self.handle)))
        weakref.finalize(self, library().bidiffsr_network_delete, self.handle)

    def __call__(
        self, inputs: Sequence[Tensor], t: Sequence[int], step: int, threads: int, seconds: list[float] | None = None
    ) -> Tensor:
        """Run it; the last map of `reference.run`.

        Args:
            inputs: B×C×H×W each, float32, planes or channels last as the program says.
            t: B time steps, for the embedding.
            step: chooses the groups of TaR and TaA.
            threads: how many may work on it; the result is the same.
            seconds: is filled with the time that each operation took.

        Raises:
            ValueError: the inputs do not fit the program.
            MemoryError: there is not enough memory for the maps.
        """
        import torch

        batch, _, height, width = inputs[0].shape
        if len(inputs) != len(self.input_channels) or len(t) != batch:
            raise ValueError(f"{len(inputs)} inputs and {len(t)} time steps of {batch} pictures")
        pointers = [
            _pointer(source, (batch, channels, height, width), planes=self.planes)
            for source, channels in zip(inputs, self.input_channels, strict=True)
        ]
        size = (ctypes.c_int32 * 3)()
        check_status(library().bidiffsr_network_size(self.handle, height, width, size))
        layout = torch.contiguous_format if self.gives_planes else torch.channels_last
        output = torch.empty((batch, *size), memory_format=layout)
        took = (ctypes.c_double * len(self.parts))()
        run = _Run(threads, batch, height, width, (ctypes.c_void_p * 2)(*pointers))
        run.t, run.step, run.output = (ctypes.c_int32 * batch)(*t), step, output.data_ptr()
        if seconds is not None:
            run.seconds = ctypes.cast(took, ctypes.POINTER(ctypes.c_double))
        check_status(library().bidiffsr_network_run(self.handle, ctypes.byref(run)))
        if seconds is not None:
            seconds[:] = took
        return output

    @property
    def nbytes(self) -> int:
        """Of its weights."""
        return library().bidiffsr_network_bytes(self.handle)


def noise(height: int, width: int, seed: int, draw: int, threads: int) -> Tensor:
    """`reference.noise`, to the last bit."""
    import torch

    field = torch.empty(3, height, width)
    check_status(library().bidiffsr_noise(seed % 2**64, draw, height, width, threads, field.data_ptr()))
    return field


def read_floats(octets: bytearray, *, half: bool) -> tuple[bytearray, int]:
    """Numbers of a file, little-endian float16 (`half`) or float32, as float32 in memory.

    Returns:
        The numbers, and which is the first that is not finite; -1 if all are.
    """
    count = len(octets) // (2 if half else 4)
    values = bytearray(4 * count)
    if not count:
        return values, -1
    source, target = (ctypes.byref(ctypes.c_char.from_buffer(place)) for place in (octets, values))
    return values, library().bidiffsr_read_floats(source, half, count, target)


def read_levels(levels: bytearray, scales: Array) -> bytearray:
    """Whole numbers of 8 bits, as many for each scale, times their scale, as float32 in memory."""
    values = bytearray(4 * len(levels))
    if values:
        source, target = (ctypes.byref(ctypes.c_char.from_buffer(place)) for place in (levels, values))
        library().bidiffsr_read_levels(source, scales.address, scales.size, len(levels) // scales.size, target)
    return values


def peak_rate(isa: str) -> float:
    """Binary multiply-adds per second of one core on registers alone; 0 for portable."""
    return library().bidiffsr_peak_rate(ISAS[isa])


def clock_rate() -> float:
    """The processor's clock now, cycles per second."""
    return library().bidiffsr_clock_rate()


class _Segment(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("source", "first", "step", "count")]


class _BinaryConv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("signs", "alpha", "tar", "shift", "slope", "offset")),
        *((name, ctypes.c_int32) for name in ("tar_groups", "taa_groups", "inputs", "outputs", "kernel", "identity")),
        ("segment_count", ctypes.c_int32),
        ("segments", _Segment * 2),
    ]


class _Operation(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        ("source", ctypes.c_int32 * 2),
        ("residual", ctypes.c_int32),
        ("norm_groups", ctypes.c_int32),
        ("norm_eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("norm_weight", "norm_bias", "time_weight", "time_bias")),
        *((name, ctypes.c_int32) for name in ("conv_count", "concatenate", "arrangement")),
        ("convs", _BinaryConv * 2),
        *((name, ctypes.c_int32) for name in ("kernel", "outputs", "bfloat16")),
        *((name, ctypes.c_void_p) for name in ("weight", "second", "bias")),
        *((name, ctypes.c_int32) for name in ("relu", "unshuffle", "shuffle", "repeat")),
    ]


class _Embedding(ctypes.Structure):
    _fields_ = [
        ("channels", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("weight1", "bias1", "weight2", "bias2")),
        ("swish", ctypes.c_int32),
    ]


class _Description(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("isa", "total_steps", "input_count")),
        ("input_channels", ctypes.c_int32 * 2),
        ("input_planes", ctypes.c_int32),
        ("embedding", _Embedding),
        ("operation_count", ctypes.c_int32),
        ("operations", ctypes.POINTER(_Operation)),
    ]


class _Run(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("threads", "batch", "height", "width")),
        ("inputs", ctypes.c_void_p * 2),
        ("t", ctypes.POINTER(ctypes.c_int32)),
        ("step", ctypes.c_int32),
        ("output", ctypes.c_void_p),
        ("seconds", ctypes.POINTER(ctypes.c_double)),
    ]


class _Describer:
    """Writes a program down for the library, after checking that every array has the shape it will be taken for."""

    def __init__(self, isa: str, program: Program) -> None:
        self.kept: list[Array] = []  # what the library reads must live until it has
        self.channels = list(program.input_channels)
        embedding = program.embedding
        self.embedded = 0 if embedding is None else embedding.second.weight.shape[0]
        count = len(program.operations)
        self.result = _Description(ISAS[isa], program.total_steps, len(self.channels))
        self.result.input_channels[:] = (*self.channels, 0)[:2]
        self.result.input_planes, self.result.operation_count = program.planes, count
        if embedding is not None:
            self._embedding(self.result.embedding, embedding)
        self.operations = (_Operation * count)()
        self.result.operations = self.operations
        writers: dict[type, Callable[..., int]] = {
            BinaryBlock: self._binary,
            FullConv: self._full,
            Attention: self._attention,
            Add: self._add,
            Join: self._join,
        }
        for target, operation in zip(self.operations, program.operations, strict=True):
            known = range(len(self.channels))
            if len(operation.sources) not in (1, 2) or any(source not in known for source in operation.sources):
                raise ValueError(f"there is no map of {operation.sources}")
            target.kind, target.residual = OPERATION_KINDS[type(operation)], -1
            target.source[:] = (*operation.sources, -1)[:2]
            self.channels.append(writers[type(operation)](target, operation))

    def _embedding(self, target: _Embedding, embedding: TimeEmbedding) -> None:
        e = target.channels = self.embedded
        target.weight1, target.bias1 = self._linear(embedding.first, 4 * e, e)
        target.weight2, target.bias2 = self._linear(embedding.second, e, 4 * e)
        target.swish = embedding.swish

    def _binary(self, target: _Operation, block: BinaryBlock) -> int:
        """Returns the channels of the result, like all of these."""
        if len(block.convs) not in (1, 2):
            raise ValueError(f"a block has one or two convolutions, not {len(block.convs)}")
        outputs = [conv.alpha.shape[0] for conv in block.convs]
        made = sum(outputs) if block.concatenate else outputs[0]
        self._surroundings(target, block, made)
        target.conv_count, target.concatenate = len(block.convs), block.concatenate
        target.arrangement = ARRANGEMENTS[block.arrangement]
        for place, conv in zip(target.convs, block.convs, strict=False):
            self._conv(place, conv)
        return {"shuffle": made // 4, "unshuffle": 4 * made}.get(block.arrangement, made)

    def _conv(self, target: _BinaryConv, conv: BinaryConv) -> None:
        inputs, outputs = conv.inputs, conv.alpha.shape[0]
        target.signs = self._kept(conv.signs, (outputs, row_bytes(inputs * conv.kernel**2)), "uint8")
        target.alpha = self._kept(conv.alpha, (outputs,))
        target.tar_groups, target.taa_groups = conv.tar.shape[0], conv.slope.shape[0]
        target.tar = self._kept(conv.tar, (target.tar_groups, inputs))
        for name in ("shift", "slope", "offset"):
            setattr(target, name, self._kept(getattr(conv, name), (target.taa_groups, outputs)))
        target.inputs, target.outputs, target.kernel = inputs, outputs, conv.kernel
        target.identity, target.segment_count = IDENTITIES[conv.identity], len(conv.segments)
        for place, segment in zip(target.segments, conv.segments, strict=False):
            place.source, place.first, place.step, place.count = dataclasses.astuple(segment)

    def _full(self, target: _Operation, conv: FullConv) -> int:
        outputs, kernel = conv.weight.shape[0], conv.weight.shape[-1]
        inputs = sum(self.channels[source] for source in conv.sources) * max(1, conv.unshuffle) ** 2
        self._surroundings(target, conv, outputs)
        if conv.dtype != "float32" and (conv.dtype, kernel) != ("bfloat16", 1):
            raise ValueError(f"nothing of {kernel}×{kernel} taps is multiplied in {conv.dtype}")
        target.weight = self._kept(_taps_first(conv.weight), (outputs, kernel, kernel, inputs))
        target.bias = self._kept(conv.bias, (outputs,))
        target.kernel, target.outputs, target.bfloat16 = kernel, outputs, conv.dtype == "bfloat16"
        target.relu, target.unshuffle, target.shuffle = conv.relu, conv.unshuffle, conv.shuffle
        return outputs // max(1, conv.shuffle) ** 2

    def _attention(self, target: _Operation, attention: Attention) -> int:
        channels = self.channels[attention.sources[0]]
        self._norm(target, attention.norm, channels)
        target.weight = self._kept(attention.qkv, (3 * channels, channels))
        target.second, target.bias = self._linear(attention.out, channels, channels)
        return channels

    def _add(self, target: _Operation, operation: Add) -> int:
        return self.channels[operation.sources[0]]

    def _join(self, target: _Operation, operation: Join) -> int:
        if operation.repeat not in range(1, 2**31):
            raise ValueError(f"pixels are not repeated {operation.repeat} times")
        target.repeat = operation.repeat
        return sum(self.channels[source] for source in operation.sources)

    def _surroundings(self, target: _Operation, operation: BinaryBlock | FullConv, made: int) -> None:
        """The norm before, and what is added behind."""
        if operation.norm is not None:
            self._norm(target, operation.norm, self.channels[operation.sources[0]])
        if operation.time is not None:
            target.time_weight, target.time_bias = self._linear(operation.time, made, self.embedded)
        if operation.residual is not None:
            target.residual = operation.residual

    def _norm(self, target: _Operation, norm: Norm, channels: int) -> None:
        target.norm_groups, target.norm_eps = norm.groups, norm.eps
        target.norm_weight, target.norm_bias = (self._kept(part, (channels,)) for part in (norm.weight, norm.bias))

    def _linear(self, linear: Linear, outputs: int, inputs: int) -> tuple[int, int]:
        return self._kept(linear.weight, (outputs, inputs)), self._kept(linear.bias, (outputs,))

    def _kept(self, array: Array, shape: tuple[int, ...], dtype: str = "float32") -> int:
        """The address of an array, after checking that it is what the library will take it for."""
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"expected {dtype} {shape}, not {array.dtype} {array.shape}")
        self.kept.append(array)
        return array.address


def _taps_first(weight: Array) -> Array:
    """A weight O×I×k×k as O×k×k×I."""
    outputs, inputs, *kernel = weight.shape
    taps = math.prod(kernel)
    if taps == 1:
        return weight.reshaped(outputs, *kernel, inputs)
    result = Array.empty((outputs, *kernel, inputs))
    source, target = weight.numbers(), result.numbers()
    for tap in range(taps):
        for first in range(0, weight.size, inputs * taps):
            there = first + tap * inputs
            target[there : there + inputs] = source[first + tap : first + inputs * taps : taps]
    return result


def _pointer(tensor: Tensor, shape: tuple[int, ...], *, planes: bool) -> int:
    """The address of an input without gaps, after checking that it is what the library will take it for.

    Args:
        tensor: B×C×H×W.
        shape: that it must have.
        planes: whether its channels are planes, or lie side by side (channels last).
    """
    import torch

    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ValueError(f"expected float32 {shape} on the CPU, not {tensor.dtype} {tuple(tensor.shape)}")
    layout = torch.contiguous_format if planes else torch.channels_last
    if not tensor.is_contiguous(memory_format=layout):
        raise ValueError(f"the input is not laid out as {layout}")
    return tensor.data_ptr()


class EngineStatus(enum.IntEnum):
    """What the library's functions give."""

    OK = 0
    OUT_OF_MEMORY = 1
    UNSUPPORTED = 2
    MISFIT = 3
    NOT_FINITE = 4


def check_status(status: int) -> None:
    """Raise what a status stands for, if it is not a good one."""
    if status == EngineStatus.OUT_OF_MEMORY:
        raise MemoryError("the native engine could not get the memory that it needs")
    if status == EngineStatus.MISFIT:
        raise ValueError("operations, or sizes, do not fit each other")
    if status != EngineStatus.OK:
        raise RuntimeError(f"the native engine refused to compute (status {status})")


def library() -> Any:
    """The library, with the types of its functions set."""
    found, why = _load()
    if found is None:
        raise RuntimeError(why)
    return found


def library_name(system: str) -> str:
    """What the library's file is called on a system, as `platform.system` names it."""
    return {"Windows": "bidiffsr_ops.dll", "Darwin": "libbidiffsr_ops.dylib"}.get(system, "libbidiffsr_ops.so")


_P, _I32, _I64, _F64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bidiffsr_supported": (_I32, [_I32]),
    "bidiffsr_multiplies_bfloat16": (_I32, []),
    "bidiffsr_network_new": (_I32, [_P, _P]),
    "bidiffsr_network_delete": (None, [_P]),
    "bidiffsr_network_bytes": (_I64, [_P]),
    "bidiffsr_network_size": (_I32, [_P, _I32, _I32, _P]),
    "bidiffsr_network_run": (_I32, [_P, _P]),
    "bidiffsr_noise": (_I32, [ctypes.c_uint64, _I32, _I32, _I32, _I32, _P]),
    "bidiffsr_enlarge": (_I32, [_P, _P, _P, _P]),
    "bidiffsr_read_floats": (_I64, [_P, _I32, _I64, _P]),
    "bidiffsr_read_levels": (None, [_P, _P, _I64, _I64, _P]),
    "bidiffsr_peak_rate": (_F64, [_I32]),
    "bidiffsr_clock_rate": (_F64, []),
}


@functools.cache
def _load() -> tuple[Any, str | None]:
    """(the library, None), or (None, why there is none)."""
    name = library_name(platform.system())
    candidates = [Path(folder) / name for folder in FOLDERS]  # two folders where the installation is editable
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return None, "it was not built when bidiffsr was installed: there was no C++ compiler, or the build failed"
    try:
        library = ctypes.CDLL(str(path))
        library.bidiffsr_abi.restype = _I32
        found = library.bidiffsr_abi()
    except (OSError, AttributeError) as error:
        return None, f"its library cannot be loaded: {error}"
    if found != ABI:
        return None, f"its library is of another version ({found}, not {ABI}): install bidiffsr again"
    for function, (result, arguments) in _SIGNATURES.items():
        getattr(library, function).restype = result
        getattr(library, function).argtypes = arguments
    return library, None
