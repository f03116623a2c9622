"""What an AVIF says of its picture in boxes that Pillow does not look at: depth, colours and clean aperture.

Sources: ISO/IEC 14496-12 (boxes, clap), ISO/IEC 23008-12 (items and their properties), AV1 Image File Format (av1C).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import IO

from .spaces import from_cicp
from .survey import Survey

LONGEST_META = 32 << 20  # bytes
MOST_BOXES = 1000
UNSPECIFIED_COLOUR = struct.pack(">HH", 2, 2)
Box = tuple[bytes, bytes]
"""Kind and content."""


def survey(stream: IO[bytes]) -> Survey:
    """Look at the properties of the primary item; whatever is odd is left to Pillow to complain of."""
    result = Survey(stream)
    with contextlib.suppress(struct.error, IndexError, ZeroDivisionError):
        meta = _meta(stream)
        if (at := meta.find(b"av1C")) >= 0:  # of any item: a grid's own is that of its tiles
            flags = meta[at + 6]
            result.depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        properties = _primary_properties(meta)
        for kind, content in properties:
            if kind == b"colr" and content[:4] == b"nclx" and result.coding is None:
                result.coding = from_cicp(*struct.unpack_from(">HH", content, 4))
                result.states_colours = content[4:8] != UNSPECIFIED_COLOUR
            elif kind == b"clap":
                _crop(result, content, dict(properties).get(b"ispe", b""))
        if any(kind == b"colr" and content[:4] in (b"prof", b"rICC") for kind, content in properties):
            result.coding = None  # a profile says it better, and Pillow passes it on
    stream.seek(0)
    return result


def _meta(stream: IO[bytes]) -> bytes:
    """The content of the file's meta box, which may stand behind the pixels."""
    stream.seek(0)
    for _ in range(MOST_BOXES):
        head = stream.read(8)
        if len(head) < 8:
            break
        size, kind = struct.unpack(">I4s", head)
        before = 8
        if size == 1:
            size, before = struct.unpack(">Q", stream.read(8))[0], 16
        if kind == b"meta":
            return stream.read(min(size - before, LONGEST_META) if size else LONGEST_META)[4:]
        if size < before:
            break
        stream.seek(size - before, 1)
    return b""


def _boxes(data: bytes) -> Iterator[Box]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        before = 8
        if size == 1:
            size, before = struct.unpack_from(">Q", data, at + 8)[0], 16
        size = size or len(data) - at
        if size < before:
            return
        yield kind, data[at + before : at + size]
        at += size


def _primary_properties(meta: bytes) -> list[Box]:
    """The properties of the picture that is shown, in the order in which they are named."""
    inside = dict(_boxes(meta))
    pitm = inside.get(b"pitm", b"")
    primary = struct.unpack_from(">I" if pitm[:1] == b"\1" else ">H", pitm, 4)[0]
    iprp = dict(_boxes(inside.get(b"iprp", b"")))
    known = list(_boxes(iprp.get(b"ipco", b"")))
    ipma = iprp.get(b"ipma", b"")
    version, wide = ipma[0], ipma[3] & 1
    at = 8
    for _ in range(struct.unpack_from(">I", ipma, 4)[0]):
        item = struct.unpack_from(">I" if version else ">H", ipma, at)[0]
        at += 4 if version else 2
        count = ipma[at]
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", ipma, at + 1)
        at += 1 + count * (2 if wide else 1)
        if item == primary:
            indices = [number & (0x7FFF if wide else 0x7F) for number in numbers]
            return [known[index - 1] for index in indices if 0 < index <= len(known)]
    return []


def _crop(result: Survey, clap: bytes, ispe: bytes) -> None:
    """The clean aperture, if it is whole pixels of the picture."""
    stored = struct.unpack_from(">II", ispe, 4)
    edges = []
    for index, length in enumerate(stored):
        size = Fraction(*struct.unpack_from(">II", clap, 8 * index))
        offset = Fraction(*struct.unpack_from(">iI", clap, 16 + 8 * index))
        begin = Fraction(length - 1, 2) + offset - (size - 1) / 2
        edges.append((begin, begin + size, length))
    (left, right, width), (top, bottom, height) = edges
    box = (left, top, right, bottom)
    if all(edge.denominator == 1 for edge in box) and 0 <= left < right <= width and 0 <= top < bottom <= height:
        result.crop = (int(left), int(top), int(right), int(bottom))
    else:
        result.warnings.append("The picture's clean aperture is not whole pixels of it: the whole picture was taken.")
