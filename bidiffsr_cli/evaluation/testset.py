"""A set of test pictures: originals, and what belongs to each of them by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..images import Picture, as_seen, read_picture
from ..images.degrading import UNCHANGED, Degradation
from ..images.listing import list_pictures
from ..images.pairing import pair
from ..images.pixels import to_float
from ..images.resizing import downscale_bicubic
from ..text import listed

ROLES = ("hr", "gt", "gtmod12", "original", "originals", "x2", "x4")
"""Names of folders that say what pictures are for, and not which."""
TRANSPOSED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""
ORIENTATION = 274


@dataclass(frozen=True)
class Case:
    """One original and its partners.

    Attributes:
        name: the original's, without suffix.
        hr: the original.
        lr: the given small picture; None if it is made from the original.
        finished: an enlarged one to be scored, by any tool.
        degradation: what the small picture goes through.
    """

    name: str
    hr: Path
    lr: Path | None = None
    finished: Path | None = None
    degradation: Degradation = UNCHANGED

    def load(self, scale: int) -> Pixels:
        """Decode it.

        Raises:
            InputError: a file is damaged.
        """
        remarks: list[str] = []
        original = read_levels(self.hr, remarks)
        lr, finished = (None if path is None else read_levels(path, remarks) for path in (self.lr, self.finished))
        if lr is None:
            pixels = make_small(original, scale)
        else:
            height, width = (side * scale for side in lr.shape[1:])
            pixels = Pixels(original[:, :height, :width], lr)
        if self.degradation != UNCHANGED:
            pixels = replace(pixels, lr=self.degradation.apply(pixels.lr, pixels.hr, self.name))
        height, width = pixels.hr.shape[1:]
        finished = None if finished is None else finished[:, :height, :width]
        return Pixels(pixels.hr, pixels.lr, finished, tuple(remarks))


@dataclass(frozen=True)
class Pixels:
    """The pictures of a case, 3×H×W uint8: the original cut to a multiple of the scale, the small one, the finished.

    `remarks` say what was lost when they were read.
    """

    hr: Tensor
    lr: Tensor
    finished: Tensor | None = None
    remarks: tuple[str, ...] = ()


def name_of_set(hr: Path) -> str:
    """Set5 of Set5/HR: the last part of the path that is more than a role."""
    parts = [part for part in hr.resolve().parts if part.lower() not in ROLES]
    return Path(parts[-1]).stem if parts else hr.name


def make_small(original: Tensor, scale: int) -> Pixels:
    """An original, 3×H×W uint8, cut to a multiple of the scale, and the small picture that MATLAB's bicubic makes."""
    height, width = (side // scale * scale for side in original.shape[1:])
    hr = original[:, :height, :width]
    return Pixels(hr, downscale_bicubic(hr, scale))


def open_test_set(
    hr: Path,
    scale: int,
    *,
    lr: Path | None = None,
    finished: Path | None = None,
    limit: int | None = None,
    without: Path | None = None,
    degradation: Degradation = UNCHANGED,
) -> list[Case]:
    """Find all pictures of a set and their partners, and look whether the sizes are right.

    Args:
        hr: folder of the originals, or one picture.
        scale: how many times smaller the small pictures are.
        lr: folder of small pictures; without one they are made from the originals.
        finished: folder of enlarged pictures to be scored.
        limit: take the first ones alone, in the order of their names.
        without: a folder in which originals are not looked for: that of the results.
        degradation: what the small pictures go through.

    Raises:
        InputError: a folder is missing or empty, a file is damaged, an original has no partner or several, or sizes do
            not fit; the message lists them.
    """
    originals = [
        path for path in _pictures(hr) if without is None or not path.resolve().is_relative_to(without.resolve())
    ]
    originals = originals[:limit]
    twice = sorted({path.stem for path in originals if sum(other.stem == path.stem for other in originals) > 1})
    if twice:
        raise InputError(f"Several originals have one name: {listed(twice)}.", "Give each a name of its own.")
    small = {} if lr is None else pair(originals, _pictures(lr), scale, str(lr))
    large = {} if finished is None else pair(originals, _pictures(finished), scale, str(finished))
    cases = [Case(path.stem, path, small.get(path), large.get(path), degradation) for path in originals]
    sizes = {path: _size(path) for case in cases for path in (case.hr, case.lr, case.finished) if path is not None}
    wrong = [problem for case in cases for problem in _wrong_sizes(case, scale, sizes)]
    if wrong:
        others = (other for other in range(2, 17) if other != scale)
        fitting = [other for other in others if not any(_wrong_sizes(case, other, sizes) for case in cases)]
        hint = f"Add --scale {fitting[0]}." if fitting else f"Check --scale, which is {scale} now."
        raise InputError(f"Sizes do not fit: {listed(wrong, separator='; ')}.", hint)
    return cases


def _pictures(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"There is no folder '{path}'.", "Check its name.")
    files = list_pictures(path)
    if not files:
        raise InputError(f"There are no pictures in '{path}'.", "Name another folder.")
    return files


def _wrong_sizes(case: Case, scale: int, sizes: Mapping[Path, tuple[int, int]]) -> list[str]:
    width, height = sizes[case.hr]
    if min(width, height) < scale:
        return [f"{case.hr.name} is {width}x{height}"]
    wrong = []
    if case.lr is not None:
        small = sizes[case.lr]
        if small != (width // scale, height // scale):
            wrong.append(f"{case.lr.name} is {small[0]}x{small[1]}, its original {width}x{height}")
    if case.finished is not None:
        large = sizes[case.finished]
        if large not in ((width, height), (width // scale * scale, height // scale * scale)):
            wrong.append(f"{case.finished.name} is {large[0]}x{large[1]}, its original {width}x{height}")
    return wrong


def _size(path: Path) -> tuple[int, int]:
    """(width, height) as it will be decoded. Most headers say it; a PNG may say only at its end that it is turned."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(ORIENTATION) in TRANSPOSED else (width, height)
    except Exception:  # the reader of pictures tells what is wrong with it
        return read_picture(path).size


def read_levels(path: Path, remarks: list[str] | None = None) -> Tensor:
    """The pixels of a picture's file, 3×H×W uint8, on white where it is transparent; grey has three equal channels.

    Args:
        path: of the file.
        remarks: are added to: what was lost of it.

    Raises:
        InputError: it is damaged.
    """
    picture = read_picture(path)
    if remarks is not None:
        seen = ["It is transparent: it was laid on white."] if _is_transparent(picture) else []
        remarks += [f"{path.name}: {remark}" for remark in [*picture.warnings, *seen]]
    return as_seen(picture)


def _is_transparent(picture: Picture) -> bool:
    return picture.alpha is not None and bool((to_float(picture.alpha) < 1).any())
