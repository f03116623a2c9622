"""Pixels between Pillow and torch, without numpy, for whoever computes with torch."""

import torch
from PIL import Image
from torch import Tensor

from .planes import bands


def to_bytes(tensor: Tensor) -> bytearray:
    """The elements of a tensor in memory order, as bytes."""
    data = bytearray(tensor.numel() * tensor.element_size())
    torch.frombuffer(data, dtype=tensor.dtype).copy_(tensor.flatten())
    return data


def to_levels(image: Image.Image) -> Tensor:
    """The values of an L, LA, RGB or RGBA image (uint8) or an I;16, I or F image (uint16, int32, float32), as C×H×W."""
    dtype = {"I;16": torch.uint16, "I": torch.int32, "F": torch.float32}.get(image.mode, torch.uint8)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=dtype)
    return flat.view(image.height, image.width, -1).permute(2, 0, 1)


def to_float(image: Image.Image) -> Tensor:
    """As `to_levels`, but float32 in [0, 1] and contiguous; not of I images, and of F images that lie in it already."""
    width, height = image.size
    full = {"F": 1, "I;16": 65535}.get(image.mode, 255)
    pixels = torch.empty(len(image.getbands()), height, width)
    for top, bottom in bands(width, height):
        levels = to_levels(image.crop((0, top, width, bottom)))
        torch.div(levels, full, out=pixels[:, top:bottom])
    return pixels


def to_image(pixels: Tensor, mode: str) -> Image.Image:
    """An image of `mode` from C×H×W values that already have the mode's own type and range."""
    _, height, width = pixels.shape
    return Image.frombytes(mode, (width, height), to_bytes(pixels.permute(1, 2, 0)))
