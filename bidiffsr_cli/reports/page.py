"""One HTML file that shows how versions of pictures differ: a slider, magnified places, tables and a chart.

    page = Page("Set5 x2", "5 pictures", tables, pictures)
    write_atomic(render_page(page).encode(), Path("page.html"), overwrite=False)

It works offline and asks the network for nothing: pictures lie in it as data: URIs, and its Content-Security-Policy
allows its own style and script alone, by their sha256. Without the script all views stand side by side, as on paper.
Names and labels are escaped; none of them reaches the script but through the document.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from string import Template
from types import MappingProxyType

from PIL import Image
from torch.nn import functional as F

from .. import __version__
from ..errors import InputError
from ..images.pixels import to_levels
from .chart import Point, draw_chart
from .markup import QUALITY, html_table, img, text
from .scores import scores_table
from .tables import Table

__all__ = ["Exhibit", "Page", "Point", "Table", "Version", "render_page"]

PLACES, CROP, ENLARGED = 3, 64, 3
LONGEST_SHOWN = 16383  # of WebP
LONG_TABLE = 24  # rows; a longer one is folded
FOOTER = (
    f"Made by bidiffsr {__version__}. Large pictures lie in this page as WebP of quality {QUALITY}, which is what the "
    f"magnifier shows too; crops are lossless and {ENLARGED} times as large. Everything is in this one file."
)


@dataclass(frozen=True)
class Version:
    """One version of a picture.

    Attributes:
        label: what it is called: "bicubic", "fast, 5 steps", "original".
        image: RGB; all views of a picture have the same size.
        scores: by their names in JSON, such as psnr_y, ssim_y, lpips_alex, seconds.
    """

    label: str
    image: Image.Image
    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Exhibit:
    """Two or more views of one picture; `reference` is the index of the true one, if there is one."""

    name: str
    versions: Sequence[Version]
    reference: int | None

    @property
    def shown(self) -> tuple[int, int]:
        """Left and right view at first: bicubic, else the first; and the last that is not the reference."""
        others = [index for index in range(len(self.versions)) if index != self.reference]
        right = others[-1]
        rest = [index for index in range(len(self.versions)) if index != right]
        return next((i for i in rest if self.versions[i].label.lower().startswith("bicubic")), rest[0]), right

    @property
    def base(self) -> int:
        """The view that the right one is compared with: the reference, else the left one."""
        return self.shown[0] if self.reference is None else self.reference


@dataclass(frozen=True)
class Page:
    """All that a page shows, in this order, but for the conditions, which stand at the end."""

    title: str
    summary: str
    tables: Sequence[Table]
    pictures: Sequence[Exhibit]
    points: Sequence[Point] = ()
    conditions: Sequence[tuple[str, str]] = ()


def render_page(page: Page) -> str:
    """The page as one HTML document.

    Raises:
        InputError: a picture is larger than WebP can hold.
        ValueError: a picture has fewer than two views, or views of several sizes.
    """
    parts = files(__package__) / "page_parts"
    style, script = ((parts / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sections = [
        _section("Results", [_table(results) for results in page.tables]),
        _section("Distortion and perception", _chart(page.points)),
        _section("Pictures", [_picture(picture, f"picture{i}") for i, picture in enumerate(page.pictures)]),
        _section("Conditions", _conditions(page.conditions)),
    ]
    return Template((parts / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(page.title),
        summary=text(page.summary),
        version=text(__version__),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        main="\n".join(filter(None, sections)),
        note=text(FOOTER),
    )


def most_different(a: Image.Image, b: Image.Image) -> list[tuple[int, int]]:
    """The up to three squares of 64 pixels, (left, top), whose mean absolute difference is largest; none if it is 0.

    They lie at least half a square apart where the picture has room for that, and never overlap.
    """
    width, height = a.size
    size = min(CROP, width, height)
    difference = (to_levels(a).float() - to_levels(b).float()).abs().mean(0, keepdim=True)  # 1×H×W
    stride = max(1, size // 8)
    means = F.avg_pool2d(difference, size, stride)[0]
    found: list[tuple[int, int]] = []
    for apart in (size + size // 2, size):
        found, left = [], means.clone()
        while len(found) < PLACES and float(left.max()) > 0:
            row, column = divmod(int(left.argmax()), left.shape[1])
            found.append((column * stride, row * stride))
            reach = -(-apart // stride)  # in steps, rounded up
            left[max(0, row - reach + 1) : row + reach, max(0, column - reach + 1) : column + reach] = 0
        if len(found) == PLACES:
            break
    return found


def _section(heading: str, content: Sequence[str]) -> str:
    return "\n".join([f"<section>\n<h2>{heading}</h2>", *content, "</section>"]) if content else ""


def _table(results: Table) -> str:
    """A table and its note; a long one is folded."""
    title, header = text(results.title), [text(name) for name in results.header]
    html = html_table(title, header, [[text(cell) for cell in row] for row in results.rows], results.words)
    html += f'\n<p class="note">{text(results.note)}</p>' if results.note else ""
    if len(results.rows) <= LONG_TABLE:
        return html
    return f"<details>\n<summary>{title}, {len(results.rows)} rows</summary>\n{html}\n</details>"


def _chart(points: Sequence[Point]) -> list[str]:
    svg = draw_chart(points)
    if not svg:
        return []
    areas = " The area of a mark grows with the seconds that a picture takes." if any(p.seconds for p in points) else ""
    note = f"Further right is nearer to the original pixel by pixel, further down is nearer to it for the eye.{areas}"
    return [
        f'<div class="wide" role="region" aria-label="Chart" tabindex="0">\n{svg}\n</div>\n<p class="note">{note}</p>'
    ]


def _conditions(conditions: Sequence[tuple[str, str]]) -> list[str]:
    rows = [f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in conditions]
    return ["<dl>", *rows, "</dl>"] if rows else []


def _picture(picture: Exhibit, key: str) -> str:
    """The slider with its controls, the scores, the magnifier, and the crops; `key` is the prefix of ids."""
    images = [version.image.convert("RGB") for version in picture.versions]
    sizes = {image.size for image in images}
    if len(sizes) != 1 or len(images) < 2:
        raise ValueError(f"a picture needs two or more views of one size, not {len(images)} of {sizes}")
    width, height = sizes.pop()
    if max(width, height) > LONGEST_SHOWN:
        raise InputError(
            f"{picture.name} has {width}×{height} pixels, too many for a page.",
            f"Cut out what matters: {LONGEST_SHOWN} pixels a side can be shown.",
        )
    left, right = picture.shown
    places = most_different(images[picture.base], images[right])
    size = min(CROP, width, height)
    return f"""<section class="picture" aria-labelledby="{key}">
