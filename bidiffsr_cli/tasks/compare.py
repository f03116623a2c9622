"""Showing how versions of pictures differ: one HTML page with a slider, a magnifier, and scores against originals.

compare(["bicubic/", "enlarged/"], "page.html", reference="originals/")
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UsageError, check_least, said_of
from ..text import counted
from .files import Files, check_files, check_names, is_dir, is_file, label_of, several
from .listener import SILENT, Listener, as_function

if TYPE_CHECKING:
    from PIL import Image

    from ..reports.page import Exhibit
    from ..reports.tables import Table

SCHEMA = "bidiffsr-compare/1"
ORIGINAL = "original"
LARGE = 100_000_000
"""Bytes of a page over which browsers take long."""


@dataclass(frozen=True)
class CompareRequest:
    """Which pictures are compared, and where the page goes.

    Attributes:
        sources: two or more pictures, or folders of them; in folders they belong together by name without suffix.
        output: the page, a .html file.
        reference: the true picture, or the folder of them: the others are scored against it.
        labels: what each source is called; None takes their names.
        border: pixels at each side that PSNR and SSIM leave out.
        overwrite: replace the page if it is there.

    Raises:
        UsageError: the border is negative.
    """

    sources: Sequence[str | Path]
    output: str | Path
    _: KW_ONLY
    reference: str | Path | None = None
    labels: Sequence[str] | None = None
    border: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_least(0, border=self.border)


@dataclass(frozen=True)
class ComparedPicture:
    """One picture.

    Attributes:
        name: of the picture.
        size: (width, height).
        scores: psnr_y (dB), ssim_y and lpips_alex of each version; None without a reference.
    """

    name: str
    size: tuple[int, int]
    scores: Sequence[dict[str, float]] | None


@dataclass(frozen=True)
class Comparison:
    """A page that was written.

    Attributes:
        output: the page.
        versions: what the versions are called, without the reference.
        images: the pictures.
    """

    output: str
    versions: Sequence[str]
    images: Sequence[ComparedPicture]

    def to_dict(self) -> dict[str, Any]:
        """The object of `compare --json`; the PSNR of equal pictures, which is infinite, is null."""
        return {
            "schema": SCHEMA,
            "output": self.output,
            "status": "done",
            "versions": list(self.versions),
            "images": [
                {"name": image.name, "size": list(image.size), "scores": image.scores and [*map(_finite, image.scores)]}
                for image in self.images
            ],
        }


def run(request: CompareRequest, listener: Listener = SILENT) -> Comparison:
    """Write a page that shows how versions of pictures differ.

    Raises:
        UsageError: there are too few pictures, pictures and folders, not as many labels, or no .html file to write.
        InputError: a picture is missing or damaged, has no partner, or versions differ in size.
        OutputError: the page is there, is one of the pictures, or cannot be written.
    """
    sources, output = [Path(source) for source in several(request.sources)], Path(request.output)
    everything = [*sources, *([] if request.reference is None else [Path(request.reference)])]
    given = several(request.labels or ())
    _check(sources, everything, given, output)
    for files in [Files(str(path), str(output), None, request.overwrite) for path in everything]:
        check_names(files)
        check_files(files)
    from ..atomic import write_atomic
    from ..images.pairing import pair_folders
    from ..reports.page import Page, render_page

    labels = given or _labels(sources)
    together = Path(request.reference or sources[0]).name  # what pictures are called that were given one by one
    sets = pair_folders(everything) if is_dir(str(sources[0])) else {together: everything}
    border = None if request.reference is None else request.border
    pictures = [_picture(name, paths, labels, border, listener) for name, paths in sets.items()]
    count = f"{counted(len(pictures), 'picture')} in {counted(len(labels), 'version')}"
    page = Page(
        title=" · ".join(labels),
        summary=f"{count}{'' if border is None else ', beside the original'}.",
        tables=() if border is None or len(pictures) == 1 else [_means(pictures)],
        pictures=pictures,
        conditions=() if border is None else [("border left out of PSNR and SSIM", f"{border} pixels")],
    )
    data = render_page(page).encode("utf-8", "backslashreplace")
    write_atomic(data, output, overwrite=request.overwrite)
    if len(data) > LARGE:
        listener.warning(
            "The page is large: a browser may take long to open it. Compare fewer pictures, or parts of them."
        )
    listener.message(f"{output}: {count}, {len(data) / 1e6:.1f} MB")
    return Comparison(str(output), labels, [_compared(picture) for picture in pictures])


def _check(sources: Sequence[Path], everything: Sequence[Path], labels: Sequence[str] | None, output: Path) -> None:
    """Raise UsageError for what can be told from the request alone."""
    if len(sources) < 2:
        raise UsageError("One picture cannot be compared.", "Give two or more.")
    if output.suffix.lower() != ".html":
        raise UsageError(f"'{output}' does not end in .html.", "The page is HTML: -o page.html")
    if labels and len(labels) != len(sources):
        given = counted(len(labels), "time")
        raise UsageError(
            f"--label is given {given} for {len(sources)} versions.", "Give --label once for each, or not at all."
        )
    if len({is_dir(str(path)) for path in everything if is_dir(str(path)) or is_file(str(path))}) > 1:
        raise UsageError("Pictures and folders cannot be compared with each other.", "Give files alone, or folders.")


def _labels(sources: Sequence[Path]) -> list[str]:
    """Names without suffix where they differ, else whole paths."""
    names = [label_of(path) for path in sources]
    return names if len(set(names)) == len(names) else [str(path) for path in sources]


def _picture(
    name: str, files: Sequence[Path], labels: Sequence[str], border: int | None, listener: Listener
) -> Exhibit:
    """One picture's views; with a border to leave out, the last file is the true one, and the others are scored.

    Raises:
        InputError: a file is no picture, the sizes differ, or it is too small to be scored.
    """
    from ..reports.page import Exhibit, Version

    images = [_read(file, listener) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.size != images[0].size:
            sizes = [f"{width}×{height}" for width, height in (images[0].size, image.size)]
            raise InputError(
                f"'{files[0]}' has {sizes[0]} pixels and '{file}' {sizes[1]}: versions of a picture have one size.",
                "Resize one of them first.",
            )
    if border is None:
        return Exhibit(name, [Version(text, image) for text, image in zip(labels, images, strict=True)], None)
    *versions, truth = images
    with said_of(str(files[-1])):
        scores = [_scores(image, truth, border) for image in versions]
    views = [Version(*view) for view in zip(labels, versions, scores, strict=True)]
    return Exhibit(name, [*views, Version(ORIGINAL, truth)], len(versions))


def _read(file: Path, listener: Listener) -> Image.Image:
    """RGB, upright and in sRGB, on white where it is transparent; what was lost of it is told."""
    from ..images import as_seen, read_picture
    from ..images.pixels import to_image

    picture = read_picture(file)
    for warning in picture.warnings:
        listener.warning(f"{file}: {warning}")
    return to_image(as_seen(picture), "RGB")


def _scores(image: Image.Image, truth: Image.Image, border: int) -> dict[str, float]:
    """Of an RGB picture against the true one of its size."""
    from ..evaluation.metrics import lpips_alex, psnr_y, ssim_y
    from ..images.pixels import to_levels

    sr, hr = to_levels(image), to_levels(truth)
    distance = lpips_alex(sr, hr)
    return {"psnr_y": psnr_y(sr, hr, border), "ssim_y": ssim_y(sr, hr, border), "lpips_alex": distance}


def _means(pictures: Sequence[Exhibit]) -> Table:
    """The table of each version's mean scores."""
    from ..reports.scores import BETTER, METRIC_NAMES, score_text
    from ..reports.tables import Table

    rows = []
    for index, view in enumerate(pictures[0].versions[:-1]):
        scores = [picture.versions[index].scores for picture in pictures]
        means = [score_text(name, statistics.fmean(score[name] for score in scores)) for name in view.scores]
        rows.append((view.label, *means))
    header = ("", *(METRIC_NAMES[name] for name in pictures[0].versions[0].scores))
    return Table(f"Means of {len(pictures)} pictures", header, rows, BETTER)


def _compared(picture: Exhibit) -> ComparedPicture:
    scores = (
        None if picture.reference is None else [dict(view.scores) for view in picture.versions[: picture.reference]]
    )
    return ComparedPicture(picture.name, picture.versions[0].image.size, scores)


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


compare = as_function(CompareRequest, run)
