"""TIFF: kinds that Pillow reads wrongly or not at all, and directories that libtiff does not write.

Which kinds those are was found by writing every combination of numbers, channels, planes, compression, byte order and
tiles with tifffile, and comparing what Pillow 13.0 (libtiff 4.7) made of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import PIL
from PIL import ExifTags, Image, TiffImagePlugin

from ..text import counted
from .spaces import Coding, from_primaries

BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, CHANNELS, PLANES, SAMPLE_FORMAT = 258, 259, 262, 274, 277, 284, 339
WHITE_POINT, PRIMARY_CHROMATICITIES = 318, 319
TILE = (322, 323)
UNCOMPRESSED, SEPARATE, YCBCR, LAB = 1, 2, 6, 8
UNSIGNED, SIGNED, FLOATING = 1, 2, 3
PLANES_READ = {"RGB", "RGBA", "CMYK"}
BIG_ENDIAN_BIGTIFF = b"MM\0+"

OLD_PILLOW = int(PIL.__version__.partition(".")[0]) < 13

Tags = Mapping[int, Any]


@cache
def _libtiff() -> ctypes.CDLL | None:
    """The library that Pillow uses, where the system tells which that is."""
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(errors="replace")
        found = re.search(r"(/\S*/libtiff[^/\s]*\.so[^\s]*)", maps)
        return ctypes.CDLL(found[1]) if found else None
    return None


@cache
def silence() -> None:
    """Keep libtiff's own lines off stderr, where it is found: what is wrong is told."""
    with contextlib.suppress(AttributeError):
        if library := _libtiff():
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def _has_codec(compression: int) -> bool:
    """Whether libtiff was built with a compression, as far as it can be asked."""
    with contextlib.suppress(AttributeError):
        if library := _libtiff():
            return bool(library.TIFFIsCODECConfigured(ctypes.c_uint16(compression)))
    return True


def misread(image: Image.Image) -> str:
    """What kind of TIFF an opened one is, if Pillow reads other pixels than it holds, or cannot; else ""."""
    tags = dict(getattr(image, "tag_v2", {}))
    bits, method = max(_several(tags, BITS, 1)), _several(tags, COMPRESSION, UNCOMPRESSED)[0]
    compressed = method != UNCOMPRESSED
    formats = set(_several(tags, SAMPLE_FORMAT, UNSIGNED))
    planes = tags.get(PLANES) == SEPARATE and tags.get(CHANNELS, 1) > 1
    right_planes = image.mode in PLANES_READ and tags.get(PHOTOMETRIC) != YCBCR and (bits == 8 or compressed)
    big_endian = getattr(image, "tag_v2", None) is not None and image.tag_v2.prefix == b"MM"  # type: ignore[attr-defined]
    if (
        (planes and not right_planes)
        or (SIGNED in formats and bits <= 8)
        or (image.mode == "F" and compressed and big_endian)
        or (OLD_PILLOW and (image.mode == "LAB" or (tags.get(PHOTOMETRIC) == YCBCR and not compressed)))
        or (compressed and not _has_codec(method))
    ):
        return _kind(tags)
    return ""


def is_on_its_side(image: Image.Image) -> bool:
    """Whether Pillow will turn a TIFF by a quarter as it loads it, after which nothing tells that it did."""
    return getattr(image, "tag_v2", {}).get(ORIENTATION) in range(5, 9)


def tile_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of a TIFF's tiles, which may be larger than its picture; (0, 0) if there are none."""
    width, height = (getattr(image, "tag_v2", {}).get(tag, 0) for tag in TILE)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def describe(stream: IO[bytes]) -> str:
    """What kind of TIFF a file is that cannot be opened, in words; "" if it does not say so."""
    with contextlib.suppress(Exception):  # damaged tags raise nearly anything
        stream.seek(0)
        header = stream.read(16)
        if header[:4] == BIG_ENDIAN_BIGTIFF:
            return "BigTIFF of big-endian byte order"
        directory = TiffImagePlugin.ImageFileDirectory_v2(header if _Layout.of(header).big else header[:8])
        stream.seek(directory.next)
        directory.load(stream)
        tags = dict(directory)
        if tags.get(256) and tags.get(257):
            return _kind(tags)
    return ""


