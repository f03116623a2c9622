"""What a PNG says beside its pixels, read chunk by chunk: colours, and texts that Pillow refuses a whole file for.

Pillow unpacks at most 1 MiB of a text or a colour profile and calls the file damaged otherwise. Texts that long are not
needed here, so they are cut out of what Pillow sees; a profile that long is unpacked here instead.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from .spaces import Coding, from_cicp, from_gamma
from .survey import LONGEST_PROFILE, Survey

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_TEXT = 1 << 20  # bytes of one chunk that Pillow unpacks
MOST_TEXT = 16 << 20  # of all of them; Pillow's own limit is 64 MiB
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
COLOUR_CHUNKS = (b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM")


def survey(stream: IO[bytes]) -> Survey:
    """Look through the chunks of a PNG; whatever is odd is left to Pillow to complain of."""
    found: dict[bytes, bytes] = {}
    kept: list[tuple[int, int]] = [(0, len(SIGNATURE))]
    result = Survey(stream)
    texts = 0
    for kind, start, length in _chunks(stream):
        keep = True
        if kind in TEXTS:
            size = _text_size(kind, _content(stream, start, length)) if texts <= MOST_TEXT else 0
            texts += size  # also what is left out: unpacking takes time
            keep = size <= LONGEST_TEXT and texts <= MOST_TEXT
        elif kind in COLOUR_CHUNKS and kind not in found:
            found[kind] = _content(stream, start, length)
            if kind == b"iCCP" and len(profile := _profile(found[kind])) > LONGEST_TEXT:
                keep = False
                result.icc_profile = profile if len(profile) <= LONGEST_PROFILE else None
                if result.icc_profile is None:
                    result.warnings.append("The colour profile has more than 64 MiB: it was left out.")
        if keep and kept[-1][1] == start - 8:
            kept[-1] = (kept[-1][0], start + length + 4)
        elif keep:
            kept.append((start - 8, start + length + 4))
    stream.seek(0)
    if len(kept) > 1:
        result.stream = io.BufferedReader(_Pieces(stream, kept))
    result.coding = _coding(found)
    result.states_colours = bool(found)
    return result


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its content starts, bytes of it) of each chunk."""
    size = stream.seek(0, io.SEEK_END)
    at = len(SIGNATURE)
    while at + 8 <= size:
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if not re.fullmatch(rb"\w{4}", kind):  # Pillow reads no further either
            return
        yield kind, at + 8, length
        if kind == b"IEND":  # what follows may be without end
            return
        at += length + 12


def _content(stream: IO[bytes], start: int, length: int) -> bytes:
    stream.seek(start)
    return stream.read(min(length, LONGEST_PROFILE))


def _text_size(kind: bytes, content: bytes) -> int:
    """Bytes of a text when it is unpacked, counted no further than is needed."""
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif kind == b"zTXt":
        packed = rest[1:]
    else:
        return len(content)
    return len(_unpacked(packed, LONGEST_TEXT))


def _profile(content: bytes) -> bytes:
    return _unpacked(content.partition(b"\0")[2][1:], LONGEST_PROFILE)


def _unpacked(packed: bytes, limit: int) -> bytes:
    """At most one byte more than `limit`; nothing of what is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, limit + 1)
    except zlib.error:
        return b""


def _coding(found: dict[bytes, bytes]) -> Coding | None:
    """The most precise of what it says: cICP before a profile, which is before sRGB, which is before gAMA and cHRM."""
    if len(cicp := found.get(b"cICP", b"")) == 4:
        return from_cicp(cicp[0], cicp[1])
    if b"iCCP" in found or b"sRGB" in found or not {b"gAMA", b"cHRM"} & found.keys():
        return None
    gamma, places = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    exponent = struct.unpack(">I", gamma)[0] / 100_000 if len(gamma) == 4 else None
    numbers = [value / 100_000 for value in struct.unpack(">8i", places)] if len(places) == 32 else None
    return from_gamma(exponent, numbers)


class _Pieces(io.RawIOBase):
    """A file of which some parts are left out.

    Args:
        file: the whole.
        pieces: (begin, end) of the parts that stay, in order.
    """

    def __init__(self, file: IO[bytes], pieces: list[tuple[int, int]]) -> None:
        self._file, self._pieces, self._at = file, pieces, 0
        self._size = sum(end - begin for begin, end in pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        before = 0
        for begin, end in self._pieces:
            if self._at < before + end - begin:
                start = begin + self._at - before
                self._file.seek(start)
                data = self._file.read(min(len(buffer), end - start))
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
            before += end - begin
        return 0
