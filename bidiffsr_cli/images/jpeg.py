"""Whether a JPEG's data end before its picture does, which Pillow does not pass on from libjpeg.

A file that was cut and has its end marker all the same is decoded without an error: what is missing is made up. So it
is decoded once more with some data put before the marker. After a whole picture they are ignored, and where a part is
missing they become one.
"""

from __future__ import annotations

import hashlib
import io
from typing import IO

from PIL import Image

from .pixels import bands

SCAN, END = 0xDA, 0xD9
ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
"""Begin pictures whose data may lack zeros at their end, so that nothing can be put there."""
ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers that nothing belongs to."""
MORE = bytes(range(1, 255)) * 2


def is_cut(stream: IO[bytes]) -> bool:
    """Whether data are missing at the end of a JPEG that can be decoded; of several pictures in it, the first."""
    stream.seek(0)
    data = stream.read()
    end = _end(data)
    try:
        return end is not None and _seen(data) != _seen(data[:end] + MORE + data[end:])
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
