"""From an opened Pillow image of any mode to a `Picture`.

Every mode is brought to one of L, LA, RGB, RGBA (8 bits) or 16-bit grey. What is lost on the way becomes a warning.
"""

import contextlib
import io
from dataclasses import dataclass

from PIL import Image

from ..errors import InputError
from . import colour, jpeg, tiff, webp
from .metadata import exif_coding, read_exif, read_resolution
from .picture import Picture
from .planes import computed, extrema
from .survey import Survey

CONVERT = "Convert it to PNG first, of 8-bit colour or 16-bit grey."
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class _Source:
    """What must be asked of an image before its pixels are loaded, because loading forgets it."""

    name: str
    depth: int
    grey_bits: int
    grey_alpha: bool
    white_is_zero: bool


def picture_from_image(image: Image.Image, name: str, survey: Survey | None = None) -> Picture:
    """Decode an opened image. `image` itself is loaded but not changed.

    Args:
        image: Any Pillow image.
        name: What to call it in errors.
        survey: What its file says that Pillow does not.

    Raises:
        InputError: It has no pixels, or values without an agreed meaning.
        Exception: Whatever Pillow raises on damaged data.
    """
    if 0 in image.size:
        raise InputError(f"{name} has no pixels.", "Choose another picture.")
    if kind := tiff.misread(image):
        raise InputError(f"{name} is a {kind}, which cannot be read.", CONVERT)
    rawmode = _png_rawmode(image)
    survey = survey or Survey(io.BytesIO())
    depth = 16 if ";16" in rawmode else max(_tiff_depth(image), survey.depth)
    grey_bits = int(rawmode[2:]) if rawmode in ("L;2", "L;4") else 8
    source = _Source(name, depth, grey_bits, rawmode.startswith("LA"), _is_white_zero(image))
    several = _has_several_frames(image)
    if image.format == "TIFF":
        tiff.silence()
    turned = image.format == "TIFF" and tiff.is_on_its_side(image)  # until Pillow loads it, and turns it
    image.load()
    exif, orientation, warnings = read_exif(image)
    dpi, warning = read_resolution(image)
    warnings += [warning] if warning else []
    quality = jpeg.quality(getattr(image, "quantization", {}))
    warnings += survey.warnings
    quality = webp.quality(survey.stream) if image.format == "WEBP" else quality
    if image.format in ("JPEG", "MPO") and jpeg.is_cut(survey.stream):
        warnings.append("The file ends early: a part of the picture, mostly the lowest, is missing.")
    # PNG's code points count for more than a profile
    icc = None if survey.coding else survey.icc_profile or image.info.get("icc_profile") or None
    stated = icc is not None or survey.states_colours
    coding = survey.coding or tiff.coding(image) or (None if stated else exif_coding(image))
    seen = image.crop(survey.crop) if survey.crop else image
    upright = seen.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else seen
    coding = coding if icc is None else None
    picture = _pixels(upright, source, icc or (coding and coding.profile(grey=_is_grey(upright, source))) or None)
    picture.warnings += [coding.remark] if coding and coding.remark else []
    for plane in (*picture.planes, *([picture.alpha] if picture.alpha else [])):
        plane.info.clear()  # tags travel with copies, and with later saves
    picture.exif, picture.dpi = exif, dpi
    if picture.dpi and (turned or orientation >= 5):
        picture.dpi = picture.dpi[::-1]  # a quarter turn: across becomes down
    picture.quality = quality
    picture.format = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
    picture.warnings += warnings
    if several:
        picture.warnings.insert(0, "The file holds several frames or pages: only the first was read.")
    return picture


def _has_several_frames(image: Image.Image) -> bool:
    """Whether more frames or pages follow, of which none is decoded: they may be many, or of a kind that fails."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # something follows, and it is damaged
        return True


def _tiff_depth(image: Image.Image) -> int:
    """Bits per channel that a TIFF states, where Pillow may keep fewer; 8 for others."""
    return max(getattr(image, "tag_v2", {}).get(258, (8,))) if image.format == "TIFF" else 8


def _png_rawmode(image: Image.Image) -> str:
    """How Pillow unpacks a PNG that is not loaded yet, such as "RGB;16B"; "" if unknown."""
    tiles = getattr(image, "tile", None) or []
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF counts from white; Pillow turns that round for 8 bits but not for 16."""
    return image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0


def _is_grey(image: Image.Image, source: _Source) -> bool:
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I") or source.grey_alpha


def _pixels(image: Image.Image, source: _Source, icc: bytes | None) -> Picture:
    """The pixels, and the profile as it is to be kept."""
    mode = image.mode
    if mode == "F":
        return _grey16(_float_grey(image, source.name), None, icc, ["Floating point grey was read as 16-bit grey."])
    if mode.startswith("I"):
        return _grey16(*_integer_grey(image, source), icc, [])
    if mode == "RGBA" and source.grey_alpha:  # Pillow unpacks 16-bit grey with alpha as colour
        image = image.convert("LA")
    warnings = []
    if source.depth > 8:
        kind = "grey" if image.mode in ("L", "LA") else "colour"
        warnings.append(f"{source.depth}-bit {kind} was cut to 8 bits, the most that can be kept here.")
    if mode in ("CMYK", "LAB"):
        return _from_print(image, icc, warnings)
    plain = _plain(image, source)
    if plain.mode in ("L", "LA"):
        return _grey8(plain, icc, warnings)
    return _colour8(plain, icc, warnings)


