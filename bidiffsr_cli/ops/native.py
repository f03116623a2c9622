"""The native 1-bit engine (`csrc`) from Python: found, checked, called. `reference` says what its operations compute.

The library is optional: where it is missing or cannot run, `why_unavailable()` says why and nothing here may be called.
Every function lets other Python threads run while it computes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from . import BinaryConv, FullConv, Segment
from . import __path__ as FOLDERS

ABI = 3
ISAS = {"portable": 0, "avx2": 1, "avx512": 2, "neon": 3}
"""Instruction sets, slowest first; what the library calls them."""
ARRANGEMENTS = {"plain": 0, "shuffle": 1, "unshuffle": 2}
IDENTITIES = {"none": 0, "after": 1, "before": 2}
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


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; others widen it first, which gains nothing."""
    return bool(_library().bidiffsr_multiplies_bfloat16())


def prepare(isa: str, signs: Tensor, inputs: int, kernel: int) -> Tensor:
    """Bring packed signs (rows as `packing.pack_signs` makes them) into the layout of an instruction set: bytes."""
    outputs = signs.shape[0]
    library = _library()
    prepared = torch.empty(library.bidiffsr_prepared_bytes(ISAS[isa], outputs, inputs, kernel), dtype=torch.uint8)
    _check(
        library.bidiffsr_prepare(
            ISAS[isa],
            _pointer(signs, (outputs, signs.shape[1]), torch.uint8),
            signs.shape[1],
            outputs,
            inputs,
            kernel,
            prepared.data_ptr(),
        )
    )
    return prepared


