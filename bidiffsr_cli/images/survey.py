"""What a file says of its picture that Pillow does not pass on; `png`, `avif` and `bmp` find it."""

from dataclasses import dataclass, field
from typing import IO

from .spaces import Coding

LONGEST_PROFILE = 64 << 20
"""Bytes."""


@dataclass
class Survey:
    """What was found in a file, before any pixel is decoded.

    Attributes:
        stream: the file as Pillow is to see it, at its beginning.
        depth: bits per channel, where Pillow keeps fewer.
        coding: what its numbers mean, where that is said otherwise than by a profile.
        states_colours: whether that is said at all, be it that they are sRGB's.
        icc_profile: a profile that Pillow does not find, or refuses.
        crop: (left, top, right, bottom) of what is to be seen of the stored pixels, before it is turned upright.
        warnings: one sentence for each thing that had to be left out.
    """

    stream: IO[bytes]
    depth: int = 8
    coding: Coding | None = None
    states_colours: bool = False
    icc_profile: bytes | None = None
    crop: tuple[int, int, int, int] | None = None
    warnings: list[str] = field(default_factory=list)
