"""Pieces of HTML: escaped text, tables, and pictures as data: URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from ..text import printable

QUALITY = 90  # of WebP


def text(value: str) -> str:
    """Text for elements and attributes: one line, no markup, and what cannot be printed as escapes."""
    return escape(printable(" ".join(value.split())))


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table that scrolls sideways where it is too wide; its first column names the rows.

    Args:
        title, header, rows: HTML.
        words: how many columns, from the left, hold words; the others hold numbers.
    """

    def cells(row: Sequence[str], *, head: bool) -> str:
        tags = ["th" if head or index == 0 else "td" for index in range(len(row))]
        scopes = [f' scope="{"col" if head else "row"}"' if tag == "th" else "" for tag in tags]
        kinds = ["" if index < words else ' class="number"' for index in range(len(row))]
        return "".join(f"<{t}{s}{k}>{c}</{t}>" for t, s, k, c in zip(tags, scopes, kinds, row, strict=True))

    lines = [
        f'<div class="wide" role="region" aria-label="{title}" tabindex="0">',
        f"<table>\n<caption>{title}</caption>",
        f"<thead><tr>{cells(header, head=True)}</tr></thead>\n<tbody>",
        *(f"<tr>{cells(row, head=False)}</tr>" for row in rows),
        "</tbody>\n</table>\n</div>",
    ]
    return "\n".join(lines)


def img(image: Image.Image, format: str, alt: str, size: tuple[int, int]) -> str:
    """An <img> that holds its picture, as "png" or "webp", shown at `size` = (width, height)."""
    data = io.BytesIO()
    if format == "webp":
        image.save(data, "WEBP", quality=QUALITY)
    else:
        image.save(data, "PNG", optimize=True)
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img src="data:image/{format};base64,{code}" alt="{text(alt)}" width="{size[0]}" height="{size[1]}">'
