"""Colour spaces that files state by numbers instead of by an ICC profile, and the profiles that say the same.

A result has to carry what its numbers mean. So whatever states it (CICP's code points in AVIF and PNG, PNG's gAMA and
cHRM, EXIF's Adobe RGB, a BMP's end points, TIFF's primaries) becomes one `Coding`, and that becomes a matrix profile,
which is then treated like any other profile.

Sources: ITU-T H.273 (code points), the PNG specification, third edition (gAMA, cHRM, cICP and their order), Exif 3.0
(InteroperabilityIndex R03), ICC.1:2001-04 (the profile's format).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Chromaticity = tuple[float, float]
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
"""Three rows, or three columns where these are asked for."""
Curve = float | Callable[[float], float]

D65: Chromaticity = (0.3127, 0.3290)
D50: Vector = (0.9642, 1.0, 0.8249)  # XYZ of the profile connection space
C: Chromaticity = (0.310, 0.316)
DCI: Chromaticity = (0.314, 0.351)
BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


@dataclass(frozen=True)
class Primaries:
    """The xy chromaticities of white, red, green and blue."""

    white: Chromaticity
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity

    def is_near(self, other: Primaries) -> bool:
        """Whether both are the same but for rounding."""
        mine, yours = ((p.white, p.red, p.green, p.blue) for p in (self, other))
        return all(math.dist(a, b) < 0.002 for a, b in zip(mine, yours, strict=True))


SRGB = Primaries(D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
ADOBE = Primaries(D65, (0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
PRIMARIES = {
    1: SRGB,
    4: Primaries(C, (0.670, 0.330), (0.210, 0.710), (0.140, 0.080)),
    5: Primaries(D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: Primaries(D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries(D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Primaries(C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries(DCI, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""By H.273's code point, table 2."""
UNSPECIFIED = (0, 2, 3)
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


def _srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _smpte240(value: float) -> float:
    return value / 4.0 if value < 0.0913 else ((value + 0.1115) / 1.1115) ** (1 / 0.45)


CURVES: dict[int, Curve] = {4: 2.2, 5: 2.8, 7: _smpte240, 8: 1.0, 13: _srgb, 17: 2.6}
"""From the number in [0, 1] to linear light, by H.273's code point, table 3; a number is an exponent."""
VIDEO = (1, 6, 14, 15)
"""BT.709's curve and its kin: of a camera, whose pictures are looked at by another curve, which is close to sRGB's."""


@dataclass(frozen=True)
class Coding:
    """What the numbers of a picture mean.

    Attributes:
        primaries: of the three colours.
        curve: from a number in [0, 1] to linear light, as an exponent or a function.
        remark: a sentence for the user, if this is not what the file says.
    """

    primaries: Primaries = SRGB
    curve: Curve = _srgb
    remark: str = ""

    def profile(self, *, grey: bool) -> bytes | None:
        """An ICC profile for grey or colour that says the same; None if sRGB does."""
        same_curve = self.curve is _srgb
        if same_curve and (grey or self.primaries.is_near(SRGB)):
            return None
        return _profile(self.primaries, self.curve, grey)


def from_cicp(primaries: int, transfer: int) -> Coding | None:
    """The coding of H.273's code points, of which 2 stands for "not stated"; None if it is sRGB or not stated."""
    if transfer in HIGH_DYNAMIC_RANGE:
        name = HIGH_DYNAMIC_RANGE[transfer]
        return Coding(remark=f"The picture has a high dynamic range ({name}): its colours were taken as sRGB.")
    if primaries not in (*PRIMARIES, *UNSPECIFIED) or transfer not in (*CURVES, *VIDEO, *UNSPECIFIED):
        codes = f"primaries {primaries}, transfer {transfer}"
        return Coding(remark=f"The picture's colours ({codes}) are not known here: they were taken as sRGB.")
    remark = "The file states the curve of video (BT.709), which was taken as sRGB's." if transfer in VIDEO else ""
    return _unless_srgb(Coding(PRIMARIES.get(primaries, SRGB), CURVES.get(transfer, _srgb), remark))


def from_gamma(exponent: float | None, places: Sequence[float] | None) -> Coding | None:
    """The coding of PNG's gAMA and cHRM.

    Args:
        exponent: from linear light to the number, such as 0.45455, which stands for sRGB's curve; None if not stated.
        places: x and y of white, red, green and blue; None if not stated.
    """
    coding = Coding() if places is None else from_primaries(places) or Coding()
    if coding.remark:
        return coding
    curve: Curve = _srgb
    if exponent is not None and abs(exponent * 2.2 - 1) > 0.05:
        if not 0.1 <= exponent <= 10:
            return Coding(remark=f"The picture's gamma of {exponent:g} is impossible: it was taken as sRGB.")
        curve = 1 / exponent
    return _unless_srgb(Coding(coding.primaries, curve))


def from_primaries(places: Sequence[float]) -> Coding | None:
    """The coding of x and y of white, red, green and blue, with sRGB's curve; None if it is sRGB."""
    white, red, green, blue = ((places[i], places[i + 1]) for i in (0, 2, 4, 6))
    primaries = Primaries(white, red, green, blue)
    if not _is_sound(primaries):
        return Coding(remark="The picture's primary colours are impossible: they were taken as sRGB.")
    return _unless_srgb(Coding(primaries))


