"""The `bidiffsr` command: its subcommands, `--version`, and the one place where errors become sentences and exit codes.

    bidiffsr --help
    bidiffsr upscale photo.jpg
    bidiffsr doctor
    bidiffsr bench

Nothing here imports torch or Pillow: a command does, when it runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import batch, bench, compare, cost, doctor, eval, models, train, upscale
from ._errors import explain, interrupted
from ._options import FLAG, option
from ._output import out
from ._signals import stoppable

HELP = "Enlarge pictures 2x and 4x with BI-DiffSR, a diffusion model with 1-bit weights and activations."
EPILOG = """\
[bold]Exit codes[/bold]
  0  done                            4  input missing or unreadable
  1  unexpected                      5  model unavailable
  2  usage, or unwritable output     6  out of memory, or device absent
  3  some pictures of many failed    130, 143  stopped by Ctrl-C, SIGTERM"""

HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="bidiffsr",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)
app.command("upscale", help=upscale.__doc__, no_args_is_help=True, context_settings=HELP_NAMES)(upscale.upscale)
app.command("batch", help=batch.__doc__, no_args_is_help=True, context_settings=HELP_NAMES)(batch.batch)
app.command("eval", help=eval.__doc__, no_args_is_help=True, context_settings=HELP_NAMES)(eval.evaluate)
app.command("compare", help=compare.__doc__, no_args_is_help=True, context_settings=HELP_NAMES)(compare.compare)
app.command("doctor", help=doctor.__doc__, context_settings=HELP_NAMES)(doctor.doctor)
app.command("train", help=train.__doc__, no_args_is_help=True, context_settings=HELP_NAMES)(train.train)
app.add_typer(models.models, name="models", context_settings=HELP_NAMES)
app.command("cost", help=cost.__doc__, context_settings=HELP_NAMES)(cost.cost)
app.command("bench", help=bench.__doc__, context_settings=HELP_NAMES)(bench.bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"bidiffsr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, option(FLAG, "Print the version and exit.", "--version", "-V", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before the command; the help is `HELP`."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `args` are those of the process by default."""
    out.configure()
    if not os.environ.get("COLUMNS", "1").isdecimal() or os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]  # no terminal is that wide
    with _python_warnings_kept(), stoppable() as signals:
        try:
            _check_folder()
            code = app(args=args, prog_name="bidiffsr", standalone_mode=False) or 0
            if signals.received is None:
                return code
            failure = interrupted(signals.received)
        except KeyboardInterrupt:
            failure = interrupted(signals.received)
        except Exception as error:  # also what a library made of the interruption
            out.traceback(error)
            failure = explain(error) if signals.received is None else interrupted(signals.received)
            out.as_json = out.as_json or "--json" in (
                sys.argv[1:] if args is None else args
            )  # it may not be parsed yet
        out.failure(failure.message, failure.hint, failure.exit_code)
        return failure.exit_code


def _check_folder() -> None:
    """Raise UsageError if the current folder is gone: libraries end the process for less."""
    try:
        Path.cwd()
    except OSError:
        raise UsageError("The current folder does not exist any more.", "Change to another one.") from None


class _Told(logging.Handler):
    """Says as a warning of ours what the library logs, such as that a device cannot be used."""

    def emit(self, record: logging.LogRecord) -> None:
        out.warning(record.getMessage())


logging.getLogger("bidiffsr").addHandler(_Told())


@contextlib.contextmanager
def _python_warnings_kept() -> Iterator[None]:
    """Keep Python's warnings from the terminal: `-v` shows them as messages, and one of torch's is never shown."""

    def show(message: Warning | str, *_: object) -> None:
        out.detail(f"Python warns: {message}")

    with warnings.catch_warnings():
        # bidiffsr works without numpy on purpose, and torch remarks on that when it is imported
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # the signature is longer than what is used
        yield
