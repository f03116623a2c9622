"""Show how versions of pictures differ, on one page for a browser.

Examples:
  bidiffsr compare bicubic.png photo_x2.png -o page.html
  bidiffsr compare a.png b.png c.png -o page.html --label bicubic
    --label "1 step" --label "5 steps"
  bidiffsr compare bicubic/ enlarged/ -o page.html --reference originals/

The page has a slider between any two versions, a magnifier that shows one
place of all of them, and the places that differ most. It is one file that
needs no network. Pictures of folders belong together by name without
suffix, and versions of a picture must have one size; transparency is shown
on white. With --reference each is scored: PSNR-Y, SSIM-Y and LPIPS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, UsageError
from . import _options as o
from ._files import Files, check_files, check_names
from ._output import out

if TYPE_CHECKING:
    from PIL import Image

    from ..reports.page import Picture, Table

SCHEMA = "bidiffsr-compare/1"
ORIGINAL = "original"
MOST_NAMES = 5  # that an error lists
LARGE = 100_000_000  # bytes of a page over which browsers take long


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURES", help="Two or more pictures, or folders of them.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The page, a .html file.", rich_help_panel=o.FILES),
    ],
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The true picture, or the folder of them, to score against.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What A is called; again for B, and so on.", show_default="their names"),
    ] = None,
    scale: Annotated[
        int,
        typer.Option(
            "--scale", "-s", min=0, metavar="N", help="PSNR and SSIM leave out a border of N pixels, as papers do."
        ),
    ] = 0,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Check the names, pair the pictures, read and score them, write the page; the help is the module's docstring."""
    out.configure(quiet=quiet, json=json, debug=debug)
    everything = [*sources, *([] if reference is None else [reference])]
    _check(sources, everything, label, output)
    for files in [Files(str(path), str(output), None, overwrite) for path in everything]:
        check_names(files)
        check_files(files)
    labels = label or _labels(sources)
    sets = _paired(everything, (reference or sources[0]).name)

    from ..atomic import write_atomic
    from ..reports.page import Page, render_page

    border = None if reference is None else scale
    pictures = [_picture(name, paths, labels, border) for name, paths in sets.items()]
    count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
    page = Page(
        title=" · ".join(labels),
        summary=f"{count} in {len(labels)} versions{'' if reference is None else ', beside the original'}.",
        tables=() if border is None or len(pictures) == 1 else [_means(pictures)],
        pictures=pictures,
        conditions=() if border is None else [("border left out of PSNR and SSIM", f"{border} pixels")],
    )
    data = render_page(page).encode("utf-8", "backslashreplace")
    write_atomic(data, output, overwrite=overwrite)
    if len(data) > LARGE:
        out.warning("The page is large: a browser may take long to open it. Compare fewer pictures, or parts of them.")
    out.message(f"{output}: {count} in {len(labels)} versions, {len(data) / 1e6:.1f} MB")
    if json:
        out.json(_as_dict(output, labels, reference is not None, pictures))


def _check(sources: Sequence[Path], everything: Sequence[Path], labels: Sequence[str] | None, output: Path) -> None:
    """What can be told from the command line alone.

    Raises:
        UsageError: too few pictures, pictures and folders, a label too few or too many, or no .html.
    """
    if len(sources) < 2:
        raise UsageError("One picture cannot be compared.", "Give two or more.")
    if output.suffix.lower() != ".html":
        raise UsageError(f"'{output}' does not end in .html.", "The page is HTML: -o page.html")
    if labels and len(labels) != len(sources):
        raise UsageError(
            f"There are {len(labels)} labels for {len(sources)} versions.", "Give --label once for each, or not at all."
        )
    if len({path.is_dir() for path in everything if path.exists()}) > 1:
        raise UsageError("Pictures and folders cannot be compared with each other.", "Give files alone, or folders.")


def _labels(sources: Sequence[Path]) -> list[str]:
    """Names without suffix where they differ, else whole paths."""
    names = [path.resolve().name if path.is_dir() else path.stem for path in sources]
    return names if len(set(names)) == len(names) else [str(path) for path in sources]