def binary_block(
    isa: str,
    threads: int,
    sources: Sequence[Tensor],
    convs: Sequence[BinaryConv],
    *,
    norm: tuple[Tensor, Tensor] | None = None,
    concatenate: bool = False,
    arrangement: str = "plain",
    addend: Tensor | None = None,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`reference.binary_block`, channels last, and the `reference.moments` of its result.

    Args:
        isa: whose layout the weights have.
        threads: how many may work on it; the result is the same.
    """
    batch, _, height, width = sources[0].shape
    block = _Block(
        isa=ISAS[isa],
        threads=threads,
        batch=batch,
        height=height,
        width=width,
        conv_count=len(convs),
        concatenate=concatenate,
        arrangement=ARRANGEMENTS[arrangement],
    )
    for index, source in enumerate(sources):
        channels = source.shape[1]
        block.source[index] = _map_pointer(source, (batch, channels, height, width))
        block.source_channels[index] = channels
    if norm is not None:
        shape = (batch, sources[0].shape[1])
        block.norm_scale, block.norm_shift = (_pointer(coefficient, shape) for coefficient in norm)
        if any(conv.segments != (Segment(0, 0, 1, shape[1]),) for conv in convs):
            raise ValueError("behind a norm every convolution sees all channels of the first source")
    for index, conv in enumerate(convs):
        _fill(block.convs[index], conv, sources, isa)
    outputs = [conv.alpha.shape[0] for conv in convs]
    channels = sum(outputs) if concatenate else outputs[0]
    if len(set(outputs)) > 1:
        raise ValueError(f"two convolutions of {outputs} outputs do not go together")
    if arrangement == "shuffle":
        if channels % 4:
            raise ValueError(f"{channels} channels cannot be pixel-shuffled")
        channels, height, width = channels // 4, height * 2, width * 2
    elif arrangement == "unshuffle":
        if height % 2 or width % 2:
            raise ValueError(f"{height}×{width} cannot be pixel-unshuffled")
        channels, height, width = channels * 4, height // 2, width // 2
    if arrangement != "plain" and (addend is not None or residual is not None):
        raise ValueError("nothing is added to a result that is pixel-(un)shuffled")
    if addend is not None:
        block.addend = _pointer(addend, (batch, channels))
    if residual is not None:
        block.residual = _map_pointer(residual, (batch, channels, height, width))
    output = new_map(batch, channels, height, width)
    block.output = output.data_ptr()
    sums = torch.empty(batch, height, 2, channels)
    block.moments = sums.data_ptr()
    _check(_library().bidiffsr_run_block(ctypes.byref(block)))
    return output, sums


def moments(isa: str, threads: int, x: Tensor) -> Tensor:
    """`reference.moments` of a map, channels last."""
    batch, channels, height, width = x.shape
    sums = torch.empty(batch, height, 2, channels)
    pointer = _map_pointer(x, x.shape)
    _check(_library().bidiffsr_moments(ISAS[isa], threads, pointer, batch * height, width, channels, sums.data_ptr()))
    return sums


def norm_coefficients(
    sums: Tensor, width: int, groups: int, eps: float, gamma: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """`reference.norm_coefficients` from a map's moments, B×H×2×C, and its width."""
    batch, height, _, channels = sums.shape
    scale, shift = torch.empty(batch, channels), torch.empty(batch, channels)
    for picture in range(batch):
        _library().bidiffsr_norm_coefficients(
            _pointer(sums[picture], (height, 2, channels)),
            height,
            width,
            channels,
            groups,
            eps,
            _pointer(gamma, (channels,)),
            _pointer(beta, (channels,)),
            scale[picture].data_ptr(),
            shift[picture].data_ptr(),
        )
    return scale, shift


def prepare_full(isa: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring a full-precision convolution's weight, O×I×k×k, into the layout of an instruction set: bytes.

    Args:
        isa: whose layout.
        weight: float32.
        dtype: of what will be multiplied, float32 or bfloat16.
    """
    outputs, inputs, kernel, _ = weight.shape
    of = ISAS[isa], dtype == torch.bfloat16
    library = _library()
    prepared = torch.empty(library.bidiffsr_prepared_full_bytes(*of, outputs, inputs, kernel), dtype=torch.uint8)
    taps = weight.detach().permute(0, 2, 3, 1).contiguous()
    pointer = _pointer(taps, (outputs, kernel, kernel, inputs))
    _check(library.bidiffsr_prepare_full(*of, pointer, outputs, inputs, kernel, prepared.data_ptr()))
    return prepared


def full_conv(
    isa: str,
    threads: int,
    sources: Sequence[Tensor],
    conv: FullConv,
    *,
    norm: tuple[Tensor, Tensor] | None = None,
    addend: Tensor | None = None,
    residual: Tensor | None = None,
    unshuffle: int = 0,
    shuffle: int = 0,
) -> tuple[Tensor, Tensor]:
    """`reference.full_conv`, and the `reference.moments` of its result (empty where that is shuffled).

    Args:
        isa: whose layout the weights have.
        threads: how many may work on it; the result is the same.
    """
    channels = [source.shape[1] for source in sources]
    batch, _, height, width = sources[0].shape
    r = max(1, unshuffle)
    if height % r or width % r:
        raise ValueError(f"{height}×{width} cannot be pixel-unshuffled by {r}")
    height, width, inputs = height // r, width // r, sum(channels) * r * r
    outputs = conv.bias.shape[0]
    call = _FullConv(
        isa=ISAS[isa],
        threads=threads,
        bfloat16=conv.dtype == torch.bfloat16,
        batch=batch,
        height=height,
        width=width,
        kernel=conv.kernel,
        outputs=outputs,
        unshuffle=unshuffle,
        shuffle=shuffle,
    )
    for index, source in enumerate(sources):
        shape = (batch, channels[index], height * r, width * r)
        call.source[index] = _pointer(source, shape) if unshuffle else _map_pointer(source, shape)
        call.source_channels[index] = channels[index]
    if norm is not None:
        if len(sources) > 1 or unshuffle:
            raise ValueError("a norm is of a single map")
        call.norm_scale, call.norm_shift = (_pointer(coefficient, (batch, channels[0])) for coefficient in norm)
    size = _library().bidiffsr_prepared_full_bytes(ISAS[isa], call.bfloat16, outputs, inputs, conv.kernel)
    call.weights, call.bias = _pointer(conv.weight, (size,), torch.uint8), _pointer(conv.bias, (outputs,))
    if addend is not None:
        call.addend = _pointer(addend, (batch, outputs))
    if shuffle:
        if outputs % shuffle**2 or residual is not None:
            raise ValueError(f"{outputs} channels cannot be pixel-shuffled by {shuffle}, or something is added to them")
        output = torch.empty(batch, outputs // shuffle**2, height * shuffle, width * shuffle)
        sums = torch.empty(0)
    else:
        if residual is not None:
            call.residual = _map_pointer(residual, (batch, outputs, height, width))
        output, sums = new_map(batch, outputs, height, width), torch.empty(batch, height, 2, outputs)
        call.moments = sums.data_ptr()
    call.output = output.data_ptr()
    _check(_library().bidiffsr_run_full_conv(ctypes.byref(call)))
    return output, sums


def attention(
    isa: str, threads: int, x: Tensor, norm: tuple[Tensor, Tensor], qkv: FullConv, out: FullConv
) -> tuple[Tensor, Tensor]:
    """`reference.attention`, and the `reference.moments` of its result; both convolutions are float32."""
    batch, channels, height, width = x.shape
    output, sums = new_map(batch, channels, height, width), torch.empty(batch, height, 2, channels)
    call = _Attention(ISAS[isa], threads, batch, height, width, channels, _map_pointer(x, tuple(x.shape)))
    call.norm_scale, call.norm_shift = (_pointer(coefficient, (batch, channels)) for coefficient in norm)
    for name, conv, outputs in (("qkv", qkv, 3 * channels), ("out", out, channels)):
        size = _library().bidiffsr_prepared_full_bytes(ISAS[isa], 0, outputs, channels, 1)
        setattr(call, name, _pointer(conv.weight, (size,), torch.uint8))
    call.bias = _pointer(out.bias, (channels,))
    call.output, call.moments = output.data_ptr(), sums.data_ptr()
    _check(_library().bidiffsr_run_attention(ctypes.byref(call)))
    return output, sums


def new_map(batch: int, channels: int, height: int, width: int) -> Tensor:
    """A feature map without values, channels last."""
    return torch.empty((batch, channels, height, width), memory_format=torch.channels_last)


def peak_rate(isa: str) -> float:
    """Binary multiply-adds per second of one core on registers alone; 0 for portable."""
    return _library().bidiffsr_peak_rate(ISAS[isa])


def clock_rate() -> float:
    """The processor's clock now, cycles per second."""
    return _library().bidiffsr_clock_rate()


class _Segment(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("source", "first", "step", "count")]


class _Conv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weights", "alpha", "tar", "shift", "slope", "offset")),
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "kernel", "identity", "segment_count")),
        ("segments", _Segment * 2),
    ]


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("isa", "threads", "batch", "height", "width")),
        ("source_channels", ctypes.c_int32 * 2),
        ("source", ctypes.c_void_p * 2),
        *((name, ctypes.c_void_p) for name in ("norm_scale", "norm_shift")),
        *((name, ctypes.c_int32) for name in ("conv_count", "concatenate", "arrangement")),
        *((name, ctypes.c_void_p) for name in ("addend", "residual", "output", "moments")),
        ("convs", _Conv * 2),
    ]


