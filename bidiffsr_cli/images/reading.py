"""Reading a picture from a file, bytes, a Pillow image, a tensor or an array.

    picture = read_picture("photo.jpg")

What a file is, is decided by its content. Whatever goes wrong becomes an `InputError`; nothing is padded or guessed.
"""

import contextlib
import io
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from PIL import Image, UnidentifiedImageError

from ..errors import LFS_HINT, LFS_POINTER, BidiffsrError, InputError, is_out_of_memory, out_of_memory
from . import avif, bmp, png, tiff
from .arrays import picture_from_array, picture_from_tensor
from .decoding import CONVERT, picture_from_image
from .metadata import read_provenance
from .picture import Picture
from .survey import Survey

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
READABLE = "PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF"
LONGEST_FILE = 4 << 30
"""Bytes; no picture that can be read has more."""
HEAD = 4096  # enough to recognise any format
Seen = TypeVar("Seen")
UNREADABLE = re.compile("unsupported|not supported|unknown|cannot decode|not implemented", re.IGNORECASE)
"""What Pillow says of whole files that it cannot read."""
SizeCheck = Callable[[tuple[int, int]], object]
"""Is told (width, height) as they are stored before anything is decoded, and raises if that is too much."""

# (offset, bytes, name): how a file of a readable format starts …
OURS = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavi", "AVIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
)
# … and of some that people try
FOREIGN = (
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"qoif", "QOI"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
)


SURVEYS = {"PNG": png.survey, "AVIF": avif.survey, "BMP": bmp.survey}


def read_picture(source: Any, *, name: str = "", check: SizeCheck | None = None) -> Picture:
    """Read one picture: upright and in sRGB.

    Args:
        source: A path, the bytes of a file, a Pillow image, a tensor C×H×W or an array H×W, H×W×C or C×H×W of uint8,
            uint16 or floats in [0, 1]; see `arrays`.
        name: What to call it in errors; by default the path, or "The input".
        check: Is told the size of a file's picture before it is decoded; what it raises is raised.

    Raises:
        InputError: It is missing, unreadable, damaged, too large or not a picture.
    """

    def read(image: Image.Image, survey: Survey) -> Picture:
        if check is not None:
            check(max(image.size, tiff.tile_size(image), key=math.prod))
        return picture_from_image(image, name or _named(source), survey)

    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        return _look(source, name, read)
    name = name or _named(source)
    if isinstance(source, Image.Image):
        with _translated_errors(name):
            return picture_from_image(source, name)
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(source, torch.Tensor):
        return picture_from_tensor(source, name)
    if hasattr(source, "__array_interface__"):
        return picture_from_array(source, name)
    raise InputError(
        f"{name} cannot be read from an object of type {type(source).__qualname__}.",
        "Give a path, bytes, a Pillow image, a tensor or an array.",
    )


def picture_size(source: Path | bytes, *, name: str = "") -> tuple[int, int]:
    """(width, height) of a picture file as it is stored, not yet upright, pixels; reads its beginning alone.

    Args:
        source: Its path, or its bytes, of which the beginning mostly suffices.
        name: As for `read_picture`.

    Raises:
        InputError: as `read_picture`, as far as the beginning shows it.
    """
    return _look(source, name, lambda image, _: image.size)


def _look(source: Any, name: str, what: Callable[[Image.Image, Survey], Seen]) -> Seen:
    """What is to be known of the picture in a file, given as its path or bytes, by `what` as of `_seen`."""
    name = name or _named(source)
    if not isinstance(source, str | os.PathLike):
        return _seen(io.BytesIO(source), name, what)
    with _opened(Path(os.fsdecode(source)), name) as file:
        return _seen(file, name, what)