def _plain(image: Image.Image, source: _Source) -> Image.Image:
    """An 8-bit image as L, LA, RGB or RGBA."""
    mode, alpha, key = image.mode, image.has_transparency_data, image.info.get("transparency")
    if mode in ("L", "LA", "RGB", "RGBA") and key is None:
        return image
    if mode in ("1", "L", "LA", "La"):
        if isinstance(key, int) and source.grey_bits < 8:  # the key of a PNG counts in its own levels
            image = image.copy()
            image.info["transparency"] = key * 255 // (2**source.grey_bits - 1)
        return image.convert("LA" if alpha else "L")
    if mode == "RGB" and isinstance(key, tuple) and max(key) > 255:  # the key of a 16-bit PNG, whose pixels lost 8 bits
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA" if alpha else "RGB")


def _colour8(image: Image.Image, icc: bytes | None, warnings: list[str]) -> Picture:
    picture = colour.managed(image if image.mode == "RGB" else image.convert("RGB"), icc)
    picture.warnings = warnings + picture.warnings
    picture.alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if picture.colour_rest is not None and picture.alpha is not None:
        unseen = picture.alpha.point(lambda level: 0 if level else 255, "1")
        for plane in picture.colour_rest:  # colours nobody sees must not seep into those beside them
            plane.paste(0, mask=unseen)
    return picture


def _grey8(image: Image.Image, icc: bytes | None, warnings: list[str]) -> Picture:
    """Grey needs no way to sRGB and back: a profile of grey only bends the one scale, and each 8-bit bend rounds."""
    grey = image.getchannel(0)
    alpha = image.getchannel("A") if image.mode == "LA" else None
    if icc and colour.colour_space(icc) == "RGB":  # allowed in JPEG, not in PNG: settle it here
        grey, warning = colour.grey_to_srgb(grey, icc)
        icc, warnings = None, warnings + ([warning] if warning else [])
    return Picture((grey,), alpha, 8, _grey_profile(icc, warnings), warnings=warnings)


def _grey16(plane: Image.Image, alpha: Image.Image | None, icc: bytes | None, warnings: list[str]) -> Picture:
    """A picture of an F image in [0, 1]."""
    if alpha is not None:
        warnings.append("16-bit grey with transparency is written with 8 bits, the most that can be kept here.")
    bits = 16 if alpha is None else 8
    return Picture((plane,), alpha, bits, _grey_profile(icc, warnings), warnings=warnings)


def _grey_profile(icc: bytes | None, warnings: list[str]) -> bytes | None:
    if icc and colour.colour_space(icc) != "GRAY":
        warnings.append("The colour profile is not one for grey: it was dropped.")
        return None
    return icc


def _integer_grey(image: Image.Image, source: _Source) -> tuple[Image.Image, Image.Image | None]:
    """The values of an I or I;16 image as an F image in [0, 1], and its alpha."""
    levels = image.convert("I")
    low, high = extrema(levels)
    if low < 0 or high > 65535:
        raise InputError(
            f"{source.name} holds whole numbers from {low} to {high}: only 8 and 16 bits per pixel can be read.",
            "Convert it to 16-bit grey first.",
        )
    if source.depth == 12 and high <= 4095:  # a TIFF of 12 bits, which Pillow does not stretch
        levels = computed(lambda x: (x * 65535 + 2047) / 4095, levels)
    if source.white_is_zero:
        levels = computed(lambda x: 65535 - x, levels)
    key = image.info.get("transparency")
    alpha = computed(lambda x: (x != key) * 255, levels).convert("L") if isinstance(key, int) else None
    return levels.convert("F").point(lambda value: value / 65535), alpha


def _float_grey(image: Image.Image, name: str) -> Image.Image:
    """An F image, whose values must lie in [0, 1]."""
    low, high = extrema(image)
    if not (low >= 0 and high <= 1):  # also true of NaN
        raise InputError(
            f"{name} holds floating point values from {low:.4g} to {high:.4g}: only 0 to 1 can be read.",
            "Scale them to 0 to 1, or convert it to 16-bit grey first.",
        )
    return image.copy()


def _from_print(image: Image.Image, icc: bytes | None, warnings: list[str]) -> Picture:
    """CMYK and Lab, which leave as sRGB."""
    name, rgb, how = "CMYK", None, " by its colour profile"
    if image.mode == "LAB":
        name, rgb, how = "Lab", colour.converted(image, "LAB"), ""
    elif icc and colour.colour_space(icc) == "CMYK":
        with contextlib.suppress(Exception):  # PyCMSError, or OSError from a profile that only opens
            rgb = colour.converted(image, icc)
    if rgb is None:
        rgb, how = image.convert("RGB"), " without a colour profile, so colours may differ from print"
    return Picture(rgb.split(), warnings=[*warnings, f"{name} was converted to sRGB{how}."])
