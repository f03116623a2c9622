"""From enlarged pixels back to an image of the source's kind: grey or colour, 8 or 16 bits, alpha, profile.

Also what alpha needs before enlarging (`bleed_edges`), while enlarging (`resize_alpha`), and the last change of size
(`resample`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter
from PIL.ImageMath import imagemath_max, imagemath_min

from ..errors import UsageError
from . import colour as profiles
from .picture import Picture
from .planes import bands, computed, extrema

if TYPE_CHECKING:
    from torch import Tensor

Planes = tuple[Image.Image, ...]
NEAREST = Image.Resampling.NEAREST
LANCZOS = Image.Resampling.LANCZOS
BICUBIC = Image.Resampling.BICUBIC
BILINEAR = Image.Resampling.BILINEAR
LONGEST_REACH = 3  # of Lanczos, in pixels of the source or, if they are larger, of the result


def render(colour: Image.Image, picture: Picture, *, alpha: Image.Image | None = None) -> Image.Image:
    """An L, I;16, LA, RGB or RGBA image in the colours of `picture.icc_profile`; `colour` itself if it is that already.

    Works in bands of rows: beside the image itself only a few megabytes are needed, whatever its size.

    Args:
        colour: The enlarged picture in levels of sRGB, of any size: L or I;16 if it is grey, else RGB.
        picture: The source, for its kind.
        alpha: L, of the size of `colour`, which then cannot be I;16; or None.

    Raises:
        ValueError: The modes or sizes do not fit each other.
    """
    modes = ("RGB",) if not picture.grey else ("L", "I;16") if alpha is None else ("L",)
    if colour.mode not in modes or (alpha is not None and (alpha.mode, alpha.size) != ("L", colour.size)):
        given = [(image.mode, image.size) for image in (colour, alpha) if image is not None]
        raise ValueError(f"colour must be {' or '.join(modes)} and alpha L of the same size, not {given}")
    converted = picture.converted and picture.icc_profile is not None
    if alpha is None and not converted:
        return colour
    image = Image.new(colour.mode if alpha is None else colour.mode + "A", colour.size)
    for top, bottom in bands(*colour.size):
        box = (0, top, colour.width, bottom)
        band = colour.crop(box)
        if converted:
            band = _in_own_colours(band, picture, colour.size, top)
        if alpha is not None:
            band.putalpha(alpha.crop(box))
        image.paste(band, box)
    return image


def as_seen(picture: Picture) -> Tensor:
    """3×H×W uint8, sRGB, on white where it is transparent: what there is to be compared."""
    import torch

    from .pixels import to_float

    rgb = picture.rgb
    if picture.alpha is not None:
        alpha = to_float(picture.alpha)
        rgb = rgb * alpha + (1 - alpha)
    return rgb.mul(255).round().to(torch.uint8)


def _in_own_colours(band: Image.Image, picture: Picture, size: tuple[int, int], top: int) -> Image.Image:
    """The rows from `top` on of an RGB image of `size` in sRGB, in the colours of `picture.icc_profile`."""
    band = profiles.converted(band, "sRGB", picture.icc_profile or b"")
    if picture.colour_rest is None:
        return band
    channels = []
    for channel, rest in zip(band.split(), picture.colour_rest, strict=True):
        more = _resized_rows(rest, size, top, top + band.height, BICUBIC)
        channels.append(_rounded(computed(lambda x, y: x + y, channel, more)))
    return Image.merge("RGB", channels)


def resize_alpha(alpha: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize alpha, L or F in [0, 1], to `size` (width, height) by Lanczos, in float precision, and round it to L.

    Lanczos rings: beside an edge it draws faint echoes, which would show as specks around a cut-out. Each value is
    therefore kept within the range of the 3×3 source pixels around it, so that empty stays empty and full stays full.
    """
    levels = alpha.convert("F") if alpha.mode == "L" else alpha.point(lambda value: value * 255)
    limits = []
    if size[0] >= alpha.width and size[1] >= alpha.height:  # else many source pixels to one: no ringing worth a bound
        limits = [levels.filter(ImageFilter.MinFilter(3)), levels.filter(ImageFilter.MaxFilter(3))]
    result = Image.new("L", size)
    for top, bottom in bands(*size):
        band = _resized_rows(levels, size, top, bottom, LANCZOS)
        if limits:
            least, most = (_resized_rows(limit, size, top, bottom, NEAREST) for limit in limits)
            band = computed(lambda x, low, high: imagemath_max(imagemath_min(x, high), low), band, least, most)
        result.paste(_rounded(band), (0, top))
    return result


