"""EXIF, resolution and provenance: what travels beside the pixels.

Only descriptive EXIF tags travel, and only if they hold what such a tag may hold. Tags that describe the old file's
storage, thumbnails of the old picture and pointers into the old file would be wrong in the new one. The resolution has
a place of its own in `Picture`, and so has the colour space.
"""

import json
import math
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

from ..text import listed
from .spaces import Coding, adobe_rgb

Base = ExifTags.Base
IFD = ExifTags.IFD

# The first directory of a TIFF file also holds its layout, so a list of what to keep is the safe one.
DESCRIPTIVE_TAGS: dict[int, type] = {
    getattr(Base, name): kind
    for kind, names in {
        str: "DocumentName ImageDescription Make Model Software DateTime Artist HostComputer Copyright",
        int: "Rating RatingPercent",
        bytes: "XPTitle XPComment XPAuthor XPKeywords XPSubject",
    }.items()
    for name in names.split()
}
"""What each of them holds."""
MOST_DPI = 65_535  # what JPEG can state; the finest printing plates have 5,080
CENTIMETRES = 3  # ResolutionUnit
OPTIONAL_SPACE = "R03"  # InteroperabilityIndex of Adobe RGB
ADOBE_SPACE = 2  # in ColorSpace, not of the standard, but written by cameras
ASCII_COMMENT = b"ASCII\0\0\0"  # EXIF UserComment starts with eight bytes that name its character set
PROVENANCE_KEY = "bidiffsr"
STATED = (Base.Orientation, Base.XResolution, Base.YResolution, Base.ResolutionUnit)
"""Tags of the main directory that are stated anew."""


Tags = dict[int, Any]


def read_exif(image: Image.Image) -> tuple[Image.Exif | None, int, list[str]]:
    """The tags that travel (orientation reset to 1), the orientation they had, and warnings."""
    odd: list[str] = []
    try:
        source = image.getexif()
        orientation = source.get(Base.Orientation, 1)
        main = {tag: source[tag] for tag in DESCRIPTIVE_TAGS if tag in source and _is_sound(source, tag, odd)}
        details, place = (_checked(source.get_ifd(ifd), ifd, odd) for ifd in (IFD.Exif, IFD.GPSInfo))
    except Exception:  # Pillow's EXIF reader raises nearly anything on damaged data
        return None, 1, ["The EXIF data is damaged: it was left out."]
    for tag in (Base.ExifInteroperabilityOffset, Base.ColorSpace):  # the profile says it
        details.pop(tag, None)
    warnings = [f"EXIF tags of an odd kind were left out: {listed(sorted(odd))}."] if odd else []
    exif = _assemble(main | {Base.Orientation: 1}, details, place) if main or details or place else None
    return exif, orientation if isinstance(orientation, int) else 1, warnings


def _is_sound(source: Image.Exif, tag: int, odd: list[str]) -> bool:
    """Whether a tag of the main directory holds what it may hold; if not, its name is noted."""
    try:
        sound = isinstance(source[tag], DESCRIPTIVE_TAGS[tag]) and _is_writable(tag, source[tag], None)
    except Exception:  # what it holds cannot be decoded
        sound = False
    if not sound:
        odd.append(ExifTags.TAGS.get(tag, str(tag)))
    return sound


def _checked(tags: Tags, ifd: IFD, odd: list[str]) -> Tags:
    """The tags of another directory that can be written again; the names of the others are noted."""
    names = ExifTags.GPSTAGS if ifd == IFD.GPSInfo else ExifTags.TAGS
    sound = {tag: value for tag, value in tags.items() if _is_writable(tag, value, ifd)}
    odd += [names.get(tag, str(tag)) for tag in tags.keys() - sound.keys()]
    return sound


def _is_writable(tag: int, value: Any, group: int | None) -> bool:
    """Whether a value can be written, which Pillow does in Python."""
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, int | float | str | bytes | TiffImagePlugin.IFDRational) for part in parts):
        return False
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(group=group)
        directory[tag] = value
        directory.tobytes()
    except Exception:  # Pillow promises nothing
        return False
    return True


