"""The tensors of checkpoint files, read and checked without torch. Nothing in a file is believed before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..configs import ModelConfig
from ..errors import CheckpointError
from ..networks.blueprint import Conv, blueprint, layers, shapes
from ..ops import Array, native
from ..ops.packing import filler_is_zero
from .header import Entry, Header, no_whole_file

FLOAT_TYPES = ("F32", "F16")
"""Types of tensors that are neither signs nor scales."""
TYPES = {"sign": ("U8",), "alpha": ("F32",), "weight": (*FLOAT_TYPES, "I8")}
"""Types of tensors with these last names, in packed files."""
SCALE = ".scale"
"""Behind the name of a tensor of 8 bits: what its rows count."""
LARGEST_SCALE = 2.0**120
"""Of which 128 are still a float32."""
Expected = Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]
"""What tensors there should be: name -> (shape, admitted types)."""


def read_packed(path: Path, header: Header) -> dict[str, Array]:
    """The tensors of a packed file by their names, as `Checkpoint.arrays` has them.

    Raises:
        CheckpointError: they are not those of the header's config, or hold what no packed network has.
    """
    config = header.config
    if config.network.why_not_packed:
        raise CheckpointError(f"its method, {config.network.method}, cannot be packed.")
    expected = {
        name: (shape, TYPES.get(name.rpartition(".")[2], FLOAT_TYPES))
        for name, shape in shapes(config.network, config.condition_channels, packed=True).items()
    }
    arrays = read_arrays(path, header, expected)
    _check_binary_convs(arrays, config)
    return arrays


def read_arrays(path: Path, header: Header, expected: Expected) -> dict[str, Array]:
    """The tensors of a file by their names in it; float16 and 8 bits become float32.

    Raises:
        CheckpointError: they are not exactly the expected ones, or hold something that is no finite number.
    """
    _check_entries(header.entries, dict(_with_scales(expected, header.entries)))
    _check_places(header)
    with path.open("rb") as file:
        return {name: _read(file, name, header.entries) for name in expected}


def _with_scales(expected: Expected, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Any]]:
    """What there should be where some tensors are of 8 bits: a scale for each of their rows besides."""
    for name, (shape, dtypes) in expected.items():
        yield name, (shape, dtypes)
        if "I8" in dtypes and name in entries and entries[name].dtype == "I8":
            yield name + SCALE, (shape[:1], ("F32",))


def _check_entries(entries: Mapping[str, Entry], expected: Expected) -> None:
    """Check that a header tells of exactly the expected tensors."""
    for name in expected:
        if name not in entries:
            raise CheckpointError(f"tensor {name} is missing.")
    if len(entries) > len(expected):
        raise CheckpointError(f"tensor {min(entries.keys() - expected.keys())[:120]} is not part of this network.")
    for name, (shape, dtypes) in expected.items():
        entry = entries[name]
        if entry.shape != shape:
            raise CheckpointError(f"tensor {name} has shape {entry.shape}; expected {shape}.")
        if entry.dtype not in dtypes:
            raise CheckpointError(f"tensor {name} has type {entry.dtype[:40]}; expected {' or '.join(dtypes)}.")


def _check_places(header: Header) -> None:
    """Check that the tensors lie one behind the other; that the last ends with the file was seen with the header."""
    end = header.start
    for first, last in sorted((entry.first, entry.last) for entry in header.entries.values()):
        if first != end:
            raise no_whole_file("its tensors overlap, or there is something between them")
        end = last


def _read(file: BinaryIO, name: str, entries: Mapping[str, Entry]) -> Array:
    """A tensor; float16 and 8 bits become float32."""
    entry = entries[name]
    octets = bytearray(entry.nbytes)
    file.seek(entry.first)
    if file.readinto(octets) != len(octets):  # type: ignore[attr-defined]
        raise no_whole_file("it became shorter while it was read")
    if entry.dtype == "U8":
        return Array(entry.shape, "uint8", octets)
    if entry.dtype == "I8":
        scales = _read(file, name + SCALE, entries)
        values, strange = _scaled(octets, scales), max(map(abs, scales.numbers()), default=0.0) > LARGEST_SCALE
    else:
        values, strange = _floats(octets, half=entry.dtype == "F16")
    if strange:
        raise CheckpointError(f"tensor {name} holds values that are not finite.")
    return Array(entry.shape, "float32", values)


def _floats(octets: bytearray, *, half: bool) -> tuple[bytearray, bool]:
    """Float16 (`half`) or float32 as float32, and whether one is not finite; by torch where there is no engine."""
    if native.why_unavailable() is None:
        values, strange = native.read_floats(octets, half=half)
        return values, strange >= 0
    import torch

    values = bytearray(4 * (len(octets) // (2 if half else 4)))
    if not octets:
        return values, False
    read = torch.frombuffer(octets, dtype=torch.float16 if half else torch.float32)
    torch.frombuffer(values, dtype=torch.float32).copy_(read)
    return values, not bool(read.isfinite().all())


def _scaled(levels: bytearray, scales: Array) -> bytearray:
    """Whole numbers of 8 bits times their row's scale, as float32; by torch where there is no engine."""
    if native.why_unavailable() is None:
        return native.read_levels(levels, scales)
    import torch

    values = bytearray(4 * len(levels))
    rows = torch.frombuffer(levels, dtype=torch.int8).reshape(scales.size, -1)
    torch.frombuffer(values, dtype=torch.float32).copy_((rows * scales.tensor()[:, None]).flatten())
    return values


def _check_binary_convs(arrays: Mapping[str, Array], config: ModelConfig) -> None:
    for layer in layers(blueprint(config.network, config.condition_channels)):
        if not isinstance(layer, Conv) or layer.full:
            continue
        if not filler_is_zero(arrays[f"{layer.name}.sign"], layer.inputs * layer.kernel**2):
            raise CheckpointError(f"tensor {layer.name}.sign has bits set behind the end of a row.")
        if min(arrays[f"{layer.name}.alpha"].numbers(), default=0.0) < 0:
            raise CheckpointError(f"tensor {layer.name}.alpha has a negative scale.")
