"""EXIF, resolution and provenance: what travels beside the pixels.

Only descriptive EXIF tags travel. Tags that describe the old file's storage, thumbnails of the old picture and pointers
into the old file would be wrong in the new one.
"""

import json
import math
import struct
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

Base = ExifTags.Base
IFD = ExifTags.IFD

# The first directory of a TIFF file also holds its layout, so a list of what to keep is the safe one.
DESCRIPTIVE_TAGS = {
    Base.DocumentName,
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Orientation,
    Base.XResolution,
    Base.YResolution,
    Base.ResolutionUnit,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Rating,
    Base.RatingPercent,
    Base.Copyright,
    Base.XPTitle,
    Base.XPComment,
    Base.XPAuthor,
    Base.XPKeywords,
    Base.XPSubject,
}
ASCII_COMMENT = b"ASCII\0\0\0"  # EXIF UserComment starts with eight bytes that name its character set
PROVENANCE_KEY = "bidiffsr"
LONG = 4  # TIFF's number of its 32-bit type


Tags = dict[int, Any]


def read_exif(image: Image.Image) -> tuple[Image.Exif | None, int, str]:
    """The descriptive tags (orientation reset to 1), the orientation they had, and a warning or ""."""
    try:
        source = image.getexif()
        orientation = source.get(Base.Orientation, 1)
        main, details, place = _parts(source)
        main.pop(Base.Orientation, None)
        if not (main or details or place):
            exif = None
        else:
            exif = _assemble(main | {Base.Orientation: 1}, details, place)
            exif.tobytes()  # tags that cannot be written again show here, not after an hour's work
    except Exception:  # Pillow's EXIF reader raises nearly anything on damaged data
        return None, 1, "The EXIF data is damaged: it was left out."
    return exif, orientation if isinstance(orientation, int) else 1, ""


def _parts(exif: Image.Exif) -> tuple[Tags, Tags, Tags]:
    """The descriptive tags of the main directory, of the camera's and of the place's."""
    main = {int(tag): exif[tag] for tag in DESCRIPTIVE_TAGS & set(exif)}
    details = dict(exif.get_ifd(IFD.Exif))
    details.pop(IFD.Interop, None)
    return main, details, dict(exif.get_ifd(IFD.GPSInfo))


def _assemble(main: Tags, details: Tags, place: Tags) -> Image.Exif:
    """An EXIF block that no longer refers to the file it came from."""
    exif = Image.Exif()
    for tag, value in main.items():
        exif[tag] = value
    for ifd, tags in ((IFD.Exif, details), (IFD.GPSInfo, place)):
        if tags:
            exif.get_ifd(ifd).update(tags)
            exif[ifd] = exif.get_ifd(ifd)  # Pillow's TIFF writer looks for the directories among the tags
    return exif


def read_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, if the file states sensible ones."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(across) and math.isfinite(down) and across > 1 and down > 1):  # 1 stands for "not stated"
        return None
    return across, down


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
    main, details, place = _parts(exif) if exif is not None else ({}, {}, {})
    for tag, value in ((Base.ExifImageWidth, size[0]), (Base.ExifImageHeight, size[1])):
        if tag in details:
            details[tag] = value
    if dpi is not None:
        main |= {Base.XResolution: dpi[0], Base.YResolution: dpi[1], Base.ResolutionUnit: 2}
    if provenance is not None:
        _add_provenance(main, details, provenance)
    return _assemble(main, details, place) if main or details or place else None


def without_maker_note(exif: Image.Exif) -> Image.Exif:
    """The same tags less the camera maker's private ones, which are often the longest part."""
    main, details, place = _parts(exif)
    details.pop(Base.MakerNote, None)
    return _assemble(main, details, place)


def main_directory(exif: Image.Exif) -> Image.Exif:
    """Only the tags of the main directory."""
    return _assemble(_parts(exif)[0], {}, {})


def add_tiff_directories(data: bytes, exif: Image.Exif) -> bytes:
    """Add the camera's and the place's tags to a TIFF file, which libtiff does not write.

    They go to the end of the file, followed by a longer copy of the main directory that points to them. All other
    offsets are absolute and stay right.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    directories = [(ifd, tags) for ifd, tags in zip((IFD.Exif, IFD.GPSInfo), _parts(exif)[1:], strict=True) if tags]
    if order is None or not directories:  # order None: a BigTIFF, larger than 4 GB
        return data
    result = bytearray(data)
    start = struct.unpack_from(f"{order}I", result, 4)[0]
    count = struct.unpack_from(f"{order}H", result, start)[0]
    positions = range(start + 2, start + 2 + 12 * count, 12)
    entries = {struct.unpack_from(f"{order}H", data, at)[0]: data[at : at + 12] for at in positions}
    for ifd, tags in directories:
        result += b"\0" * (len(result) % 2)
        entries[int(ifd)] = struct.pack(f"{order}HHII", ifd, LONG, 1, len(result))
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8], group=ifd)
        for tag, value in tags.items():
            directory[tag] = value
        result += directory.tobytes(len(result))
    result += b"\0" * (len(result) % 2)
    struct.pack_into(f"{order}I", result, 4, len(result))
    result += struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + b"\0" * 4
    return bytes(result)


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
    """Whether a text tag is absent, blank (cameras write blanks), or holds the provenance of an earlier run."""
    text = _text(value)
    return not text.strip(" \0") or _parse(text) is not None


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


def provenance_chunk(provenance: dict[str, str]) -> str:
    """The text of the PNG iTXt chunk whose key is PROVENANCE_KEY."""
    return json.dumps(provenance, ensure_ascii=False)


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
