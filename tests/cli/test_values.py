"""Options that are more than a word or a number."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bidiffsr_cli.cli import _options
from bidiffsr_cli.cli._values import parse_seed, parse_size, parse_tile
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.text import csv_cell, printable


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("800MB", 800_000_000),
        ("2GB", 2 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("512 mib", 2**29),
        ("1b", 1),
        ("2TB", 2 * 10**12),
        ("64KiB", 65536),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "800", "MB", "-1GB", "1,5GB", "2 gigs", "0MB", "1e9B", "nan GB", "٣GB x", f"{10**400}B"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.hint


def test_seeds() -> None:
    assert parse_seed("0") == 0 and parse_seed("123456789012345678") == 123456789012345678
    assert len({parse_seed("random") for _ in range(5)}) > 1
    for text in ("", "-1", "1.5", "Random", "1" * 19, "²"):
        with pytest.raises(UsageError):
            parse_seed(text)


def test_tiles() -> None:
    assert [parse_tile(text) for text in ("auto", "off", "256")] == ["auto", "off", 256]
    for text in ("", "0x10", "-8", "none", "1000000"):
        with pytest.raises(UsageError):
            parse_tile(text)


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("preset", _options.PresetOption),
        ("sampler", _options.SamplerOption),
        ("alpha", _options.AlphaOption),
        ("color_fix", _options.ColorFixOption),
    ],
)
def test_the_words_of_an_option_are_those_of_the_library(field: str, option: Any) -> None:
    literal = get_args(option)[0]
    words = [word for word in get_args(literal) if isinstance(word, str)] or get_args(get_args(literal)[0])
    assert len(words) > 1
    for word in words:
        UpscaleOptions(**{field: word})
    with pytest.raises(UsageError) as caught:
        UpscaleOptions(**{field: "nonsense"})
    assert caught.value.hint == f"Choose one of: {', '.join(words)}."


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\n\udcff é 画") == "a\\x1b[31mb\\x07\\n\\udcff é 画"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(...)"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


def test_other_cells_stay() -> None:
    assert [csv_cell(value) for value in (-1.5, None, "a=b", "")] == [-1.5, None, "a=b", ""]
    assert csv_cell("esc\x1b[31m") == "esc\\x1b[31m"