def _resized_rows(
    plane: Image.Image, size: tuple[int, int], top: int, bottom: int, kernel: Image.Resampling
) -> Image.Image:
    """The rows from `top` to `bottom` of a plane resized to `size` (width, height), without the others."""
    step = plane.height / size[1]
    reach = math.ceil(LONGEST_REACH * max(1, step))
    first, last = max(0, int(top * step) - reach), min(plane.height, int(bottom * step) + reach + 1)
    part = plane.crop((0, first, plane.width, last))  # Pillow's box has single precision, which suits small numbers
    box = (0, top * step - first, plane.width, min(bottom * step - first, part.height))
    return part.resize((size[0], bottom - top), kernel, box)


def _rounded(plane: Image.Image) -> Image.Image:
    """An F image in levels of 255 as L, rounded and clamped."""
    return plane.point(lambda value: value + 0.5).convert("L")


def bleed_edges(planes: Sequence[Image.Image], alpha: Image.Image) -> Planes:
    """Give fully transparent pixels the colours of the visible ones nearby, so that enlarging draws no halo.

    Rings of pixels around what is visible are averaged from their neighbours; the rest comes from ever coarser
    copies of the picture. Pixels with alpha > 0 keep their values exactly. The cost is linear in the pixels.

    Args:
        planes: L or F in [0, 1], of one size.
        alpha: L or F, of that size.

    Returns:
        F images in [0, 1]; `planes` themselves if all or nothing is visible.
    """
    visible = _positive(alpha.convert("F"))
    if extrema(visible) != (0, 1):
        return tuple(planes)
    known = (computed(lambda x, seen: x * seen, _in_units(plane), visible) for plane in planes)
    return _filled(tuple(known), visible, rings=2)


def _in_units(plane: Image.Image) -> Image.Image:
    """An L image, or F in [0, 1], as F in [0, 1]."""
    return plane.convert("F").point(lambda value: value / 255) if plane.mode == "L" else plane


def _filled(planes: Planes, known: Image.Image, rings: int = 1) -> Planes:
    """Fill F images, which are 0 where `known`, 0 or 1, is 0; at least one pixel is known."""
    for _ in range(rings):
        counts = _sums(known)
        planes = tuple(_completed(plane, known, _mean(_sums(plane), counts)) for plane in planes)
        known = _positive(counts)
    if extrema(known) == (1, 1):
        return planes
    shares = known.reduce(2)
    coarse = _filled(tuple(_mean(plane.reduce(2), shares) for plane in planes), _positive(shares))
    return tuple(
        _completed(plane, known, rough.resize(plane.size, BILINEAR))
        for plane, rough in zip(planes, coarse, strict=True)
    )


def _completed(plane: Image.Image, known: Image.Image, other: Image.Image) -> Image.Image:
    """A plane that is 0 where it is not known, with the values of another there."""
    return computed(lambda x, where, y: x + (1 - where) * y, plane, known, other)


def _mean(sums: Image.Image, weights: Image.Image) -> Image.Image:
    return computed(lambda x, weight: x / weight, sums, weights)  # Pillow makes 0 of 0 / 0


def _positive(plane: Image.Image) -> Image.Image:
    """1 where an F image is greater than 0, else 0."""
    return computed(lambda x: x > 0, plane)


def _sums(plane: Image.Image) -> Image.Image:
    """The sum of the 3×3 pixels around each one of an F image; beyond its edges lie zeros."""
    width, height = plane.size
    for x, y in ((1, 0), (0, 1)):
        before = plane.crop((-x, -y, width - x, height - y))
        after = plane.crop((x, y, width + x, height + y))
        plane = computed(lambda a, b, c: a + b + c, before, plane, after)
    return plane


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
