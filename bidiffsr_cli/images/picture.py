"""A picture in memory: its pixels as tensors, and all that must survive until it is written again.

`reading.read_picture` makes one, `rendering.render` and `writing.encode` use it up.
"""

from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor


@dataclass
class Picture:
    """One decoded picture, upright and in sRGB.

    Attributes:
        rgb: float32, 3×H×W, sRGB, [0, 1]; a grey picture has three equal channels.
        alpha: float32, 1×H×W, [0, 1], or None.
        grey: Whether it is written back with one colour channel.
        bits: 8 or 16: what the source held per channel and what can be written back.
        icc_profile: The profile to embed again; None means untagged, which is treated as sRGB.
        exif: The descriptive EXIF tags, orientation 1; None if there were none.
        dpi: Dots per inch, horizontal and vertical, if the source said so.
        format: Pillow's name of the source's format, such as "JPEG"; "" for arrays.
        quality: At which a JPEG or lossy WebP seems to have been compressed, 1 to 100; None for others.
        warnings: One plain sentence for each thing that could not be kept.
        converted: Whether `rgb` was converted from `icc_profile` to sRGB, so that `render` must convert back.
        colour_rest: int16, 3×H×W, in the 8-bit levels of `icc_profile`: what the way to sRGB and back loses, which is
            mostly colour outside sRGB; None where it loses nothing visible. `render` adds it again.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    grey: bool = False
    bits: int = 8
    icc_profile: bytes | None = None
    exif: Image.Exif | None = None
    dpi: tuple[float, float] | None = None
    format: str = ""
    quality: int | None = None
    warnings: list[str] = field(default_factory=list)
    converted: bool = False
    colour_rest: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.shape[2], self.rgb.shape[1]
