"""What a BMP of version 4 or 5 says of its colours, which Pillow does not look at.

Source: Microsoft's BITMAPV5HEADER.
"""

from __future__ import annotations

import struct
from typing import IO

from .spaces import Coding, from_xyz
from .survey import LONGEST_PROFILE, Survey

LCS_CALIBRATED_RGB, PROFILE_EMBEDDED, LCS_SRGB = 0, int.from_bytes(b"MBED", "big"), int.from_bytes(b"sRGB", "big")
SPACE, ENDS, GAMMAS, PROFILE = 56, 60, 96, 112  # offsets in the header


def survey(stream: IO[bytes]) -> Survey:
    """Look at the header; whatever is odd is left to Pillow to complain of."""
    result = Survey(stream)
    header = stream.read(14 + 124)[14:]
    size = struct.unpack_from("<I", header)[0] if len(header) >= 4 else 0
    if size >= 108 and len(header) >= 108:
        space = struct.unpack_from("<I", header, SPACE)[0]
        result.states_colours = space == LCS_SRGB
        if space == LCS_CALIBRATED_RGB:
            result.coding = _calibrated(header)
        elif space == PROFILE_EMBEDDED and size >= 124 and len(header) >= 124:
            offset, length = struct.unpack_from("<II", header, PROFILE)
            stream.seek(14 + offset)
            if 128 <= length <= LONGEST_PROFILE:
                result.icc_profile = stream.read(length) or None
    stream.seek(0)
    return result


def _calibrated(header: bytes) -> Coding | None:
    """End points as XYZ in 2.30 and exponents in 16.16; all zero, as most programs write them, says nothing."""
    ends = [value / (1 << 30) for value in struct.unpack_from("<9i", header, ENDS)]
    gammas = [value / 65536 for value in struct.unpack_from("<3I", header, GAMMAS)]
    if not all(gammas) or not any(ends):
        return None
    return from_xyz(ends, sum(gammas) / 3)