def _kind(tags: Tags) -> str:
    """Such as "TIFF of 3 channels of 32-bit floats in separate planes"."""
    channels, bits = tags.get(CHANNELS, 1), max(_several(tags, BITS, 1))
    sort = {SIGNED: "signed integers", FLOATING: "floats"}.get(_several(tags, SAMPLE_FORMAT, UNSIGNED)[0], "integers")
    colours = {YCBCR: "YCbCr ", LAB: "Lab "}.get(tags.get(PHOTOMETRIC, 1), "")
    words = f"{colours}TIFF of {counted(channels, 'channel')} of {bits}-bit {sort}"
    if tags.get(PLANES) == SEPARATE and channels > 1:
        words += " in separate planes"
    names = {number: name for number, name in TiffImagePlugin.COMPRESSION_INFO.items() if number != UNCOMPRESSED}
    compression = tags.get(COMPRESSION, UNCOMPRESSED)
    if compression != UNCOMPRESSED:
        words += f", compressed by {names.get(compression, f'method {compression}').removeprefix('tiff_')}"
    return words


def _several(tags: Tags, tag: int, default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int)) or (default,)


def coding(image: Image.Image) -> Coding | None:
    """What a TIFF's tags say of its colours; None if nothing, or sRGB."""
    tags = getattr(image, "tag_v2", {})
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        numbers = [float(value) for value in tags.get(PRIMARY_CHROMATICITIES, ())]
        white = [float(value) for value in tags.get(WHITE_POINT, ())]
        if len(numbers) == 6 and len(white) in (0, 2):
            return from_primaries([*(white or (0.3127, 0.329)), *numbers])
    return None


@dataclass(frozen=True)
class _Layout:
    """How a file's directories are written: 32 bits, or BigTIFF's 64."""

    order: str
    big: bool
    word: str
    count: str
    entry: int
    first: int

    @staticmethod
    def of(data: bytes) -> _Layout:
        order = "<" if data[:2] == b"II" else ">"
        if data[:4] in (b"II+\0", BIG_ENDIAN_BIGTIFF):
            return _Layout(order, True, "Q", "Q", 20, 8)
        return _Layout(order, False, "I", "H", 12, 4)

    def read(self, format: str, data: bytes | bytearray, at: int) -> int:
        return int(struct.unpack_from(self.order + format, data, at)[0])

    def entries(self, data: bytes | bytearray, at: int) -> dict[int, bytes]:
        """The entries of the directory at an offset, by their tags."""
        begin = at + struct.calcsize(self.order + self.count)
        places = range(begin, begin + self.entry * self.read(self.count, data, at), self.entry)
        return {self.read("H", data, place): bytes(data[place : place + self.entry]) for place in places}


def add_tags(data: bytes, main: Tags, directories: Mapping[ExifTags.IFD, Tags]) -> bytes:
    """Add tags to the first picture of a TIFF file.

    They go to the end of the file, followed by a longer copy of the first directory, which then counts. All other
    offsets are absolute and stay right. libtiff is told of none of them: it ends the process if one has an odd type.

    Args:
        data: the file.
        main: tags of the first directory; those that it has already stay as they are.
        directories: the camera's and the place's.
    """
    layout = _Layout.of(data)
    result = bytearray(data)
    first = layout.read(layout.word, result, layout.first)
    entries = layout.entries(result, first)
    ours = layout.entries(result, _append(result, data, main, None)) if main else {}
    entries = ours | entries
    for ifd, tags in directories.items():
        if tags:
            place = _append(result, data, tags, ifd)
            kind = 16 if layout.big else 4  # LONG8, LONG
            entries[int(ifd)] = struct.pack(f"{layout.order}HH{layout.word}{layout.word}", ifd, kind, 1, place)
    result += b"\0" * (len(result) % 2)
    struct.pack_into(layout.order + layout.word, result, layout.first, len(result))
    result += struct.pack(layout.order + layout.count, len(entries))
    result += b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(layout.order + layout.word, 0)
    return bytes(result)


def _append(result: bytearray, data: bytes, tags: Tags, group: int | None) -> int:
    """Write a directory at the end, and say where it begins."""
    result += b"\0" * (len(result) % 2)
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if _Layout.of(data).big else 8], group=group)
    for tag, value in tags.items():
        directory[tag] = value
    place = len(result)
    result += directory.tobytes(place)
    return place
