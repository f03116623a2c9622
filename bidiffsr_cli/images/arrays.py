"""Pictures from tensors and arrays: torch's tensors, and objects with `__array_interface__`.

The array interface is numpy's protocol; it needs no numpy on this side.
"""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from array import array as numbers
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.ImageMath import imagemath_max, imagemath_min

from ..errors import InputError
from .picture import Picture
from .planes import computed, extrema

if TYPE_CHECKING:
    from torch import Tensor

BYTE_ORDER = "<" if sys.byteorder == "little" else ">"
RAW = {
    **{f"{order}u1": "L" for order in "|<>"},
    **{"<u2": "F;16", "<f4": "F;32F", "<f8": "F;64F", ">u2": "F;16B", ">f4": "F;32BF", ">f8": "F;64BF"},
}
"""How Pillow unpacks the types of the array interface."""
LAYOUTS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def picture_from_tensor(tensor: Tensor, name: str) -> Picture:
    """Read 1, 2, 3 or 4 channels (grey, grey + alpha, RGB, RGBA) of uint8, uint16 or floats in [0, 1].

    Args:
        tensor: C×H×W, or N×C×H×W with N = 1.
        name: what to call it in errors.

    Raises:
        InputError: It has another shape, type or range.
    """
    from .pixels import to_bytes

    shape = _single(tuple(tensor.shape), name)
    if len(shape) != 3 or shape[0] not in LAYOUTS or 0 in shape:
        raise InputError(
            f"{name} has the shape {tuple(tensor.shape)}, which is not a picture's.",
            "Give channels × height × width with 1, 3 or 4 channels, one picture at a time.",
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
    typestr = BYTE_ORDER + {"uint8": "u1", "uint16": "u2", "float32": "f4"}.get(str(tensor.dtype)[len("torch.") :], "")
    if typestr not in RAW:
        raise InputError(
            f"{name} has the type {tensor.dtype}, which is not a picture's.", "Give uint8, uint16 or floats."
        )
    return _picture(to_bytes(tensor), shape, typestr, name, planar=True)


def picture_from_array(array: Any, name: str) -> Picture:
    """Read 1, 2, 3 or 4 channels, as of tensors, of uint8, uint16 or floats in [0, 1].

    Args:
        array: H×W, H×W×C, or C×H×W where W is no number of channels; all may begin with an N of 1.
        name: what to call it in errors.

    Raises:
        InputError: It has another shape, type or range.
    """
    interface = array.__array_interface__
    stated, typestr = tuple(interface["shape"]), str(interface["typestr"])
    shape = _single(stated, name)
    if len(shape) == 2:
        shape = (*shape, 1)
    planar = len(shape) == 3 and shape[2] not in LAYOUTS and shape[0] in LAYOUTS
    if len(shape) != 3 or 0 in shape or not (planar or shape[2] in LAYOUTS):
        raise InputError(
            f"{name} has the shape {stated}, which is not a picture's.",
            "Give height × width, or that × 1, 3 or 4 channels.",
        )
    halves = typestr in ("<f2", ">f2")
    if typestr not in RAW and not halves:
        raise InputError(f"{name} has the type {typestr}, which is not a picture's.", "Give uint8, uint16 or floats.")
    data = _array_bytes(array, interface, shape, typestr)
    if halves:  # Pillow does not know them
        data = bytearray(numbers("f", struct.unpack(f"{typestr[0]}{math.prod(shape)}e", data)).tobytes())
        typestr = BYTE_ORDER + "f4"
    return _picture(data, shape, typestr, name, planar=planar)


def _single(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The shape of the one picture in a batch; any other shape as it is."""
    if len(shape) == 4 and shape[0] > 1:
        raise InputError(f"{name} holds {shape[0]} pictures.", "Enlarge one after the other: for picture in pictures.")
    return shape[1:] if len(shape) == 4 else shape


def _array_bytes(array: Any, interface: dict[str, Any], shape: tuple[int, ...], typestr: str) -> bytearray:
    """The values in C order."""
    if hasattr(array, "tobytes"):
        return bytearray(array.tobytes())
    data = interface.get("data")
    if interface.get("strides") is None and isinstance(data, tuple):
        return bytearray(ctypes.string_at(data[0], math.prod(shape) * int(typestr[2:])))
    return bytearray(memoryview(data if isinstance(data, (bytes, bytearray, memoryview)) else array).tobytes())


def _picture(data: bytearray, shape: tuple[int, ...], typestr: str, name: str, *, planar: bool) -> Picture:
    """The picture of the bytes of H×W×C values of a type in RAW, or of C×H×W where they are `planar`."""
    channels, height, width = shape if planar else (shape[2], *shape[:2])
    raw = RAW[typestr]
    size = (width, channels * height) if planar else (width * channels, height)
    values = Image.frombytes(raw[0], size, data, "raw", raw)
    if typestr[1:] == "u2":
        values = values.point(lambda value: value / 65535)
    elif raw != "L":
        values = _unit_range(values, name)
    if planar:
        planes = [values.crop((0, top, width, top + height)) for top in range(0, channels * height, height)]
    else:
        planes = _separated(values, channels)
    alpha = planes.pop() if channels in (2, 4) else None
    picture = Picture(tuple(planes), alpha)
    if typestr[1:] == "u2" and channels == 1:
        picture.bits = 16
    elif typestr[1:] == "u2":
        picture.warnings.append("16-bit colour will be written with 8 bits, the most that can be kept here.")
    return picture


def _unit_range(values: Image.Image, name: str) -> Image.Image:
    """Floats that lie in [0, 1] but for rounding, clamped."""
    low, high = extrema(values)
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN; a little beyond is rounding
        raise InputError(
            f"{name} holds values from {low:.4g} to {high:.4g}: floating point pictures must lie between 0 and 1.",
            "Divide by 255 if it holds 8-bit levels.",
        )
    return computed(lambda x: imagemath_min(imagemath_max(x, 0.0), 1.0), values)


def _separated(values: Image.Image, channels: int) -> list[Image.Image]:
    """The planes of an L or F image in whose rows the channels of each pixel lie side by side."""
    if channels == 1:
        return [values]
    size = values.width // channels, values.height
    flat = numbers("B" if values.mode == "L" else "f", values.tobytes())
    return [Image.frombytes(values.mode, size, flat[channel::channels].tobytes()) for channel in range(channels)]
