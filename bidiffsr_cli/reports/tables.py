"""A table as results are told in, to the terminal, on a page and in Markdown, and pieces of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..text import printable


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


def tables_with_conditions(tables: Sequence[Table], conditions: Sequence[tuple[str, str]]) -> str:
    """The tables, and at the end a list of names and values."""
    lines = [line for table in tables for line in (*table_lines(table), "")]
    lines += ["Conditions:", "", *(f"- {name}: {value}" for name, value in conditions)]
    return "\n".join(lines) + "\n"


def table_lines(table: Table) -> list[str]:
    """A table below its title and above its note."""
    return [
        f"**{printable(' '.join(table.title.split()))}**",
        "",
        table_row(table.header),
        table_row(["---" if index < table.words else "---:" for index in range(len(table.header))]),
        *(table_row([plain(cell) if cell else "" for cell in row]) for row in table.rows),
        "",
        table.note,
    ]


def table_row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def plain(text: str | None) -> str:
    """The text so that it stays in its cell."""
    return printable(" ".join((text or "-").replace("\\", "\\\\").replace("|", "\\|").split()))
