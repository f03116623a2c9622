"""Colour profiles: from whatever a file holds to sRGB, and back.

LittleCMS does the arithmetic. The intent is always relative colorimetric with black point compensation: it leaves the
colours that both spaces share where they are, so that the way back is its inverse. Perceptual tables squeeze the whole
gamut, differently in each direction, and would shift colours on a round trip.
"""

import io
from functools import lru_cache

from PIL import Image, ImageChops, ImageCms

from .picture import Picture
from .planes import computed, extrema

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
TAKEN = "it was dropped and the colours were taken as sRGB."
TOLERANCE = 2  # 8-bit levels; what one conversion there and back rounds away anyway


@lru_cache(maxsize=8)
def colour_space(icc_profile: bytes) -> str:
    """The colours a profile speaks of: "RGB", "GRAY", "CMYK", "Lab", …; "" when it cannot be understood."""
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)).profile.xcolor_space.strip()
    except Exception:  # LittleCMS through Pillow: OSError, but nothing is promised
        return ""


@lru_cache(maxsize=16)
def _transform(source: bytes | str, target: bytes | str, modes: tuple[str, str]) -> ImageCms.ImageCmsTransform:
    """A transform between two profiles, each given as its bytes or by the name of a built-in ("sRGB", "LAB")."""
    profiles = [
        ImageCms.ImageCmsProfile(ImageCms.createProfile(p) if isinstance(p, str) else io.BytesIO(p))  # type: ignore[arg-type]
        for p in (source, target)
    ]
    return ImageCms.buildTransform(profiles[0], profiles[1], modes[0], modes[1], INTENT, FLAGS)


def converted(image: Image.Image, source: bytes | str, target: bytes | str = "sRGB") -> Image.Image:
    """An L, RGB, CMYK or LAB image under one profile as RGB under another. Raises ImageCms.PyCMSError."""
    result = _transform(source, target, (image.mode, "RGB")).apply(image)
    result.info.clear()  # the transform tags its result, and tags travel with later saves
    return result


@lru_cache(maxsize=8)
def is_srgb(icc_profile: bytes) -> bool:
    """Whether an RGB profile means the same colours as sRGB, whatever its name is: judged on a grid of colours."""
    steps = [round(i * 255 / 16) for i in range(17)]
    grid = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    image = Image.frombytes("RGB", (17 * 17, 17), grid)
    return _largest_difference(image, converted(image, icc_profile)) <= TOLERANCE


def managed(image: Image.Image, icc_profile: bytes | None) -> Picture:
    """An RGB image in sRGB; its profile is kept where the result can be converted back to it."""
    if not icc_profile:
        return Picture(image.split())
    space = colour_space(icc_profile)
    if space != "RGB":
        what = f"is for {space} colours" if space else "is damaged"
        return Picture(image.split(), warnings=[f"The colour profile {what}: {TAKEN}"])
    try:
        if is_srgb(icc_profile):
            return Picture(image.split(), icc_profile=icc_profile)
        ours = converted(image, icc_profile)
    except ImageCms.PyCMSError:
        return Picture(image.split(), warnings=[f"The colour profile is damaged: {TAKEN}"])
    try:
        rest = _colour_rest(image, converted(ours, "sRGB", icc_profile))
    except ImageCms.PyCMSError:  # scanner profiles have tables for one direction only
        warning = "The colour profile works in one direction only: the result is sRGB instead."
        return Picture(ours.split(), warnings=[warning])
    return Picture(ours.split(), icc_profile=icc_profile, converted=True, colour_rest=rest)


def _colour_rest(image: Image.Image, returned: Image.Image) -> tuple[Image.Image, ...] | None:
    """What went missing on the way to sRGB and back, three F images in levels; None if no one could see it."""
    if _largest_difference(image, returned) <= TOLERANCE:
        return None
    pairs = zip(image.split(), returned.split(), strict=True)
    return tuple(computed(lambda before, after: before - after, *pair).convert("F") for pair in pairs)


def _largest_difference(a: Image.Image, b: Image.Image) -> float:
    """The largest difference between the levels of two RGB images."""
    return max(extrema(channel)[1] for channel in ImageChops.difference(a, b).split())


def grey_to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """An L image under a grey or RGB profile, as L under sRGB; unchanged, with a warning, if the profile is damaged."""
    try:
        if colour_space(profile) != "RGB":
            return converted(image, profile).getchannel("G"), ""
        if is_srgb(profile):
            return image, ""
        # neutral colours stay neutral: any one channel holds the result
        return converted(image.convert("RGB"), profile).getchannel("G"), ""
    except ImageCms.PyCMSError:
        return image, f"The colour profile is damaged: {TAKEN}"
