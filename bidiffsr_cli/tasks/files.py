"""From inputs and an output as they are given to what is read and written: names, and what may not be overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from ..errors import InputError, OutputError, UsageError
from ..text import file_key

if TYPE_CHECKING:
    from ..images import Picture
    from ..images.reading import SizeCheck

STREAM = "-"
"""What a stream is called in results."""


class Sink(Protocol):
    """A stream that takes a picture's file."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


def several(given: Any) -> list[Any]:
    """One thing, or a sequence of them, as a list; a text is one thing."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]


@dataclass(frozen=True)
class Files:
    """What is read and written for one picture.

    Attributes:
        source: path of the picture, or a stream of its file.
        output: path of the enlarged one, or a stream that takes its file.
        report: path of the report, if there is to be one.
        overwrite: whether files that are there may be replaced.
        new_folder: that of the output, where it is not there yet and will be made.
    """

    source: str | BinaryIO
    output: str | Sink
    report: str | None
    overwrite: bool
    new_folder: Path | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Source and output, as results call them."""
        return _name(self.source), _name(self.output)

    @property
    def target(self) -> Path | None:
        """The path of the output; None for a stream."""
        return Path(self.output) if isinstance(self.output, str) else None

    def read(self, check: SizeCheck) -> Picture:
        """Read the picture; `check` is told its size before it is decoded.

        Raises:
            InputError: there is none.
        """
        from ..images import read_bounded, read_picture

        if isinstance(self.source, str):
            return read_picture(Path(self.source), check=check)
        name = _said(self.source)
        return read_picture(read_bounded(self.source, name), name=name, check=check)

    def write(self, data: bytes) -> None:
        """Write the enlarged picture's file, whole or not at all."""
        from ..atomic import make_folder, write_atomic

        if not isinstance(self.output, str):
            self.output.write(data)
            return
        if self.new_folder is not None:
            make_folder(self.new_folder)
        write_atomic(data, Path(self.output), overwrite=self.overwrite)


def name_files(
    sources: Sequence[str | BinaryIO],
    output: str | Sink | None,
    *,
    scale: int,
    format: str,
    report: str | None,
    overwrite: bool,
) -> list[Files]:
    """What is read and written for each input, as far as names tell: nothing heavy is imported for it.

    Raises:
        InputError: there is no such input.
        UsageError: several inputs go to one output, or a suffix names no format of reports.
        OutputError: a result would replace another input, or its folder cannot be made.
    """
    outputs = name_outputs(sources, output, scale, format)
    folder = new_folder(output, several=len(sources) > 1)
    jobs = [Files(*pair, report, overwrite, folder) for pair in zip(sources, outputs, strict=True)]
    check_targets(jobs)
    for files in jobs:
        check_names(files)
    return jobs


def name_outputs(
    sources: Sequence[str | BinaryIO], output: str | Sink | None, scale: int, format: str
) -> list[str | Sink]:
    """The output of each input.

    Raises:
        UsageError: several inputs go to one output, or a stream is among them.
    """
    if len(sources) == 1:
        return [name_output(sources[0], output, scale, format)]
    if streams := [source for source in sources if not isinstance(source, str)]:
        raise UsageError(f"{_said(streams[0])} cannot be one of several pictures.", "Give it alone.")
    if output is not None and (not isinstance(output, str) or is_file(output) or _names_a_picture(output)):
        raise UsageError(
            f"{len(sources)} pictures do not go into '{_name(output)}'.", "Give a folder with -o, as FOLDER/."
        )
    folder = None if output is None else f"{output.rstrip('/')}/"
    outputs = [name_output(source, folder, scale, format) for source in sources]
    by_name: dict[str, list[str]] = {}
    for source, name in zip(sources, outputs, strict=True):
        by_name.setdefault(file_key(str(Path(_name(name)).absolute())), []).append(_name(source))
    if twice := [names for names in by_name.values() if len(names) > 1]:
        raise UsageError(f"{' and '.join(map(repr, twice[0]))} would have one result.", "Rename one, or do one by one.")
    return outputs


def name_output(source: str | BinaryIO, output: str | Sink | None, scale: int, format: str) -> str | Sink:
    """The output, or what stands for it: `{stem}_x2.png` beside the input, or in the folder that it is."""
    if output is not None and not (isinstance(output, str) and _is_folder(output)):
        return output
    if not isinstance(source, str):
        where = "A stream needs an output" if output is None else f"'{_name(output)}' is a folder"
        raise UsageError(f"{where}.", "Give the name of a file.")
    path = Path(source)
    special = os.path.exists(source) and not is_file(source) and not is_dir(source)  # noqa: PTH110 - as in `is_dir`
    if output is None and (special or path.absolute().parts[1:2] in (("dev",), ("proc",))):  # /dev/stdin may be a file
        raise UsageError(f"'{source}' is a device or a pipe, beside which nothing is written.", "Give OUTPUT.")
    name = f"{path.stem}_x{scale}{_suffix(path, format)}"
    return str(path.parent / name if output is None else Path(_name(output)) / name)


