"""Files and profiles that Pillow cannot make: 16-bit colour PNGs, colour profiles, headers that lie."""

import io
import struct
import zlib
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bidiffsr_cli.images import Picture

ADOBE_PRIMARIES = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3_PRIMARIES = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
WHITE = (0.9642, 1.0, 0.8249)


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random levels, C×H×W uint8: many colours, and survivable by lossy formats."""
    coarse = torch.rand(1, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return (smooth[0] * 255).round().to(torch.uint8)


def image_of(levels: Tensor, mode: str) -> Image.Image:
    return Image.frombytes(mode, (levels.shape[2], levels.shape[1]), bytes(levels.permute(1, 2, 0).flatten().tolist()))


def photo(width: int = 24, height: int = 16, mode: str = "RGB", seed: int = 0) -> Image.Image:
    return image_of(noise(width, height, len(Image.new(mode, (1, 1)).getbands()), seed), mode)


def unenlarged(picture: Picture) -> Image.Image:
    """The colours of a picture as an engine that enlarges nothing gives them to `render`; F is 16-bit grey."""
    if picture.planes[0].mode == "L":
        return Image.merge("L" if picture.grey else "RGB", picture.planes)
    levels = (picture.rgb[:1] * 65535).round().to(torch.int32)
    return Image.frombytes("I;16", picture.size, struct.pack(f"<{levels.numel()}H", *levels.flatten().tolist()))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from unfiltered rows, each with its leading filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(pixels: list[list[tuple[int, ...]]], colour_type: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG from rows of tuples."""
    rows = b"".join(b"\0" + b"".join(struct.pack(f">{len(p)}H", *p) for p in row) for row in pixels)
    return png(len(pixels[0]), len(pixels), 16, colour_type, rows, extra)


def profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile, version 2."""
    text = b"text\0\0\0\0made by a test\0"
    tags = {b"desc": _description(b"test"), b"cprt": text, b"wtpt": _xyz(WHITE), **tags}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s", start + len(body), b"test", 0x02400000, kind, space, connection, b"acsp")
    header += b"\0" * (68 - len(header)) + struct.pack(">iii", *(round(v * 65536) for v in WHITE))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {name + b"XYZ": _xyz(values) for name, values in zip((b"r", b"g", b"b"), primaries, strict=True)}
    return profile(b"RGB ", tags | {name + b"TRC": curve for name in (b"r", b"g", b"b")})


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"})


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """A profile under which every ink mixture is one colour, given as 8-bit Lab: nobody could guess it."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + bytes(lab) * 16 + ramp * 3
    return profile(b"CMYK", {b"A2B0": table, b"A2B1": table}, connection=b"Lab ", kind=b"prtr")


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _description(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + b"\0" * (4 + 4 + 2 + 1 + 67)