class _FullConv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("isa", "threads", "bfloat16", "batch", "height", "width")),
        *((name, ctypes.c_int32) for name in ("kernel", "outputs", "unshuffle")),
        ("source_channels", ctypes.c_int32 * 2),
        ("source", ctypes.c_void_p * 2),
        *((name, ctypes.c_void_p) for name in ("norm_scale", "norm_shift", "weights", "bias", "addend", "residual")),
        ("shuffle", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("output", "moments")),
    ]


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("isa", "threads", "batch", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("x", "norm_scale", "norm_shift", "qkv", "out", "bias")),
        *((name, ctypes.c_void_p) for name in ("output", "moments")),
    ]


def _fill(target: _Conv, conv: BinaryConv, sources: Sequence[Tensor], isa: str) -> None:
    """Write down one convolution, after checking that all of it fits together."""
    inputs = sum(segment.count for segment in conv.segments)
    outputs = conv.alpha.shape[0]
    if conv.kernel not in (1, 3):
        raise ValueError(f"kernels are 1 or 3 wide, not {conv.kernel}")
    if conv.identity != "none" and inputs != outputs:
        raise ValueError(f"there is no identity from {inputs} to {outputs} channels")
    for index, segment in enumerate(conv.segments):
        last = segment.first + (segment.count - 1) * segment.step
        if (
            min(segment.source, segment.first, segment.step - 1, segment.count - 1) < 0
            or last >= sources[segment.source].shape[1]
        ):
            raise ValueError(f"{segment} reaches beyond the channels of its source")
        target.segments[index] = _Segment(segment.source, segment.first, segment.step, segment.count)
    size = _library().bidiffsr_prepared_bytes(ISAS[isa], outputs, inputs, conv.kernel)
    target.weights = _pointer(conv.weight, (size,), torch.uint8)
    target.alpha = _pointer(conv.alpha, (outputs,))
    target.tar = _pointer(conv.tar, (inputs,))
    target.shift, target.slope, target.offset = (
        _pointer(parameter, (outputs,)) for parameter in (conv.shift, conv.slope, conv.offset)
    )
    target.inputs, target.outputs, target.kernel = inputs, outputs, conv.kernel
    target.identity, target.segment_count = IDENTITIES[conv.identity], len(conv.segments)


