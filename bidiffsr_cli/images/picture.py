"""A picture in memory: its pixels as Pillow's images, and all that must survive until it is written again.

`reading.read_picture` makes one, `rendering.render` and `writing.encode` use it up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Picture:
    """One decoded picture, upright and in sRGB.

    Attributes:
        planes: Grey alone, or red, green and blue in sRGB: images of one size, all of mode "L" (levels of 255) or all
            of mode "F" (float32 in [0, 1]).
        alpha: Mode "L" (levels of 255) or "F" (in [0, 1]); None where all is opaque.
        bits: 8 or 16: what the source held per channel and what can be written back.
        icc_profile: The profile to embed again; None means untagged, which is treated as sRGB.
        exif: The descriptive EXIF tags, orientation 1; None if there were none.
        dpi: Dots per inch, horizontal and vertical, if the source said so.
        format: Pillow's name of the source's format, such as "JPEG"; "" for arrays.
        quality: At which a JPEG or lossy WebP seems to have been compressed, 1 to 100; None for others.
        warnings: One plain sentence for each thing that could not be kept.
        converted: Whether `planes` were converted from `icc_profile` to sRGB, so that `render` must convert back.
        colour_rest: Three images of mode "F", in the 8-bit levels of `icc_profile`: what the way to sRGB and back
            loses, which is mostly colour outside sRGB; None where it loses nothing visible. `render` adds it again.

    Raises:
        ValueError: planes or alpha have other modes, or different sizes.
    """

    planes: tuple[Image.Image, ...]
    alpha: Image.Image | None = None
    bits: int = 8
    icc_profile: bytes | None = None
    exif: Image.Exif | None = None
    dpi: tuple[float, float] | None = None
    format: str = ""
    quality: int | None = None
    warnings: list[str] = field(default_factory=list)
    converted: bool = False
    colour_rest: tuple[Image.Image, ...] | None = None

    def __post_init__(self) -> None:
        planes = [*self.planes, *([] if self.alpha is None else [self.alpha])]
        if len(self.planes) not in (1, 3) or {plane.mode for plane in self.planes} not in ({"L"}, {"F"}):
            raise ValueError("a picture has one or three planes, all of mode L or all of mode F")
        if len({plane.size for plane in planes}) != 1 or planes[-1].mode not in ("L", "F"):
            raise ValueError("planes and alpha are of one size, and alpha is of mode L or F")

    @property
    def grey(self) -> bool:
        """Whether it is written back with one colour channel."""
        return len(self.planes) == 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.planes[0].size

    @property
    def rgb(self) -> Tensor:
        """The planes for torch: float32, 3×H×W in [0, 1], made anew; a grey picture has three equal channels."""
        import torch

        from .pixels import to_float

        planes = [to_float(plane) for plane in self.planes]
        return torch.cat(planes * (3 // len(planes)))
