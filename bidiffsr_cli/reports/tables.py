"""A table as results are told in: to the terminal, in Markdown, on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of cells, and what a reader has to know about them.

    Attributes:
        words: how many columns, from the left, hold words; the others hold numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    words: int = 1
