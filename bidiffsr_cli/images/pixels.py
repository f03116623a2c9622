"""Pixels between Pillow and torch, without numpy.

Everything larger than a band of rows stays in its final type, so that big pictures cost no whole-canvas temporaries.
"""

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

BAND_PIXELS = 1 << 20  # float work is done on about this many pixels at a time


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Cut the rows 0…height into (top, bottom) ranges of about BAND_PIXELS pixels."""
    rows = max(1, BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def to_bytes(tensor: Tensor) -> bytearray:
    """The elements of a tensor in memory order, as bytes."""
    data = bytearray(tensor.numel() * tensor.element_size())
    torch.frombuffer(data, dtype=tensor.dtype).copy_(tensor.flatten())
    return data


def to_levels(image: Image.Image) -> Tensor:
    """The values of an L, LA, RGB or RGBA image (uint8) or of an I or F image (int32, float32), as C×H×W."""
    dtype = {"I": torch.int32, "F": torch.float32}.get(image.mode, torch.uint8)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=dtype)
    return flat.view(image.height, image.width, -1).permute(2, 0, 1)


def to_float(image: Image.Image) -> Tensor:
    """The same as `to_levels` for 8-bit images, but float32 in [0, 1] and contiguous."""
    width, height = image.size
    pixels = torch.empty(len(image.getbands()), height, width)
    for top, bottom in bands(width, height):
        levels = to_levels(image.crop((0, top, width, bottom)))
        torch.div(levels, 255, out=pixels[:, top:bottom])
    return pixels


def to_image(pixels: Tensor, mode: str) -> Image.Image:
    """An image of `mode` from C×H×W values that already have the mode's own type and range."""
    _, height, width = pixels.shape
    return Image.frombytes(mode, (width, height), to_bytes(pixels.permute(1, 2, 0)))