def _suffix(source: Path, format: str) -> str:
    """Of a result that is named after its input."""
    from ..suffixes import own

    if format == "same":
        return own(source.suffix)
    return ".png" if format == "auto" else f".{format}"


def own_format(source: str | BinaryIO) -> str:
    """The format of an input by its suffix, or png where that cannot be written: what "same" means.

    Raises:
        UsageError: the input has no suffix.
    """
    from ..suffixes import WRITTEN

    suffix = Path(source).suffix.lower() if isinstance(source, str) else ""
    if not suffix:
        raise UsageError(f"'{_name(source)}' has no suffix that says its format.", "Give --format png, jpg or another.")
    format = WRITTEN.get(suffix, "PNG")
    return {"JPEG": "jpg"}.get(format, format.lower())


def new_folder(output: str | Sink | None, *, several: bool) -> Path | None:
    """The folder that is to be made for the results, if the output is one that is not there yet.

    Raises:
        OutputError: it cannot be made.
    """
    if not isinstance(output, str) or not (several or _is_folder(output)) or is_dir(output):
        return None
    there = next(parent for parent in (Path(output), *Path(output).absolute().parents) if os.path.lexists(parent))
    if not is_dir(str(there)) or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"The folder '{output}' cannot be made in '{there}'.", "Choose another one.")
    return Path(output)


def check_targets(jobs: Sequence[Files]) -> None:
    """Raise OutputError if a result would replace another of several inputs."""
    if len(jobs) == 1:
        return
    sources = {_place(Path(job.source)) for job in jobs if isinstance(job.source, str)}
    for job in jobs:
        if job.target is not None and _place(job.target) in sources:
            raise OutputError(f"'{job.output}' is an input itself.", "Give the results a folder with -o.")


def check_names(files: Files) -> None:
    """What can be told from names, before anything is loaded.

    Raises:
        InputError: there is no such input.
        UsageError: the suffix of the report names no format.
    """
    from ..reports import check_suffix

    if isinstance(files.source, str):
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

    source = Path(files.source) if isinstance(files.source, str) else None
    if files.target is not None:
        if source is not None and same_file(source, files.target):
            raise OutputError(f"'{files.target}' is the input itself.", "Give OUTPUT another name.")
        if files.new_folder is None:
            check_output(files.target, overwrite=files.overwrite)
    if files.report is not None:
        report = Path(files.report)
        if any(other is not None and same_file(other, report) for other in (source, files.target)):
            raise OutputError(f"'{report}' cannot be the report and a picture.", "Give --report another name.")
        check_report(report, overwrite=files.overwrite)


def check_folder(folder: Path, *, ours: Sequence[str]) -> None:
    """Check that a folder may be filled: it is not there, is empty, or holds one of `ours`, which an earlier run wrote.

    Raises:
        OutputError: it holds other files, or cannot be read.
    """
    from ..atomic import cannot_write

    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise cannot_write(folder, error) from None
    if names and names.isdisjoint(ours):
        raise OutputError(f"'{folder}' holds other files.", "Choose a new folder with -o.")


def label_of(path: Path) -> str:
    """What a folder of pictures, or a picture, is called: its name, of a picture without suffix."""
    return Path(os.path.abspath(path)).name if path.is_dir() else path.stem  # noqa: PTH100 - resolve follows links


def is_dir(name: str) -> bool:
    """Whether there is a folder of this name; unlike Path's, false for whatever the system makes of odd names."""
    return os.path.isdir(name)  # noqa: PTH112


def is_file(name: str) -> bool:
    """Likewise for a file."""
    return os.path.isfile(name)  # noqa: PTH113


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths name one file, also through links; for files that do not exist, whether the paths are one."""
    return _place(a) == _place(b)


def _place(path: Path) -> object:
    """What is equal for two paths of one file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        try:
            return path.resolve()
        except (OSError, RuntimeError):
            return object()
    except (OSError, ValueError):  # links in a circle, say: opening them will tell
        return object()
    return status.st_dev, status.st_ino


def _is_folder(output: str) -> bool:
    """Whether the output is a folder: it ends as one, or there is one."""
    return output.endswith(("/", os.sep)) or is_dir(output)


def _names_a_picture(output: str) -> bool:
    from ..suffixes import WRITTEN

    return Path(output).suffix.lower() in WRITTEN and not _is_folder(output)


def _name(file: str | BinaryIO | Sink) -> str:
    return file if isinstance(file, str) else STREAM


def _said(source: BinaryIO) -> str:
    """What a sentence calls a stream."""
    return "Standard input" if source is getattr(sys.stdin, "buffer", None) else "The stream"
