"""Writing a picture: which format, what it cannot hold, and its bytes.

format = choose_format("auto", Path("big.jpg"))
data, warnings = encode(image, format, quality=None, picture=picture, strip_metadata=False, provenance=None)
"""

import contextlib
import io
import json
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, PngImagePlugin

from ..errors import OutputError, UsageError, is_out_of_memory, out_of_memory
from ..suffixes import WRITTEN
from . import colour, tiff
from .metadata import IFD, PROVENANCE_KEY, output_exif, parts, without_maker_note
from .picture import Picture
from .planes import bands, computed

NAMES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "tiff": "TIFF", "tif": "TIFF"}
SUFFIXES = ".png, .jpg, .webp, .avif and .tiff"

# The longest side that the encoder writes and common decoders read back: libjpeg's own limit is below the format's
# 65535, and libavif writes 65536 but by default refuses to read more than 32768.
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 32768, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
MOST_PIXELS = {"AVIF": 16384**2}  # likewise libavif's default for reading

LOSSY = ("JPEG", "WEBP", "AVIF")
DEFAULT_QUALITY = {"JPEG": 95, "AVIF": 85}
MAKE_IT = "Make it {}, by the file's name or --format."
JPEG_SEGMENT = 65_533  # bytes in one marker segment
OPTIMIZE_PIXELS = 32_000_000  # above, JPEG's optimized tables would need several bytes of memory for each pixel
_LOCK, _ROOM = threading.Lock(), [ImageFile.MAXBLOCK]


def choose_format(requested: str, target: Path | None) -> str:
    """Pillow's name of the format to write.

    Args:
        requested: "auto", "same", "png", "jpg", "webp", "avif" or "tiff". Auto goes by the suffix of `target`, else
            PNG, and so does "same", which gives the target the input's suffix.
        target: Where it will be written; None for standard output.

    Raises:
        UsageError: Unknown format or suffix, or a suffix that says something else than `requested`.
    """
    suffix = target.suffix.lower() if target is not None else ""
    by_suffix = WRITTEN.get(suffix)
    if requested in ("auto", "same"):
        if suffix and by_suffix is None:
            raise UsageError(
                f"The suffix '{suffix}' names no format that can be written.", f"Use {SUFFIXES}, or --format."
            )
        format = by_suffix or "PNG"
    elif requested in NAMES:
        format = NAMES[requested]
        if by_suffix not in (None, format):
            message = f"'{target}' ends in '{suffix}', but the format asked for is {requested}."
            raise UsageError(message, "Leave --format out, or change the suffix.")
    else:
        raise UsageError(f"The format '{requested}' is unknown.", "Use auto, same, png, jpg, webp, avif or tiff.")
    return format


def check_quality(quality: int | None) -> None:
    """Raise UsageError if it is out of range."""
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"The quality {quality} is out of range.", "Give a number from 1 to 100.")


def check_size(format: str, size: tuple[int, int]) -> None:
    """Raise OutputError if `format` cannot hold a picture of `size` (width, height)."""
    side, pixels = LONGEST_SIDE[format], MOST_PIXELS.get(format)
    if max(size) <= side and (pixels is None or size[0] * size[1] <= pixels):
        return
    limit = f"{side} pixels on a side" if max(size) > side else f"{pixels} pixels in all"
    hint = "Ask for a smaller picture." if max(size) > LONGEST_SIDE["PNG"] else MAKE_IT.format("PNG")
    raise OutputError(f"{size[0]}×{size[1]} is too large for {format}, which holds at most {limit}.", hint)


def encode(
    image: Image.Image,
    format: str,
    *,
    quality: int | None,
    picture: Picture,
    strip_metadata: bool,
    provenance: dict[str, str] | None,
) -> tuple[bytes, list[str]]:
    """Encode an image as the bytes of a file.

    The colour profile is always kept: without it the numbers in the file mean other colours, and it tells nothing
    about the person who took the picture.

    Args:
        image: L, I;16, LA, RGB or RGBA, in the colours of `picture.icc_profile`.
        format: Pillow's name, from `choose_format`.
        quality: 1 to 100 for JPEG, WebP and AVIF; None for a default that looks the same as the original, which for
            WebP is to lose nothing.
        picture: The source, for profile, EXIF and resolution.
        strip_metadata: Leave out EXIF and resolution.
        provenance: How the picture was made, to be written in any case; None writes nothing.

    Returns:
        The bytes, and one sentence for each thing that the format could not keep.

    Raises:
        UsageError: The quality is out of range.
        OutputError: The format cannot hold this picture.
    """
    check_quality(quality)
    check_size(format, image.size)
    image, icc, notes = _fit(image, format, picture.icc_profile)
    options = _encoder_options(format, image, quality)
    if quality is not None and format not in LOSSY:
        notes.append(f"The quality has no effect on {format}, which loses nothing.")
    if icc:
        options["icc_profile"] = icc
    dpi = None if strip_metadata else picture.dpi
    if dpi and format in ("PNG", "JPEG", "TIFF"):
        options["dpi"] = dpi
    source_exif = None if strip_metadata else picture.exif
    exif_dpi = dpi if format in ("WEBP", "AVIF") else None
    exif_provenance = provenance if format != "PNG" else None
    exif = output_exif(source_exif, image.size, exif_dpi, exif_provenance)
    if exif is not None and format == "JPEG":
        exif = _short_exif(exif, notes)
    if exif is not None:
        options |= {} if format == "TIFF" else {"exif": exif}
    if format == "PNG" and provenance is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(PROVENANCE_KEY, json.dumps(provenance, ensure_ascii=False))
    data = _save(image, format, options)
    if exif is not None and format == "TIFF":
        main, details, place = parts(exif)
        data = tiff.add_tags(data, main, {IFD.Exif: details, IFD.GPSInfo: place})
    return data, notes


