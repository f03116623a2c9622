"""From INPUT and OUTPUT as written to what is read and written: names, pipes, and what may not be overwritten."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OutputError, UsageError
from ._output import is_terminal, out

if TYPE_CHECKING:
    from ..images import Picture
    from ..images.reading import SizeCheck

PIPE = "-"


@dataclass(frozen=True)
class Files:
    """What one run reads and writes; "-" is stdin as `source` and stdout as `output`."""

    source: str
    output: str
    report: str | None
    overwrite: bool

    @property
    def target(self) -> Path | None:
        """The path of the output; None for stdout."""
        return None if self.output == PIPE else Path(self.output)


def name_output(source: str, output: str | None, scale: int, format: str) -> str:
    """OUTPUT, or what stands for it: `{stem}_x2.png` beside the input or in the folder OUTPUT, and stdout for stdin."""
    if output is not None and not _is_folder(output):
        return output
    if output is None and source == PIPE:
        return PIPE
    if source == PIPE:
        raise UsageError(f"'{output}' is a folder.", "Give the name of a file.")
    path = Path(source)
    special = path.exists() and not path.is_file() and not path.is_dir()
    if output is None and (special or path.absolute().parts[1:2] in (("dev",), ("proc",))):  # /dev/stdin may be a file
        raise UsageError(f"'{source}' is a device or a pipe, beside which nothing is written.", "Give OUTPUT.")
    name = f"{path.stem}_x{scale}.{'png' if format == 'auto' else format}"
    return str(path.parent / name if output is None else Path(output) / name)


def _is_folder(output: str) -> bool:
    """Whether OUTPUT is a folder: it ends as one, or there is one."""
    return output.endswith(("/", os.sep)) or (output != PIPE and Path(output).is_dir())


def check_pipes(files: Files, *, json: bool, dry_run: bool) -> None:
    """Raise UsageError if stdin is a terminal, or if stdout is one, or is to carry JSON too."""
    if files.source == PIPE and sys.stdin is None:
        raise InputError("Standard input is closed.", "Pipe a picture in: bidiffsr upscale - < photo.jpg")
    if files.source == PIPE and sys.stdin.isatty():
        raise UsageError("Standard input is a terminal, not a picture.", "Pipe one in: bidiffsr upscale - < photo.jpg")
    if files.output != PIPE or dry_run:
        return
    if json:
        raise UsageError("Standard output cannot carry both the picture and --json.", "Use --report FILE.json.")
    if is_terminal(sys.stdout):
        raise UsageError("A picture is not printed on a terminal.", "Give OUTPUT, or redirect standard output.")


def check_names(files: Files) -> None:
    """What can be told from names, before torch is loaded, which takes seconds.

    Raises:
        InputError: there is no such input.
        UsageError: the suffix of the report names no format.
    """
    from ..reports import check_suffix

    if files.source != PIPE:
        try:
            os.lstat(files.source)
        except FileNotFoundError:
            raise InputError(f"'{files.source}' does not exist.", "Check the spelling and the folder.") from None
        except (OSError, ValueError):  # reading it will tell what is wrong
            pass
    if files.report is not None:
        check_suffix(Path(files.report))


def check_files(files: Files) -> None:
    """Check all that will be written, before the long work.

    Raises:
        OutputError: the output or report is the input, exists, or cannot be written.
    """
    from ..atomic import check_output
    from ..reports import check_report

    source = None if files.source == PIPE else Path(files.source)
    if files.target is not None:
        if source is not None and _same_file(source, files.target):
            raise OutputError(f"'{files.target}' is the input itself.", "Give OUTPUT another name.")
        check_output(files.target, overwrite=files.overwrite)
    if files.report is not None:
        report = Path(files.report)
        if any(other is not None and _same_file(other, report) for other in (source, files.target)):
            raise OutputError(f"'{report}' cannot be the report and a picture.", "Give --report another name.")
        check_report(report, overwrite=files.overwrite)


def read_source(source: str, check: SizeCheck) -> Picture:
    """Read the input from its file, or from stdin; `check` is told its size before it is decoded.

    Raises:
        InputError: there is no picture.
    """
    from ..images import read_bounded, read_picture

    if source != PIPE:
        return read_picture(Path(source), check=check)
    return read_picture(read_bounded(sys.stdin.buffer, "Standard input"), name="Standard input", check=check)


def write_target(data: bytes, files: Files) -> None:
    """Write the finished bytes to their file, or to stdout."""
    from ..atomic import write_atomic

    if files.target is None:
        out.data(data)
    else:
        write_atomic(data, files.target, overwrite=files.overwrite)


def _same_file(a: Path, b: Path) -> bool:
    """Whether two paths name one file, also through links; for files that do not exist, whether the paths are one."""
    try:
        if a.exists() and b.exists():
            return a.samefile(b)
        return a.resolve() == b.resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle, say: opening them will tell
        return False
