"""What a JPEG says of its making: how strongly it is compressed, and whether its data end before its picture does.

Of the latter libjpeg warns, and Pillow does not pass it on: a file that was cut and has its end marker all the same is
decoded without an error, and what is missing is made up. So it is decoded once more with some data put before the
marker. After a whole picture they are ignored, and where a part is missing they become one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import IO

from PIL import Image

from .planes import bands

SCAN, END = 0xDA, 0xD9
ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
"""Begin pictures whose data may lack zeros at their end, so that nothing can be put there."""
ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers that nothing belongs to."""
STANDARD = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""The quantization of light (ITU-T T.81, table K.1)."""
LONGEST = 64 << 20
"""Bytes in which a picture must end to be looked at: what follows it may be without end."""
MORE = bytes(range(1, 255)) * 2


def quality(tables: Mapping[int, Sequence[int]]) -> int | None:
    """The quality 1 to 100 at which libjpeg makes quantization tables like these, by the sum of the first."""
    if not tables:
        return None
    total = sum(tables[min(tables)])
    return min(range(100, 0, -1), key=lambda quality: abs(_sum_at(quality) - total))


@cache
def _sum_at(quality: int) -> int:
    """Of the standard table as libjpeg scales it (jcparam.c)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(max((value * percent + 50) // 100, 1), 255) for value in STANDARD)


def is_cut(stream: IO[bytes]) -> bool:
    """Whether data are missing at the end of a JPEG that can be decoded; of several pictures in it, the first."""
    stream.seek(0)
    data = stream.read(LONGEST)
    end = _end(data)
    if end is None:
        return False
    data, marker = data[:end], data[end : end + 2]
    try:
        return _seen(data + marker) != _seen(data + MORE + marker)
    except (OSError, SyntaxError, ValueError):  # it is damaged in another way
        return False


def _end(data: bytes) -> int | None:
    """Where the first picture's end marker stands."""
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == END:
            return at
        if marker in ARITHMETIC:
            return None
        if marker == 0xFF:  # a filler
            at += 1
        elif marker in ALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == SCAN:
                at = _behind_scan(data, at)
    return None


def _behind_scan(data: bytes, at: int) -> int:
    """Where the marker after a scan's data stands."""
    while (at := data.find(b"\xff", at)) >= 0:
        if at + 1 < len(data) and data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2
    return len(data)


def _seen(data: bytes) -> bytes:
    """A hash of what is decoded; where all is in one scan, an eighth of the resolution shows as much."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if not image.info.get("progressive"):
            image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
        seen = hashlib.sha256()
        for top, bottom in bands(*image.size):
            seen.update(image.crop((0, top, image.width, bottom)).tobytes())
        return seen.digest()