def _pointer(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """The address of a tensor without gaps, after checking that it is what the library will take it for."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
        raise ValueError(f"expected {dtype} {shape} on the CPU, not {tensor.dtype} {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError("the tensor has gaps")
    return tensor.data_ptr()


def _map_pointer(tensor: Tensor, shape: Sequence[int]) -> int:
    """Likewise the address of a feature map, channels last."""
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ValueError(f"expected float32 {tuple(shape)} on the CPU, not {tensor.dtype} {tuple(tensor.shape)}")
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        raise ValueError("the map is not channels last")
    return tensor.data_ptr()


def _check(status: int) -> None:
    if status == 1:
        raise MemoryError("the native engine could not get the memory for its rows")
    if status:
        raise RuntimeError(f"the native engine refused to compute (status {status})")


def _library() -> Any:
    library, why = _load()
    if library is None:
        raise RuntimeError(why)
    return library


_P, _I32, _I64, _F64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bidiffsr_supported": (_I32, [_I32]),
    "bidiffsr_multiplies_bfloat16": (_I32, []),
    "bidiffsr_prepared_bytes": (_I64, [_I32] * 4),
    "bidiffsr_prepare": (_I32, [_I32, _P, _I64, _I32, _I32, _I32, _P]),
    "bidiffsr_run_block": (_I32, [_P]),
    "bidiffsr_moments": (_I32, [_I32, _I32, _P, _I64, _I64, _I64, _P]),
    "bidiffsr_norm_coefficients": (None, [_P, _I64, _I64, _I64, _I64, _F64, _P, _P, _P, _P]),
    "bidiffsr_prepared_full_bytes": (_I64, [_I32] * 5),
    "bidiffsr_prepare_full": (_I32, [_I32, _I32, _P, _I32, _I32, _I32, _P]),
    "bidiffsr_run_full_conv": (_I32, [_P]),
    "bidiffsr_run_attention": (_I32, [_P]),
    "bidiffsr_peak_rate": (_F64, [_I32]),
    "bidiffsr_clock_rate": (_F64, []),
}


@functools.cache
def _load() -> tuple[Any, str | None]:
    """(the library, None), or (None, why there is none)."""
    name = "bidiffsr_ops.dll" if platform.system() == "Windows" else "libbidiffsr_ops.so"
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
