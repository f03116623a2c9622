"""Pieces of text."""

from bidiffsr_cli.text import csv_cell, file_key, listed, printable, scales_in_words


def test_lists_in_sentences() -> None:
    assert listed(["a"]) == "a" and listed(["a", "b"], 2) == "a, b" and listed(list("abcd"), 2) == "a, b and 2 more"
    assert listed(["a b", "c d", "e f"], 2, separator="; ") == "a b; c d; and 1 more"
    assert scales_in_words((2, 4)) == "x2 and x4" and scales_in_words([4], "×") == "×4"


def test_harmless_text() -> None:
    assert printable("a\x1b[1m\nb") == "a\\x1b[1m\\nb"
    assert [csv_cell(value) for value in ("=1+1", "a\nb", 3)] == ["'=1+1", "a\nb", 3]
    assert file_key("É.png") == file_key("e\u0301.png")