def _named(source: Any) -> str:
    return f"'{Path(os.fsdecode(source))}'" if isinstance(source, str | os.PathLike) else "The input"


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """A file in which one can go back."""
    try:
        with path.open("rb") as file:
            # a pipe cannot be rewound, and Pillow must look at the start more than once
            yield file if file.seekable() else io.BytesIO(read_bounded(file, name))
    except BidiffsrError:
        raise
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"{name} is a link to nothing that is there.", "Fetch what it stands for first.") from None
        raise InputError(f"{name} does not exist.", "Check the spelling and the folder.") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder, not a picture.", "Give the pictures in it, one at a time.") from None
    except PermissionError:
        is_dir = os.path.isdir(path)  # noqa: PTH112 - Path's may be denied, too
        hint = "Give the pictures in it, one at a time." if is_dir else "Change its permissions, or copy it."
        raise InputError(f"{name} may not be read: permission denied.", hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be opened: {reason}.", "Check the path.") from error


def made_here(path: Path) -> bool | None:
    """Whether a picture's file says that this program made it; None if it does not even begin as a picture's does."""
    try:
        with _opened(path, str(path)) as file:
            head = file.read(HEAD)
            if not _sniff(head, OURS) and not _sniff(head, FOREIGN):
                return None
            file.seek(0)
            return _seen(file, str(path), lambda image, _: read_provenance(image) is not None)
    except InputError:  # a picture, if only for other programs
        return False


def read_bounded(file: IO[bytes], name: str) -> bytes:
    """All that comes from a pipe, as far as a picture may be long; raises InputError beyond."""
    data = file.read(LONGEST_FILE + 1)
    if len(data) > LONGEST_FILE:
        raise InputError(f"{name} has more than {LONGEST_FILE >> 30} GB.", "Cut it into parts, or leave it out.")
    return data


def _seen(stream: IO[bytes], name: str, what: Callable[[Image.Image, Survey], Seen]) -> Seen:
    """What is to be known of the picture in a stream, which is told by the opened picture and the file's survey."""
    with _translated_errors(name):
        head = stream.read(HEAD)
        if not head:
            raise InputError(f"{name} is empty.", "Copy or download it again.")
        stream.seek(0)
        survey = SURVEYS.get(_sniff(head, OURS), Survey)(stream)
        try:
            image = Image.open(survey.stream, formats=FORMATS)
        except UnidentifiedImageError:
            raise _unidentified(name, head, stream) from None
        with image:
            return what(image, survey)


def _unidentified(name: str, head: bytes, stream: IO[bytes]) -> InputError:
    """Say whether a file is damaged, of a kind we do not read, or no picture at all."""
    kind = _sniff(head, OURS)
    if words := tiff.describe(stream) if kind == "TIFF" else "":
        return InputError(f"{name} is a {words}, which cannot be read.", CONVERT)
    if kind:
        return InputError(f"{name} holds damaged or incomplete {kind} data.", "Copy or download it again.")
    if head.startswith(LFS_POINTER):
        return InputError(f"{name} is a Git LFS pointer, not the picture that it stands for.", LFS_HINT)
    if kind := _sniff(head.lstrip()[:64], FOREIGN):
        return InputError(f"{name} is a {kind} file, which cannot be read.", f"Convert it to {READABLE} first.")
    return InputError(f"{name} is not a picture.", f"Give a {READABLE} file.")


def _sniff(head: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str:
    return next((kind for offset, magic, kind in table if head.startswith(magic, offset)), "")


@contextlib.contextmanager
def _translated_errors(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an InputError, and let none of its warnings out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BidiffsrError:
            raise
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
            message = f"{name} has more than {limit} million pixels, the most that is read."
            raise InputError(message, "Cut it into parts, or make it smaller first.") from None
        except Exception as error:  # damaged files raise almost anything, from struct.error to SyntaxError
            if is_out_of_memory(error):
                raise out_of_memory() from None
            detail = str(error).rstrip(".") or type(error).__name__
            if UNREADABLE.search(detail):
                raise InputError(f"{name} is of a kind that cannot be read ({detail}).", CONVERT) from error
            raise InputError(f"{name} is damaged or incomplete ({detail}).", "Copy or download it again.") from error