<h3 id="{key}">{text(picture.name)}</h3>
<p class="size">{width} × {height} pixels</p>
<div class="look">
<div>
<div class="controls">
{_select("Left", picture.versions, left)}
{_select("Right", picture.versions, right)}
</div>
<div class="stage" data-width="{width}" data-height="{height}" data-size="{size}">
{_versions(picture, images)}
<div class="divider" role="slider" tabindex="0" aria-label="Divider in {text(picture.name)}" aria-valuemin="0" \
aria-valuemax="100" aria-valuenow="50"></div>
<div class="frame"></div>
</div>
</div>
<div class="side">
{scores_table(f"Scores of {picture.name}", [(version.label, version.scores) for version in picture.versions])}
<div class="magnifier">
<div class="heading"><h4>Magnifier</h4>{_buttons(places, size)}<span class="place"></span></div>
<div class="crops">
{_loupes(picture.versions, size)}
</div>
<p class="note">Point at the picture, or go to a numbered place below.</p>
</div>
</div>
</div>
{_crops(picture, images, places, size)}
</section>"""


def _select(side: str, versions: Sequence[Version], chosen: int) -> str:
    """The choice of the view on one side."""
    options = (
        f"<option{' selected' if index == chosen else ''}>{text(version.label)}</option>"
        for index, version in enumerate(versions)
    )
    return f"<label>{side} <select>{''.join(options)}</select></label>"


def _versions(picture: Exhibit, images: Sequence[Image.Image]) -> str:
    return "\n".join(
        f'<figure class="view">{img(image, "webp", f"{picture.name}: {version.label}", image.size)}'
        f"<figcaption>{text(version.label)}</figcaption></figure>"
        for version, image in zip(picture.versions, images, strict=True)
    )


def _buttons(places: Sequence[tuple[int, int]], size: int) -> str:
    """What leads the magnifier to the crops' places, by their middles."""
    return "".join(
        f'<button type="button" data-x="{x + size / 2:g}" data-y="{y + size / 2:g}" aria-label="Place {i}">{i}</button>'
        for i, (x, y) in enumerate(places, start=1)
    )


def _loupes(versions: Sequence[Version], size: int) -> str:
    return "\n".join(
        f'<figure><canvas width="{size}" height="{size}" role="img" aria-label="{text(version.label)}, magnified">'
        f"</canvas><figcaption>{text(version.label)}</figcaption></figure>"
        for version in versions
    )


def _crops(picture: Exhibit, images: Sequence[Image.Image], places: Sequence[tuple[int, int]], size: int) -> str:
    """Each place of every view side by side."""
    right, base = (text(picture.versions[index].label) for index in (picture.shown[1], picture.base))
    told = f"Where {right} differs most from {base}:" if places else f"{right} and {base} are equal."
    lines = [f'<p class="note">{told}</p>']
    shown = size * ENLARGED, size * ENLARGED
    for number, (x, y) in enumerate(places, start=1):
        lines += [f'<h4>Place {number} <span class="place">x {x}, y {y}</span></h4>', '<div class="crops">']
        for version, image in zip(picture.versions, images, strict=True):
            crop = image.crop((x, y, x + size, y + size))
            html = img(crop, "png", f"{version.label}, place {number}", shown)
            lines.append(f"<figure>{html}<figcaption>{text(version.label)}</figcaption></figure>")
        lines.append("</div>")
    return "\n".join(lines)


def _hash(source: str) -> str:
    """What names an inline style or script in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode('ascii')}"