def from_xyz(ends: Sequence[float], exponent: float) -> Coding | None:
    """The coding of XYZ of red, green and blue at their full strength, white being their sum; None if it is sRGB.

    Args:
        ends: nine numbers.
        exponent: from the number to linear light, such as 2.2, which stands for sRGB's curve.
    """
    red, green, blue = ends[:3], ends[3:6], ends[6:]
    white = [sum(values) for values in zip(red, green, blue, strict=True)]
    places = [value / max(sum(xyz), 1e-9) for xyz in (white, red, green, blue) for value in xyz[:2]]
    return from_gamma(1 / exponent if exponent else 0.0, places)


def adobe_rgb() -> Coding:
    """Adobe RGB (1998)."""
    return Coding(ADOBE, 563 / 256)


def _unless_srgb(coding: Coding) -> Coding | None:
    return coding if coding.remark or coding.profile(grey=False) else None


def _is_sound(primaries: Primaries) -> bool:
    """Whether the primaries span a triangle in which white lies."""
    points = (primaries.white, primaries.red, primaries.green, primaries.blue)
    if any(abs(x) > 2 or not 1e-4 < y < 2 for x, y in points):
        return False
    (red, green, blue) = points[1:]
    area = (green[0] - red[0]) * (blue[1] - red[1]) - (green[1] - red[1]) * (blue[0] - red[0])
    white = _from_xy(primaries.white)
    if area < 1e-3 or not all(_times(BRADFORD, white)):
        return False
    if max(abs(value) for column in _to_xyz(primaries) for value in column) > 10:
        return False
    return min(_solved((_from_xy(red), _from_xy(green), _from_xy(blue)), white)) > 0


@lru_cache(maxsize=32)
def _profile(primaries: Primaries, curve: Curve, grey: bool) -> bytes:
    """A version 2 profile of three columns and a curve, or of grey's curve alone."""
    tags = [
        (b"desc", _description("Colours as the file stated them")),
        (b"cprt", _text("No copyright, use freely")),
        (b"wtpt", _xyz(D50)),
    ]
    if grey:
        tags.append((b"kTRC", _curve(curve)))
    else:
        columns = _to_xyz(primaries)
        tags += [(name + b"XYZ", _xyz(column)) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)]
        tags += [(name + b"TRC", _curve(curve)) for name in (b"r", b"g", b"b")]
    table, body = b"", b""
    placed: dict[bytes, int] = {}
    for name, data in tags:
        if data not in placed:  # the three curves are one
            placed[data] = 128 + 4 + 12 * len(tags) + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += struct.pack(">4sII", name, placed[data], len(data))
    size = 128 + 4 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s4sI4s4sQI", 2024, 1, 1, 0, 0, 0, b"acsp", b"\0" * 4, 0, b"\0" * 4, b"\0" * 4, 0, 1)
    header += b"".join(_fixed(value) for value in D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _to_xyz(primaries: Primaries) -> list[Vector]:
    """XYZ of red, green and blue at their full strength, adapted to D50 by Bradford's matrix."""
    red, green, blue, white = map(_from_xy, (primaries.red, primaries.green, primaries.blue, primaries.white))
    strengths = _solved((red, green, blue), white)
    gains = [ours / theirs for ours, theirs in zip(_times(BRADFORD, D50), _times(BRADFORD, white), strict=True)]
    of_x, of_y, of_z = zip(*BRADFORD, strict=True)
    columns = []
    for strength, (x, y, z) in zip(strengths, (red, green, blue), strict=True):
        seen = _times(BRADFORD, (strength * x, strength * y, strength * z))
        long, middle, short = (gain * value for gain, value in zip(gains, seen, strict=True))
        columns.append(_solved((of_x, of_y, of_z), (long, middle, short)))
    return columns


def _from_xy(point: Chromaticity) -> Vector:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _times(rows: Matrix, vector: Vector) -> Vector:
    """A matrix, given by its rows, times a vector."""
    first, second, third = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in rows)
    return first, second, third


def _solved(columns: Matrix, vector: Vector) -> Vector:
    """How much of each column makes the vector, by Cramer's rule; they must not lie in one plane."""
    a, b, c = columns
    whole = _determinant(a, b, c)
    return _determinant(vector, b, c) / whole, _determinant(a, vector, c) / whole, _determinant(a, b, vector) / whole


def _determinant(a: Vector, b: Vector, c: Vector) -> float:
    return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])


def _description(text: str) -> bytes:
    """ICC's textDescriptionType, in ASCII alone."""
    data = text.encode("ascii") + b"\0"
    return struct.pack(">4sII", b"desc", 0, len(data)) + data + b"\0" * 78


def _text(text: str) -> bytes:
    return struct.pack(">4sI", b"text", 0) + text.encode("ascii") + b"\0"


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4sI", b"XYZ ", 0) + b"".join(_fixed(value) for value in values)


def _fixed(value: float) -> bytes:
    """ICC's s15Fixed16Number."""
    return struct.pack(">i", round(value * 65536))


def _curve(curve: Curve) -> bytes:
    """ICC's curveType: a table, or an exponent in 1/256."""
    if callable(curve):
        levels = [round(65535 * curve(i / 1023)) for i in range(1024)]
    else:
        levels = [round(256 * curve)]
    return struct.pack(f">4sII{len(levels)}H", b"curv", 0, len(levels), *levels)
