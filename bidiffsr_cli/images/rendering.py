"""From enlarged tensors back to an image of the source's kind: grey or colour, 8 or 16 bits, alpha, profile.

Also what alpha needs before enlarging (`bleed_edges`), while enlarging (`resize_alpha`), and the last change of size
(`resample`).
"""

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from . import colour
from .picture import Picture
from .pixels import bands, to_image, to_levels

LANCZOS = Image.Resampling.LANCZOS
BICUBIC = Image.Resampling.BICUBIC


def render(rgb: Tensor, picture: Picture, *, alpha: Tensor | None = None) -> Image.Image:
    """An L, I;16, LA, RGB or RGBA image, rounded to levels and in the colours of `picture.icc_profile`.

    Works in bands of rows: beside the image itself only a few megabytes are needed, whatever its size.

    Args:
        rgb: 3×H×W, sRGB; what lies outside [0, 1] is clamped.
        picture: The source, for its kind; H×W may be any multiple of its size.
        alpha: 1×H×W in [0, 1], or None.

    Raises:
        ValueError: The shapes do not fit each other.
    """
    if rgb.ndim != 3 or rgb.shape[0] != 3 or (alpha is not None and alpha.shape != (1, *rgb.shape[1:])):
        raise ValueError(
            f"rgb must be 3×H×W and alpha 1×H×W, not {[None if t is None else t.shape for t in (rgb, alpha)]}"
        )
    _, height, width = rgb.shape
    sixteen = picture.grey and picture.bits == 16 and alpha is None
    mode = "I;16" if sixteen else ("L" if picture.grey else "RGB") + ("" if alpha is None else "A")
    rest = _rest_planes(picture)
    image = Image.new(mode, (width, height))
    for top, bottom in bands(width, height):
        band = _colour_band(rgb[:, top:bottom], picture, 65535 if sixteen else 255)
        if rest:
            band = _with_rest(band, rest, (width, height), top)
        if alpha is not None:
            band = torch.cat((band, _quantize(alpha[:, top:bottom], 255)))
        image.paste(to_image(band, mode), (0, top))
    return image


def as_seen(picture: Picture) -> Tensor:
    """3×H×W uint8, sRGB, on white where it is transparent: what there is to be compared."""
    rgb = picture.rgb if picture.alpha is None else picture.rgb * picture.alpha + (1 - picture.alpha)
    return rgb.mul(255).round().to(torch.uint8)


def _colour_band(band: Tensor, picture: Picture, levels: int) -> Tensor:
    """The colour channels of one band in their final levels: 1×h×W for grey, else 3×h×W."""
    if picture.grey:  # three estimates of one value: their mean is the best of them
        return _quantize(band.to("cpu", torch.float32).mean(0, keepdim=True), levels)
    band = _quantize(band, levels)
    if picture.converted and picture.icc_profile:
        band = to_levels(colour.from_srgb(to_image(band, "RGB"), picture.icc_profile))
    return band


def _quantize(values: Tensor, levels: int) -> Tensor:
    """[0, 1] to whole levels, rounded; uint8 or uint16."""
    scaled = values.detach().to("cpu", torch.float32, copy=True).clamp_(0, 1).mul_(levels).round_()
    return scaled.to(torch.uint8 if levels == 255 else torch.uint16)


def _rest_planes(picture: Picture) -> list[Image.Image]:
    """The channels of `picture.colour_rest` as F images, ready to be enlarged."""
    if picture.colour_rest is None:
        return []
    return [to_image(plane[None].to(torch.float32), "F") for plane in picture.colour_rest]


def _with_rest(band: Tensor, rest: list[Image.Image], size: tuple[int, int], top: int) -> Tensor:
    """Add to a band, in levels, the enlarged colours that sRGB could not hold."""
    width, rows = size[0], band.shape[1]
    step = rest[0].height / size[1]
    box = (0, top * step, rest[0].width, min((top + rows) * step, rest[0].height))
    enlarged = torch.cat([to_levels(plane.resize((width, rows), BICUBIC, box)) for plane in rest])
    return enlarged.add_(band).round_().clamp_(0, 255).to(torch.uint8)


