"""Pieces of text: what came from files made harmless for terminals, tables and spreadsheets, and lists in sentences."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet takes for a formula."""


def printable(text: str) -> str:
    """The text with control characters and undecodable bytes, as file names may hold them, written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, noun: str) -> str:
    """A number of things, whose plural has an s: "1 step", "2 steps"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str], most: int = 5, *, separator: str = ", ") -> str:
    """The first of several in a sentence, and how many more there are: "a, b and 3 more"."""
    more = f"{separator.rstrip(', ')} and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def scales_in_words(scales: Iterable[int], sign: str = "x") -> str:
    """What a model enlarges by: "x2 and x4"."""
    return " and ".join(f"{sign}{scale}" for scale in scales)


def file_key(name: str) -> str:
    """What is equal for two names that some file system takes for one: A and a, or é and e with an accent."""
    return unicodedata.normalize("NFC", name).casefold()


def csv_cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would compute gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.split("\n")))  # a cell may have several lines
    return f"'{text}" if text.startswith(FORMULA) else text