class _Text(str):
    """A text as it was in the file: Pillow reads it letter for letter, but writes "?" for what is not ASCII."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1", "replace")


def parts(exif: Image.Exif) -> tuple[Tags, Tags, Tags]:
    """The descriptive tags of the main directory, of the camera's and of the place's."""
    main = {int(tag): exif[tag] for tag in (*DESCRIPTIVE_TAGS, *STATED) if tag in exif}
    return main, dict(exif.get_ifd(IFD.Exif)), dict(exif.get_ifd(IFD.GPSInfo))


def _assemble(main: Tags, details: Tags, place: Tags) -> Image.Exif:
    """An EXIF block that no longer refers to the file it came from."""
    exif = Image.Exif()
    for tag, value in main.items():
        exif[tag] = _as_written(value)
    for ifd, tags in ((IFD.Exif, details), (IFD.GPSInfo, place)):
        if tags:
            exif.get_ifd(ifd).update({tag: _as_written(value) for tag, value in tags.items()})
            exif[ifd] = exif.get_ifd(ifd)  # without it Pillow takes a block that holds nothing else for empty
    return exif


def _as_written(value: Any) -> Any:
    return _Text(value) if isinstance(value, str) else value


def read_resolution(image: Image.Image) -> tuple[tuple[float, float] | None, str]:
    """Dots per inch, if the file states believable ones, and a warning if it states others."""
    stated: Any = image.info.get("dpi")
    if not stated or (image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit")):  # Pillow makes up 72
        stated = _exif_resolution(image)
    try:
        across, down = (float(value) for value in stated)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None, ""
    if not (math.isfinite(across) and math.isfinite(down) and across > 1 and down > 1):  # 1 stands for "not stated"
        return None, ""
    if max(across, down) > MOST_DPI:
        return None, f"A resolution of {max(across, down):,.0f} dots per inch is not believable: it was left out."
    return (across, down), ""


def _exif_resolution(image: Image.Image) -> tuple[Any, Any] | None:
    """What EXIF says, for formats in which Pillow does not look there; inches unless it says centimetres."""
    try:
        exif = image.getexif()
        unit = 2.54 if exif.get(Base.ResolutionUnit) == CENTIMETRES else 1.0
        return float(exif[Base.XResolution]) * unit, float(exif[Base.YResolution]) * unit
    except Exception:  # absent or damaged, see read_exif
        return None


def exif_coding(image: Image.Image) -> Coding | None:
    """Adobe RGB, if a camera says so in EXIF alone."""
    try:
        details = image.getexif().get_ifd(IFD.Exif)
        stated = details.get(Base.ColorSpace) == ADOBE_SPACE
        if IFD.Interop in details:
            stated |= str(image.getexif().get_ifd(IFD.Interop).get(1, "")).startswith(OPTIONAL_SPACE)
    except Exception:  # see read_exif
        return None
    return adobe_rgb() if stated else None


def output_exif(
    exif: Image.Exif | None, size: tuple[int, int], dpi: tuple[float, float] | None, provenance: dict[str, str] | None
) -> Image.Exif | None:
    """The tags of a new file of `size`: those of the source brought up to date, and the provenance; None if none.

    Args:
        exif: The source's tags, or None to write none of them.
        size: (width, height) of the new picture.
        dpi: To be stated in EXIF, for formats that have no other place for it.
        provenance: How the picture was made, or None.
    """
    main, details, place = parts(exif) if exif is not None else ({}, {}, {})
    for tag, value in ((Base.ExifImageWidth, size[0]), (Base.ExifImageHeight, size[1])):
        if tag in details:
            details[tag] = value
    if dpi is not None:
        main |= {Base.XResolution: dpi[0], Base.YResolution: dpi[1], Base.ResolutionUnit: 2}
    _drop_provenance(main, details)
    if provenance is not None:
        _add_provenance(main, details, provenance)
    return _assemble(main, details, place) if main or details or place else None


def without_maker_note(exif: Image.Exif) -> Image.Exif:
    """The same tags less the camera maker's private ones, which are often the longest part."""
    main, details, place = parts(exif)
    details.pop(Base.MakerNote, None)
    return _assemble(main, details, place)


def _drop_provenance(main: Tags, details: Tags) -> None:
    """Remove how the source was made: it does not tell how the result is."""
    for tags, tag in ((details, Base.UserComment), (main, Base.ImageDescription), (main, Base.Software)):
        if _parse(_text(tags.get(tag))) is not None:
            del tags[tag]


def _add_provenance(main: Tags, details: Tags, provenance: dict[str, str]) -> None:
    """Write the provenance to the first text tag that holds no words of the user's.

    UserComment comes first: it is meant for remarks and seldom shown as a title. Software is the last resort and may
    be overwritten, for it names the program that made the file, which is this one.
    """
    text = json.dumps({PROVENANCE_KEY: provenance})
    if _is_free(details.get(Base.UserComment)):
        details[Base.UserComment] = ASCII_COMMENT + text.encode("ascii")
    elif _is_free(main.get(Base.ImageDescription)):
        main[Base.ImageDescription] = text
    else:
        main[Base.Software] = text


def _is_free(value: Any) -> bool:
    """Whether a text tag is absent or blank (cameras write blanks)."""
    return not _text(value).strip(" \0")


def _text(value: Any) -> str:
    """A text tag as a string; UserComment is bytes after a character set's name."""
    if isinstance(value, bytes):
        # only for looking: in any other character set the letters come out odd, but they come out
        return value[len(ASCII_COMMENT) :].decode("latin-1")
    return value if isinstance(value, str) else ""


def _parse(text: str) -> dict[str, str] | None:
    try:
        found = json.loads(text)[PROVENANCE_KEY]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def read_provenance(image: Image.Image) -> dict[str, str] | None:
    """How a picture was made, if this program made it: from a PNG's iTXt chunk or from EXIF."""
    try:
        chunk = image.info.get(PROVENANCE_KEY)
        if isinstance(chunk, str):
            return _parse(f'{{"{PROVENANCE_KEY}": {chunk}}}')
        exif = image.getexif()
        candidates = (exif.get_ifd(IFD.Exif).get(Base.UserComment), exif.get(Base.ImageDescription))
        texts = [_text(value) for value in (*candidates, exif.get(Base.Software))]
    except Exception:  # damaged EXIF, see read_exif
        return None
    return next((found for found in map(_parse, texts) if found is not None), None)