def resize_alpha(alpha: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize 1×H×W alpha to `size` (width, height) by Lanczos, in float precision.

    Lanczos rings: beside an edge it draws faint echoes, which would show as specks around a cut-out. Each value is
    therefore kept within the range of the 3×3 source pixels around it, so that empty stays empty and full stays full.
    """
    alpha = alpha.detach().to("cpu", torch.float32).clamp(0, 1)
    enlarged = to_levels(to_image(alpha, "F").resize(size, LANCZOS)).contiguous()
    if size[0] < alpha.shape[2] or size[1] < alpha.shape[1]:  # many source pixels to one: no ringing worth a bound
        return enlarged.clamp_(0, 1)
    for sign, bound in ((1, torch.minimum), (-1, torch.maximum)):
        extreme = sign * F.max_pool2d(sign * alpha[None], 3, stride=1, padding=1)
        bound(enlarged, F.interpolate(extreme, size[::-1], mode="nearest")[0], out=enlarged)
    return enlarged


def bleed_edges(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Give fully transparent pixels the colours of the visible ones nearby, so that enlarging draws no halo.

    Rings of pixels around what is visible are averaged from their neighbours; the rest comes from ever coarser
    copies of the picture. Pixels with alpha > 0 keep their values exactly. The cost is linear in the pixels.

    Args:
        rgb: 3×H×W.
        alpha: 1×H×W in [0, 1].
    """
    visible = (alpha > 0).to(rgb.dtype)
    if bool(visible.all()) or not bool(visible.any()):
        return rgb
    return _fill(rgb[None], visible[None], rings=2)[0]


def _fill(rgb: Tensor, known: Tensor, rings: int = 1) -> Tensor:
    """Fill 1×3×H×W where `known` (1×1×H×W, 0 or 1) is 0; at least one pixel is known."""
    for _ in range(rings):
        rgb, known = _grow(rgb, known)
    if bool(known.all()):
        return rgb
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    mean = F.avg_pool2d(rgb * known, 2, ceil_mode=True) / weight.clamp_min(1e-6)
    coarse = _fill(mean, (weight > 0).to(rgb.dtype))
    smooth = F.interpolate(coarse, size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known > 0, rgb, smooth)


def _grow(rgb: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Give unknown pixels beside known ones the mean of those."""
    weight = F.avg_pool2d(known, 3, stride=1, padding=1)
    mean = F.avg_pool2d(rgb * known, 3, stride=1, padding=1) / weight.clamp_min(1e-6)
    return torch.where((known == 0) & (weight > 0), mean, rgb), (weight > 0).to(known.dtype)


def resample(
    image: Image.Image, width: int | None = None, height: int | None = None, long_side: int | None = None
) -> Image.Image:
    """Change the size by Lanczos, with colours weighted by alpha, to `resampled_size`."""
    size = resampled_size(image.size, width, height, long_side)
    # Pillow multiplies LA and RGBA by alpha first and divides afterwards
    return image if image.size == size else image.resize(size, LANCZOS)


def resampled_size(
    size: tuple[int, int], width: int | None = None, height: int | None = None, long_side: int | None = None
) -> tuple[int, int]:
    """The (width, height) that is asked for; one side given keeps the shape, two set both.

    Raises:
        UsageError: A size below 1, or `long_side` beside another one.
    """
    for name, value in (("Width", width), ("Height", height), ("Long side", long_side)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value} is not possible.", "Choose 1 or more.")
    if long_side is not None:
        if width is not None or height is not None:
            raise UsageError("The long side cannot be combined with a width or height.", "Give one or the other.")
        width, height = (long_side, None) if size[0] >= size[1] else (None, long_side)
    if width is None and height is None:
        return size
    return (  # a thin picture keeps at least one pixel
        width or max(1, round(size[0] * (height or 1) / size[1])),
        height or max(1, round(size[1] * (width or 1) / size[0])),
    )