def _fit(image: Image.Image, format: str, icc: bytes | None) -> tuple[Image.Image, bytes | None, list[str]]:
    """The image as the format can hold it, the profile that still fits, and what had to go."""
    notes = []
    if format in ("JPEG", "WEBP", "AVIF") and image.mode == "I;16":
        image = _to_8_bits(image)
        notes.append(f"{format} keeps 8 bits only: the 16-bit grey was rounded.")
    if format == "JPEG" and image.mode in ("LA", "RGBA"):
        image, seen = _flatten(image)
        if seen:
            notes.append("JPEG has no transparency: the picture was laid on white.")
    becomes_rgb = (format == "WEBP" and image.mode in ("L", "LA")) or (format == "AVIF" and image.mode == "LA")
    if becomes_rgb and icc and colour.colour_space(icc) == "GRAY":  # a grey profile means nothing on RGB
        grey, _ = colour.grey_to_srgb(image.getchannel(0), icc)
        image = grey if image.mode == "L" else Image.merge("LA", (grey, image.getchannel("A")))
        icc = None
    return image, icc, notes


def _to_8_bits(image: Image.Image) -> Image.Image:
    """I;16 to L, rounded, a band at a time."""
    result = Image.new("L", image.size)
    for top, bottom in bands(*image.size):
        levels = image.crop((0, top, image.width, bottom)).convert("I")
        result.paste(computed(lambda x: (x + 128) / 257, levels).convert("L"), (0, top))
    return result


def _flatten(image: Image.Image) -> tuple[Image.Image, bool]:
    """LA or RGBA on white as L or RGB, and whether anything was transparent."""
    alpha = image.getchannel("A")
    opaque = alpha.getextrema() == (255, 255)
    plain = image.convert("L" if image.mode == "LA" else "RGB")
    if opaque:
        return plain, False
    white = Image.new(plain.mode, plain.size, "white")
    white.paste(plain, mask=alpha)
    return white, True


def _encoder_options(format: str, image: Image.Image, quality: int | None) -> dict[str, Any]:
    """Pillow's options. Colour is not subsampled, as enlarged edges would show it; lossy WebP knows nothing else."""
    quality = quality or DEFAULT_QUALITY.get(format)
    if format == "JPEG":
        return {"quality": quality, "subsampling": "4:4:4", "optimize": image.width * image.height <= OPTIMIZE_PIXELS}
    if format == "WEBP":
        if quality is None:  # effort instead: 80 takes five times as long, and makes the same size
            return {"lossless": True, "quality": 20, "method": 4}
        return {"quality": quality, "method": 4}  # 6 takes twice the time for 1 % of the size
    if format == "AVIF":
        return {"quality": quality, "subsampling": "4:0:0" if image.mode == "L" else "4:4:4", "speed": 6}
    if format == "PNG":
        # An enlarged picture does not repeat itself: by runs alone (at any level) sixteen results of photographs take
        # three fifths of the time of level 3 and 3 % less space, a screenshot 10 % less; drawn patterns up to 28 % more
        return {"compress_level": 1, "compress_type": zlib.Z_RLE}
    bytes_needed = image.width * image.height * len(image.getbands()) * (2 if image.mode == "I;16" else 1)
    return {"compression": "tiff_adobe_deflate", "big_tiff": bytes_needed > 4_000_000_000}


def _short_exif(exif: Image.Exif, notes: list[str]) -> Image.Exif | None:
    """The tags as far as they fit the one segment that a JPEG has for them."""
    if len(exif.tobytes()) <= JPEG_SEGMENT:
        return exif
    shorter = without_maker_note(exif)
    if len(shorter.tobytes()) <= JPEG_SEGMENT:
        notes.append("The EXIF data is too long for JPEG: the camera maker's private part was left out.")
        return shorter
    notes.append("The EXIF data is too long for JPEG: it was left out.")
    return None


def _save(image: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    """Run Pillow's encoder in memory."""
    # optimized JPEG must fit one buffer, and Pillow's guess is too small for noise at high quality
    room = 5 * image.width * image.height if options.get("optimize") else 0
    try:
        buffer = io.BytesIO()
        with warnings.catch_warnings(), _buffer_of(room):
            warnings.simplefilter("ignore")
            image.save(buffer, format, **options)
        return buffer.getvalue()
    except Exception as error:  # encoders raise nearly anything
        if is_out_of_memory(error):
            raise out_of_memory() from None
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        message = f"The picture could not be written as {format} ({kind}{error})."
        raise OutputError(message, MAKE_IT.format("TIFF" if format == "PNG" else "PNG")) from error


@contextlib.contextmanager
def _buffer_of(size: int) -> Iterator[None]:
    """Let Pillow's encoders have a buffer of so many bytes: a setting of the process, whose threads encode at once."""
    with _LOCK:
        _ROOM.append(size)
        ImageFile.MAXBLOCK = max(_ROOM)
    try:
        yield
    finally:
        with _LOCK:
            _ROOM.remove(size)
            ImageFile.MAXBLOCK = max(_ROOM)
