"""How strongly a WebP is compressed, which its frame's header says (RFC 6386, sections 7, 9.3 to 9.6 and 19.2)."""

from __future__ import annotations

import struct
from typing import IO

MOST_CHUNKS = 1000
FRAME_BEGINNING = 256
"""Bytes of a frame that are looked at."""


def quality(stream: IO[bytes]) -> int | None:
    """The quality 0 to 100 at which libwebp writes such a file; None for a lossless or an odd one."""
    frame = _frame(stream)
    # a frame tag of three bytes, of which the lowest bit is 0 in a key frame, a signature, and the sides
    if len(frame) < 11 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    bits = _Bits(frame[10:])
    bits.read(2)  # colour space, clamping
    of_segments = _segments(bits)
    bits.read(1 + 6 + 3)  # the loop filter's kind, level and sharpness
    if bits.read(1) and bits.read(1):  # its changes
        for _ in range(8):
            bits.signed(6)
    bits.read(2)  # partitions
    index = bits.read(7)
    absolute, changes = of_segments
    indices = [change if absolute else index + change for change in changes] or [index]
    return _quality_of(sum(indices) / len(indices))


def _frame(stream: IO[bytes]) -> bytes:
    """The beginning of the first lossy frame of a RIFF file."""
    stream.seek(12)
    for _ in range(MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            break
        kind, length = head[:4], struct.unpack("<I", head[4:])[0]
        if kind == b"VP8 ":
            return stream.read(min(length, FRAME_BEGINNING))
        # an animation's frame holds chunks of its own, behind 16 bytes
        stream.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return b""


def _segments(bits: _Bits) -> tuple[bool, list[int]]:
    """Whether segments have quantizers of their own or changes of the frame's, and these."""
    absolute, changes = False, []
    if bits.read(1):
        has_map = bits.read(1)
        if bits.read(1):
            absolute = bool(bits.read(1))
            changes = [bits.signed(7) if bits.read(1) else 0 for _ in range(4)]
            for _ in range(4):  # of the loop filter
                if bits.read(1):
                    bits.signed(6)
        if has_map:
            for _ in range(3):
                if bits.read(1):
                    bits.read(8)
    return absolute, changes


def _quality_of(index: float) -> int:
    """What libwebp makes such an index of: 127 (1 - c), c the cube root of a line with a bend at 3/4 (quant_enc.c)."""
    line = (1 - min(max(index, 0), 127) / 127) ** 3
    return round(100 * (1.5 * line if line < 0.5 else (line + 1) / 2))


class _Bits:
    """The boolean decoder, all of whose probabilities are one half here."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 2
        self.value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self.range, self.shifted = 255, 0

    def read(self, count: int) -> int:
        """A number of so many bits."""
        result = 0
        for _ in range(count):
            split = 1 + ((self.range - 1) >> 1)
            bit = self.value >= split << 8
            self.range, self.value = (self.range - split, self.value - (split << 8)) if bit else (split, self.value)
            while self.range < 128:
                self.range, self.value, self.shifted = self.range * 2, self.value * 2, self.shifted + 1
                if self.shifted == 8:
                    self.value += self.data[self.at] if self.at < len(self.data) else 0
                    self.at, self.shifted = self.at + 1, 0
            result = 2 * result + bit
        return result

    def signed(self, count: int) -> int:
        """A number of so many bits and a sign; where it is optional, the flag before it is the caller's."""
        number = self.read(count)
        return -number if self.read(1) else number