def _paired(sources: Sequence[Path], name: str) -> dict[str, list[Path]]:
    """Name of a picture -> its files, one of each source; `name` is that of a single picture.

    Raises:
        InputError: a folder has no pictures, two of one name, or one that another folder lacks.
    """
    if not sources[0].is_dir():
        return {name: list(sources)}
    from ..images.listing import list_pictures

    found = []
    for folder in sources:
        paths = list_pictures(folder)
        files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
        if not files:
            raise InputError(f"'{folder}' holds no pictures.", "Check the name of the folder.")
        if len(files) < len(paths):
            twice = [path.name for path in paths if path not in files.values()]
            raise InputError(f"'{folder}' holds several pictures of one name: {_listed(twice)}.", "Remove all but one.")
        found.append(files)
    every = sorted(set().union(*found))
    alone = [name for name in every if any(name not in files for files in found)]
    if alone:
        raise InputError(
            f"{len(alone)} of {len(every)} pictures are not in every folder: {_listed(alone)}.",
            "Add or remove them; names must be equal but for the suffix.",
        )
    return {name: [files[name] for files in found] for name in every}


def _picture(name: str, files: Sequence[Path], labels: Sequence[str], border: int | None) -> Picture:
    """One picture's views; with a border to leave out, the last file is the true one, and the others are scored.

    Raises:
        InputError: a file is no picture, or the sizes differ.
    """
    from ..reports.page import Picture, View

    images = [_read(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.size != images[0].size:
            sizes = [f"{width}×{height}" for width, height in (images[0].size, image.size)]
            raise InputError(
                f"'{files[0]}' has {sizes[0]} pixels and '{file}' {sizes[1]}: versions of a picture have one size.",
                "Resize one of them first.",
            )
    if border is None:
        return Picture(name, [View(text, image) for text, image in zip(labels, images, strict=True)], None)
    *versions, truth = images
    views = [View(text, image, _scores(image, truth, border)) for text, image in zip(labels, versions, strict=True)]
    return Picture(name, [*views, View(ORIGINAL, truth)], len(versions))


def _scores(image: Image.Image, truth: Image.Image, border: int) -> dict[str, float]:
    """Of an RGB picture against the true one of its size; PSNR and SSIM leave out `border` pixels at each side."""
    from ..evaluation.metrics import lpips_alex, psnr_y, ssim_y
    from ..images.pixels import to_levels

    sr, hr = to_levels(image), to_levels(truth)
    distance = lpips_alex(sr, hr)
    return {"psnr_y": psnr_y(sr, hr, border), "ssim_y": ssim_y(sr, hr, border), "lpips_alex": distance}


def _read(file: Path) -> Image.Image:
    """RGB, upright and in sRGB, on white where it is transparent; what was lost of it is told."""
    from ..images import as_seen, read_picture
    from ..images.pixels import to_image

    picture = read_picture(file)
    for warning in picture.warnings:
        out.warning(f"{file}: {warning}")
    return to_image(as_seen(picture), "RGB")


def _means(pictures: Sequence[Picture]) -> Table:
    """The table of each version's mean scores."""
    from ..reports.page import Table
    from ..reports.scores import NAMES, score_text

    rows = []
    for index, view in enumerate(pictures[0].views[:-1]):
        scores = [picture.views[index].scores for picture in pictures]
        means = [score_text(name, sum(score[name] for score in scores) / len(scores)) for name in view.scores]
        rows.append((view.label, *means))
    note = "PSNR in dB and SSIM: higher is better; LPIPS: lower."
    header = ("", *(NAMES[name] for name in pictures[0].views[0].scores))
    return Table(f"Means of {len(pictures)} pictures", header, rows, note)


def _as_dict(output: Path, labels: Sequence[str], scored: bool, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The JSON object; the PSNR of equal pictures, which is infinite, is null."""
    return {
        "schema": SCHEMA,
        "output": str(output),
        "status": "done",
        "versions": list(labels),
        "images": [
            {
                "name": picture.name,
                "size": list(picture.views[0].image.size),
                "scores": [_finite(view.scores) for view in picture.views[: len(labels)]] if scored else None,
            }
            for picture in pictures
        ],
    }


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
