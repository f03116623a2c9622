"""What pictures go through before somebody enlarges them: shrinking, blur, noise, a camera's work, compression.

Each does one thing to a batch of pictures, B×3×h×w in [0, 1], by an amount of each picture's own; values may leave
[0, 1]. `training/degradations.py` draws the amounts, `eval --degrade` takes them from its user.
"""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass
from zlib import crc32

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import UsageError
from .filters import gaussian
from .kernels import KERNELS
from .pixels import to_float, to_image

RANGES = {"blur": (0, 10), "noise": (0, 100), "chroma": (0, 10), "sharpen": (0, 3), "jpeg": (1, 100), "webp": (1, 100)}
"""Of the fields of `Degradation`."""
SUBSAMPLING = {"444": 0, "422": 1, "420": 2}


@dataclass(frozen=True)
class Degradation:
    """What a small picture goes through, in the order of these fields: that of a camera and of the web.

    Attributes:
        kernel: that it is made by: bicubic (MATLAB's), or one of `KERNELS`.
        blur: standard deviation of a Gaussian, pixels of the small picture.
        noise: standard deviation of Gaussian noise, levels of 255.
        chroma: standard deviation of a Gaussian for the colours alone, pixels.
        sharpen: strength of an unsharp mask of one pixel.
        jpeg, webp: quality of compression, 1 to 100; None for none. JPEG has colours of half the resolution.

    Raises:
        UsageError: there is no such kernel, or a value is not in its range of `RANGES`.
    """

    kernel: str = "bicubic"
    blur: float = 0.0
    noise: float = 0.0
    chroma: float = 0.0
    sharpen: float = 0.0
    jpeg: int | None = None
    webp: int | None = None

    def __post_init__(self) -> None:
        if self.kernel not in ("bicubic", *KERNELS):
            raise UsageError(
                f"The kernel {self.kernel!r} is unknown.", f"Choose one of: bicubic, {', '.join(KERNELS)}."
            )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name}={value:g} is not possible.", f"Give {least} to {most}.")

    def __str__(self) -> str:
        """As a user writes it; empty for none."""
        fields = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return ",".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, (value, default) in fields.items()
            if value != default
        )

    def apply(self, small: Tensor, hr: Tensor, name: str) -> Tensor:
        """What becomes of a picture.

        Args:
            small: made by bicubic, 3×h×w uint8.
            hr: the original, 3×H×W uint8.
            name: of the picture, of which the noise depends.

        Returns:
            3×h×w uint8.
        """
        x = small[None] / 255
        if self.kernel != "bicubic":
            x = shrunk(hr[None] / 255, hr.shape[-1] // small.shape[-1], self.kernel)
        if self.blur:
            x = blurred(x, torch.tensor([self.blur]))
        if self.noise:
            generator = torch.Generator().manual_seed(crc32(name.encode()))
            x = x + self.noise / 255 * torch.randn(x.shape, generator=generator)
        if self.chroma:
            x = chroma_blurred(x, torch.tensor([self.chroma]))
        if self.sharpen:
            x = sharpened(x, torch.tensor([self.sharpen]))
        for format, quality in (("JPEG", self.jpeg), ("WEBP", self.webp)):
            if quality is not None:
                x = compressed(x[0], quality, format=format)[None]
        return x[0].clamp(0, 1).mul(255).round().to(torch.uint8)


UNCHANGED = Degradation()
"""Nothing happens."""


def shrunk(pictures: Tensor, scale: int, kernel: str) -> Tensor:
    """Shrink by a whole factor with one of `KERNELS`, widened by the factor so that it averages; edges are repeated.

    Args:
        pictures: B×3×H×W; H and W are multiples of `scale`.
    """
    reach = math.ceil(KERNELS[kernel] * scale)
    at = (torch.arange(-reach, reach, dtype=torch.float64) + 0.5) / scale
    if scale % 2:  # the middle of a small pixel is that of a large one
        at = torch.arange(-reach, reach + 1, dtype=torch.float64) / scale
    if kernel == "lanczos":
        weights = torch.sinc(at) * torch.sinc(at / 3) * (at.abs() < 3)
    elif kernel == "bilinear":
        weights = (1 - at.abs()).clamp(min=0)
    else:
        weights = (at.abs() < 0.5).double()
    weights = (weights / weights.sum()).to(pictures)
    before = (len(weights) - scale) // 2
    x = F.pad(pictures, (before,) * 4, mode="replicate").flatten(0, 1)[:, None]
    x = F.conv2d(x, weights.view(1, 1, -1, 1), stride=(scale, 1))
    x = F.conv2d(x, weights.view(1, 1, 1, -1), stride=(1, scale))
    return x.view(*pictures.shape[:2], *x.shape[-2:])


def blurred(pictures: Tensor, deviations: Tensor) -> Tensor:
    """Each picture by a Gaussian of its own standard deviation, pixels; edges are repeated."""
    count, channels = pictures.shape[:2]
    radius = max(1, math.ceil(3 * float(deviations.max())))
    kernels = (
        gaussian(deviations.cpu().clamp_min(1e-3), radius).repeat_interleave(channels, 0).to(pictures)
    )  # (BC, taps)
    x = F.pad(pictures, (radius,) * 4, mode="replicate").flatten(0, 1)[None]  # (1, BC, h', w')
    x = F.conv2d(x, kernels[:, None, :, None], groups=count * channels)
    return F.conv2d(x, kernels[:, None, None, :], groups=count * channels).view_as(pictures)


def sharpened(pictures: Tensor, amounts: Tensor) -> Tensor:
    """Each by an unsharp mask: so many times what a Gaussian of one pixel takes away is added."""
    lost = pictures - blurred(pictures, torch.ones(len(pictures)))
    return pictures + _for_each(amounts, pictures) * lost


def chroma_blurred(pictures: Tensor, deviations: Tensor) -> Tensor:
    """Each one's colour, not its light, by a Gaussian: what a camera's removal of colour noise leaves."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1).to(pictures)
    light = (weights * pictures).sum(1, keepdim=True)
    return light + blurred(pictures - light, deviations)


def noise_of(pictures: Tensor, drawn: Tensor, *, by_light: Tensor, grey: Tensor, coarse: Tensor) -> Tensor:
    """Noise of standard deviation 1, B×3×h×w, from numbers of a normal distribution.

    Args:
        pictures: that it is for.
        drawn: the numbers, B×3×h×w.
        by_light: for which pictures it grows with the light, as photons' does: 1 at middle grey, B booleans.
        grey: for which it is the same in all channels.
        coarse: for which it has grains of about two pixels, as after a camera's interpolation of colours.
    """
    noise = torch.where(_for_each(grey, pictures), drawn[:, :1].expand_as(drawn), drawn)
    grains = F.interpolate(F.avg_pool2d(noise, 2, ceil_mode=True), drawn.shape[-2:], mode="bilinear")
    grains = grains / grains.std((1, 2, 3), keepdim=True).clamp_min(1e-6)
    noise = torch.where(_for_each(coarse, pictures), grains, noise)
    light = pictures.clamp(0, 1).mean(1, keepdim=True)
    return torch.where(_for_each(by_light, pictures), noise * (2 * light).sqrt(), noise)


def compressed(
    picture: Tensor, quality: int, *, format: str = "JPEG", subsampling: str = "420", shift: tuple[int, int] = (0, 0)
) -> Tensor:
    """One picture, 3×h×w in [0, 1], written and read again.

    Args:
        quality: 1 to 100, as Pillow counts it.
        format: JPEG or WEBP.
        subsampling: of JPEG's colours: 444, 422 or 420.
        shift: the picture begins so many pixels (down, right) inside a block, as one that was cut out of another.
    """
    top, left = shift
    levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    if top or left:
        rows = torch.arange(-top, levels.shape[1]).clamp_(min=0)
        columns = torch.arange(-left, levels.shape[2]).clamp_(min=0)
        levels = levels[:, rows][:, :, columns]
    stream = io.BytesIO()
    options = {"subsampling": SUBSAMPLING[subsampling]} if format == "JPEG" else {"method": 2}
    to_image(levels, "RGB").save(stream, format, quality=quality, **options)
    with Image.open(stream) as image:
        return to_float(image.convert("RGB"))[:, top:, left:]


def _for_each(values: Tensor, pictures: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1).to(pictures.device)
