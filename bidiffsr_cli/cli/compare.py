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

from pathlib import Path
from typing import Annotated

import typer

from . import _options as o
from ._output import out


@o.expanded
def compare(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURE...", help="Two or more pictures, or folders of them.", show_default=False),
    ],
    output: Annotated[Path, o.option("FILE", "The page, a .html file.", "--output", "-o", panel=o.FILES)],
    reference: Annotated[
        Path | None, o.option("PATH", "The original, or a folder of originals, to score against.")
    ] = None,
    label: Annotated[
        list[str] | None,
        o.option("TEXT", "Name of the first version; again for the second, and so on.", show_default="their names"),
    ] = None,
    scale: Annotated[
        int, o.option("N", "Leave a border of N pixels out of PSNR and SSIM, as papers do.", "--scale", "-s", min=0)
    ] = 0,
    overwrite: o.OverwriteOption = False,
    messages: o.Brief,
) -> None:
    """Compare, and tell; the help is the module's docstring."""
    messages.configure()
    from ..tasks.compare import CompareRequest, run

    request = CompareRequest(sources, output, reference=reference, labels=label, border=scale, overwrite=overwrite)
    result = run(request, out)
    out.json(result.to_dict())
