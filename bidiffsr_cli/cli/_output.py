"""The one object that speaks: what was asked for goes to stdout, and everything said beside it to stderr.

out.configure(quiet=quiet, verbose=verbose, json=json, progress=progress, debug=debug)
out.table(...)                # the answer of a command that was asked for one; --json gives an object instead
out.message("...")            # unless --quiet or --json
out.json({...})               # the one object, with --json
with out.progress("photo.jpg", "windows") as advance: ...
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import BidiffsrError, OutputError, UsageError
from ..results import SCHEMA
from ..tasks.listener import Advance, Listener
from ..text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

SHOW_CURSOR = "\x1b[?25h"
NO_MARKUP: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
"""Rich puts in what it is told and nothing else."""
WIDEST_TEXT = 80
WIDEST_PIPE = 1000
"""Columns; nothing of a table is cut off on its way to another program."""


class ClosedPipeError(BidiffsrError):
    """Whoever read standard output reads no more."""


class Output(Listener):
    """Where messages and data go, and how many of them."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self.configure()

    def configure(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        json: bool = False,
        progress: bool = True,
        debug: bool = False,
    ) -> None:
        """Set how much is said.

        Args:
            quiet: errors only.
            verbose: details too.
            json: a JSON object on stdout takes the place of answers and messages.
            progress: a progress bar, where stderr is a terminal.
            debug: tracebacks.

        Raises:
            UsageError: quiet and verbose at once.
        """
        self.debug, self._answered = debug, False
        self.show: Callable[[Any], None] = lambda part: None  # a command's way to show what `found` is told
        self.stop: Callable[[], bool] = lambda: False  # what `stopped` says
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other.", "Give one of them.")
        self.quiet, self.verbose, self.as_json, self.with_progress = quiet, verbose, json, progress

    @property
    def console(self) -> Console:
        """Rich on today's stderr, for bars and messages alike; NO_COLOR and TERM=dumb are honoured by Rich."""
        if self._console is None or self._console.file is not sys.stderr:
            from rich.console import Console

            self._console = Console(file=sys.stderr, **NO_MARKUP)
            # Rich would end the process, and take standard output with it
            self._console.on_broken_pipe = lambda: None  # type: ignore[method-assign]
        return self._console

    def message(self, text: str) -> None:
        """One line for the person at the terminal."""
        if not (self.quiet or self.as_json):
            self._print(printable(text))

    def answer(self, text: str) -> None:
        """One line of what was asked for."""
        if not (self.quiet or self.as_json):
            self._answer(printable(text))

    def names(self, names: Iterable[str]) -> None:
        """What --quiet leaves of a list: a name on each line."""
        if not self.as_json:
            self._answer(*map(printable, names))

    def rows(self, rows: Iterable[tuple[str, str]]) -> None:
        """A small table of names and values that was asked for."""
        if not (self.quiet or self.as_json):
            self._answer(*_aligned(list(rows)))

    def table(self, title: str, header: Sequence[str], rows: Iterable[Sequence[str]], note: str, words: int) -> None:
        """A table that was asked for, a title above and a remark below; its first `words` columns hold words."""
        if not (self.quiet or self.as_json):
            remark = (f"  {line}" for line in textwrap.wrap(note, WIDEST_TEXT - 2))
            self._answer(*([""] if self._answered else []), printable(title), _tabulated(header, rows, words), *remark)

    def warning(self, text: str) -> None:
        """Something that is not as the user may expect; with --json, too, for that has stdout to itself."""
        if not self.quiet:
            self._labelled("Warning", "yellow", text)

    def found(self, part: Any) -> None:
        """A part of the result, for the command to show."""
        self.show(part)

    def stopped(self) -> bool:
        """Whether training should end."""
        return self.stop()

    def progressed(self, text: str) -> None:
        """One line about a piece of the work, where no bar shows it."""
        if not self.with_bar:
            self.message(text)

    def detail(self, text: str) -> None:
        """One line that only --verbose shows."""
        if self.verbose:
            self._print(printable(text))

    def details(self, rows: Iterable[tuple[str, str]]) -> None:
        """A small table that only --verbose shows."""
        if self.verbose:
            for row in _aligned(list(rows)):
                self._print(row)

    def error(self, text: str, hint: str = "") -> None:
        """One sentence saying what is wrong, and a line saying what to do."""
        if text:
            self._labelled("Error", "red", text)
        if hint:
            self._print(printable(hint))

    def failure(self, text: str, hint: str, exit_code: int) -> None:
        """How a command failed; with --json an object on stdout says it too."""
        self.error(text, hint)
        error = {"message": text, "hint": hint, "exit_code": exit_code}
        with contextlib.suppress(BidiffsrError):  # stdout may be what failed
            self.json({"schema": SCHEMA, "status": "failed", "error": error})

    def traceback(self, error: BaseException) -> None:
        """Where an error came from; for --debug."""
        if self.debug:
            traceback.print_exception(error)

    def json(self, value: dict[str, Any]) -> None:
        """The one JSON object on stdout, with --json."""
        if self.as_json:
            self.write((json.dumps(value, indent=2) + "\n").encode())

    @contextlib.contextmanager
    def progress(self, name: str, unit: str) -> Iterator[Advance]:
        """A bar with the time that is left, gone when the work is done; of bytes it appears with the first of them."""
        if not self.with_bar:
            yield lambda *_, **__: None
            return
        from rich import progress as rich

        of_bytes = unit == "bytes"
        behind: tuple[rich.ProgressColumn, ...] = (rich.DownloadColumn(), rich.TransferSpeedColumn())
        if not of_bytes:
            behind = (rich.TextColumn("{task.fields[counted]}"), rich.TimeRemainingColumn(compact=True))
        columns = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(bar_width=None), *behind)
        bar = rich.Progress(*columns, console=self.console, transient=True, expand=True)
        task = bar.add_task(_shorten(printable(name)), total=None, counted=f"0 {unit}")

        def advance(done: int, total: int, *, share: float | None = None, current: str = "", detail: str = "") -> None:
            bar.start()
            if of_bytes:
                bar.update(task, completed=done, total=total)
                return
            share = done / total if share is None else share
            named = _shorten(printable(current)) if current else None
            counted = f"{done}/{total} {unit}{detail}"
            bar.update(task, completed=share, total=1, description=named, counted=counted)

        try:
            if not of_bytes:
                bar.start()
            yield advance
        finally:
            bar.stop()

    @property
    def with_bar(self) -> bool:
        """Whether progress is shown as a bar."""
        return self.with_progress and not self.quiet and is_terminal(sys.stderr) and not self.console.is_dumb_terminal

    def show_cursor(self) -> None:
        """Bring back the cursor that a progress bar hid."""
        if is_terminal(sys.stderr):
            sys.stderr.write(f"{SHOW_CURSOR}\n")
            sys.stderr.flush()

    def _labelled(self, label: str, colour: str, text: str) -> None:
        try:
            from rich.text import Text

            self._print(Text.assemble((f"{label}:", f"bold {colour}"), f" {printable(text)}"))
        except MemoryError:
            self._print(f"{label}: {printable(text)}")

    def _print(self, text: Any) -> None:
        """To stderr, if it can be written to: a message that nobody can read is no reason to fail."""
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                try:
                    self.console.print(text)
                except MemoryError:  # even Rich may be too much to import; the sentence must come out all the same
                    sys.stderr.write(f"{text}\n")

    def _answer(self, *parts: Any) -> None:
        """To stdout, in colours where it is a terminal; whoever stops reading has seen enough."""
        from rich.console import Console

        self._answered = True
        seen = is_terminal(sys.stdout)
        text = io.StringIO()
        console = Console(file=text, force_terminal=seen, width=None if seen else WIDEST_PIPE, **NO_MARKUP)
        for part in parts:
            console.print(part)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        with contextlib.suppress(ClosedPipeError):
            self.write(text.getvalue().encode(encoding, "replace"))

    def write(self, data: bytes) -> None:
        """Bytes on stdout, such as those of a picture: it is the `Sink` that - stands for."""
        if sys.stdout is None:
            raise OutputError("Standard output is closed.", "Give OUTPUT, or leave standard output open.")
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            # What is left in Python's buffer would fail again when the process ends, so it goes nowhere instead.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                raise ClosedPipeError("Standard output was closed before everything was written.") from None
            raise OutputError(f"Standard output cannot be written: {error.strerror}.") from None


def _aligned(rows: list[tuple[str, str]]) -> list[Text]:
    """Names in bold, and their values one below the other."""
    from rich.text import Text

    width = max((len(name) for name, _ in rows), default=0)
    return [Text.assemble((f"  {name:<{width}}  ", "bold"), printable(value)) for name, value in rows]


def _tabulated(header: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        table.add_column(printable(name), justify="left" if index < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(printable, row))
    return Padding(table, (0, 0, 0, 2), expand=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether someone is looking; a stream that was closed before the start is None."""
    return stream is not None and stream.isatty()


def _shorten(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"{name[: length - 11]}...{name[-8:]}"


out = Output()
