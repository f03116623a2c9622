"""From INPUT and OUTPUT as written to what is read and written: names, pipes, and what may not be overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OutputError, UsageError
from ..text import file_key
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
    new_folder: Path | None = None
    """The folder of the output, where it is not there yet and will be made."""

    @property
    def target(self) -> Path | None:
        """The path of the output; None for stdout."""
        return None if self.output == PIPE else Path(self.output)


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
    if PIPE in (output, source) or not is_file(output) or _same_file(Path(source), path):
        return False
    from ..images import made_here

    return made_here(path) is False


def name_outputs(sources: Sequence[str], output: str | None, scale: int, format: str) -> list[str]:
    """The output of each input.

    Raises:
        UsageError: several inputs go to one output, or stdin is among them.
    """
    if len(sources) == 1:
        return [name_output(sources[0], output, scale, format)]
    if PIPE in sources:
        raise UsageError("Standard input cannot be one of several pictures.", "Give it alone.")
    if output is not None and (output == PIPE or is_file(output) or _names_a_picture(output)):
        raise UsageError(f"{len(sources)} pictures do not go into '{output}'.", "Give a folder with -o, as FOLDER/.")
    folder = None if output is None else f"{output.rstrip('/')}/"
    outputs = [name_output(source, folder, scale, format) for source in sources]
    by_name: dict[str, list[str]] = {}
    for source, name in zip(sources, outputs, strict=True):
        by_name.setdefault(file_key(str(Path(name).absolute())), []).append(source)
    if twice := [names for names in by_name.values() if len(names) > 1]:
        raise UsageError(f"{' and '.join(map(repr, twice[0]))} would have one result.", "Rename one, or do one by one.")
    return outputs


def name_output(source: str, output: str | None, scale: int, format: str) -> str:
    """OUTPUT, or what stands for it: `{stem}_x2.png` beside the input or in the folder OUTPUT, and stdout for stdin."""
    if output is not None and not _is_folder(output):
        return output
    if output is None and source == PIPE:
        return PIPE
    if source == PIPE:
        raise UsageError(f"'{output}' is a folder.", "Give the name of a file.")
    path = Path(source)
    special = os.path.exists(source) and not is_file(source) and not is_dir(source)  # noqa: PTH110 - as in `is_dir`
    if output is None and (special or path.absolute().parts[1:2] in (("dev",), ("proc",))):  # /dev/stdin may be a file
        raise UsageError(f"'{source}' is a device or a pipe, beside which nothing is written.", "Give OUTPUT.")
    name = f"{path.stem}_x{scale}{_suffix(path, format)}"
    return str(path.parent / name if output is None else Path(output) / name)


def _suffix(source: Path, format: str) -> str:
    """Of a result that is named after its input."""
    from ..suffixes import own

    if format == "same":
        return own(source.suffix)
    return ".png" if format == "auto" else f".{format}"


def own_format(files: Files) -> str:
    """The format of an input by its suffix, or png where that cannot be written, for --format same.

    Raises:
        UsageError: the input has no suffix.
    """
    from ..suffixes import WRITTEN

    suffix = "" if files.source == PIPE else Path(files.source).suffix.lower()
    if not suffix:
        raise UsageError(f"'{files.source}' has no suffix that says its format.", "Give --format png, jpg or another.")
    format = WRITTEN.get(suffix, "PNG")
    return {"JPEG": "jpg"}.get(format, format.lower())


def new_folder(output: str | None, *, several: bool) -> Path | None:
    """The folder that is to be made for the results, if OUTPUT is one that is not there yet.

    Raises:
        OutputError: it cannot be made.
    """
    if output in (None, PIPE) or not (several or _is_folder(output)) or is_dir(output):
        return None
    there = next(parent for parent in (Path(output), *Path(output).absolute().parents) if os.path.lexists(parent))
    if not is_dir(str(there)) or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"The folder '{output}' cannot be made in '{there}'.", "Choose another one.")
    return Path(output)


def make_folder(folder: Path | None) -> None:
    """Make the folder of the results, if there is one to be made."""
    from ..atomic import cannot_write

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from None


def _is_folder(output: str) -> bool:
    """Whether OUTPUT is a folder: it ends as one, or there is one."""
    return output.endswith(("/", os.sep)) or (output != PIPE and is_dir(output))


def _names_a_picture(output: str) -> bool:
    from ..suffixes import WRITTEN

    return Path(output).suffix.lower() in WRITTEN and not _is_folder(output)


def is_dir(name: str) -> bool:
    """Whether there is a folder of this name; unlike Path's, false for whatever the system makes of odd names."""
    return os.path.isdir(name)  # noqa: PTH112


def is_file(name: str) -> bool:
    """Likewise for a file."""
    return os.path.isfile(name)  # noqa: PTH113


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


def check_targets(jobs: Sequence[Files]) -> None:
    """Raise OutputError if a result would replace another of several inputs."""
    for job in jobs if len(jobs) > 1 else ():
        for other in jobs:
            if job.target is not None and other.source != PIPE and _same_file(Path(other.source), job.target):
                raise OutputError(f"'{job.output}' is an input itself.", "Give the results a folder with -o.")


def check_names(files: Files) -> None:
    """What can be told from names, before anything is loaded.

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
        if files.new_folder is None:
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
        make_folder(files.new_folder)
        write_atomic(data, files.target, overwrite=files.overwrite)


def _same_file(a: Path, b: Path) -> bool:
    """Whether two paths name one file, also through links; for files that do not exist, whether the paths are one."""
    try:
        if a.exists() and b.exists():
            return a.samefile(b)
        return a.resolve() == b.resolve()
    except (OSError, ValueError, RuntimeError):  # links in a circle, say: opening them will tell
        return False
