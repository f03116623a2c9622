"""Pictures from tensors and arrays: torch tensors C×H×W, and H×W[×C] objects with `__array_interface__`.

The array interface is numpy's protocol; it needs no numpy on this side.
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .picture import Picture
from .pixels import to_bytes

DTYPES = {
    "u1": torch.uint8,
    "u2": torch.uint16,
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
}
LAYOUTS = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}


def picture_from_tensor(tensor: Tensor, name: str) -> Picture:
    """Read 1, 2, 3 or 4 channels (grey, grey + alpha, RGB, RGBA) of uint8, uint16 or floats in [0, 1] as C×H×W."""
    if tensor.ndim != 3 or tensor.shape[0] not in LAYOUTS or 0 in tensor.shape:
        raise InputError(
            f"{name} has the shape {tuple(tensor.shape)}, which is no picture.",
            "Give channels × height × width with 1, 3 or 4 channels, one picture at a time.",
        )
    values = _unit_range(tensor.detach().cpu(), name)
    grey = tensor.shape[0] < 3
    rgb = (values[:1].expand(3, -1, -1) if grey else values[:3]).contiguous()
    alpha = values[-1:].contiguous() if tensor.shape[0] in (2, 4) else None
    picture = Picture(rgb, alpha, grey)
    if tensor.dtype == torch.uint16 and grey and alpha is None:
        picture.bits = 16
    elif tensor.dtype == torch.uint16:
        picture.warnings.append("16-bit colour will be written with 8 bits, the most that can be kept here.")
    return picture


def _unit_range(tensor: Tensor, name: str) -> Tensor:
    """A float32 copy in [0, 1]."""
    if tensor.dtype == torch.uint8:
        return tensor / 255
    if tensor.dtype == torch.uint16:
        return tensor.to(torch.float32) / 65535
    if not tensor.is_floating_point():
        raise InputError(f"{name} has the type {tensor.dtype}, which is no picture.", "Give uint8, uint16 or floats.")
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN; a little beyond is rounding
        raise InputError(
            f"{name} holds values from {low:.4g} to {high:.4g}: floating point pictures must lie between 0 and 1.",
            "Divide by 255 if it holds 8-bit levels.",
        )
    return tensor.to(torch.float32).clamp(0, 1)


def picture_from_array(array: Any, name: str) -> Picture:
    """Read H×W, H×W×1, H×W×3 or H×W×4 (also ×2: grey + alpha) of uint8, uint16 or floats in [0, 1]."""
    interface = array.__array_interface__
    shape, typestr = tuple(interface["shape"]), str(interface["typestr"])
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in LAYOUTS):
        raise InputError(
            f"{name} has the shape {shape}, which is no picture.", "Give height × width, or that × 1, 3 or 4 channels."
        )
    if typestr[1:] not in DTYPES:
        raise InputError(f"{name} has the type {typestr}, which is no picture.", "Give uint8, uint16 or floats.")
    data = _array_bytes(array, interface, shape, typestr)
    if typestr[0] == ">":
        data = to_bytes(torch.frombuffer(data, dtype=torch.uint8).view(-1, int(typestr[2:])).flip(1))
    tensor = torch.frombuffer(data, dtype=DTYPES[typestr[1:]])
    return picture_from_tensor(tensor.view(*shape[:2], -1).permute(2, 0, 1), name)


def _array_bytes(array: Any, interface: dict[str, Any], shape: tuple[int, ...], typestr: str) -> bytearray:
    """The values in C order."""
    if hasattr(array, "tobytes"):
        return bytearray(array.tobytes())
    data = interface.get("data")
    if interface.get("strides") is None and isinstance(data, tuple):
        return bytearray(ctypes.string_at(data[0], math.prod(shape) * int(typestr[2:])))
    return bytearray(memoryview(data if isinstance(data, (bytes, bytearray, memoryview)) else array).tobytes())
