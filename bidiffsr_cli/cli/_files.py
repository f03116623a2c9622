"""The words of `upscale`: which are inputs and which is the output, and what - stands for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, OutputError, UsageError
from ..tasks.files import Sink, is_file, same_file
from ._output import is_terminal, out

PIPE = "-"


def split_words(words: Sequence[str], option: str | None, *, overwrite: bool) -> tuple[list[str], str | None]:
    """Which words are inputs, and where the results go, if that is said.

    Without -o the second of two words is the output. A shell that expands *.jpg may mean two inputs by two words, so a
    picture that is there and was not made here is never taken for an output.

    Raises:
        OutputError: it would be overwritten.
    """
    if option is not None or len(words) != 2:
        return list(words), option
    source, output = words
    if not _is_foreign_picture(source, output):
        return [source], output
    if overwrite:
        raise OutputError(
            f"'{output}' is a picture that was not made here, and is not overwritten like this.",
            f"To replace it: -o '{output}' --overwrite. To enlarge both: -o FOLDER/",
        )
    return list(words), None


def _is_foreign_picture(source: str, output: str) -> bool:
    path = Path(output)
    if PIPE in (output, source) or not is_file(output) or same_file(Path(source), path):
        return False
    from ..images import made_here

    return made_here(path) is False


def check_folders(sources: Sequence[str], output: str | None) -> None:
    """Raise UsageError if a pipe is to give or take one of the pictures of a folder."""
    if PIPE in (*sources, output):
        raise UsageError("A folder of pictures does not go through a pipe.", "Give folders by name, and -o FOLDER.")


def open_pipes(
    sources: Sequence[str], output: str | None, *, json: bool, dry_run: bool
) -> tuple[list[str | BinaryIO], str | Sink | None]:
    """Inputs and output with the streams that - stands for; what comes from stdin goes to stdout unless it is said.

    Raises:
        InputError: stdin is closed.
        UsageError: stdin is a terminal, or stdout is one, or is to carry JSON too.
    """
    if PIPE in sources and sys.stdin is None:
        raise InputError("Standard input is closed.", "Pipe a picture in: bidiffsr upscale - < photo.jpg")
    if PIPE in sources and sys.stdin.isatty():
        raise UsageError("Standard input is a terminal, not a picture.", "Pipe one in: bidiffsr upscale - < photo.jpg")
    streams = [sys.stdin.buffer if source == PIPE else source for source in sources]
    if output != PIPE and (output is not None or list(sources) != [PIPE]):
        return streams, output
    if json and not dry_run:
        raise UsageError("Standard output cannot carry both the picture and --json.", "Use --report FILE.json.")
    if is_terminal(sys.stdout) and not dry_run:
        raise UsageError("A picture is not printed on a terminal.", "Give OUTPUT, or redirect standard output.")
    return streams, out
