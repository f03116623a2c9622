"""The error table: from an exception to one sentence, a hint, and the exit code."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ..errors import explained
from ..text import listed

SOME_FAILED = 3
"""Exit code."""
WHOLE_OR_NOT = "No partial result is left behind."


@dataclass(frozen=True)
class Failure:
    """What the user is told, and what the process exits with."""

    message: str
    hint: str
    exit_code: int


def explain(error: BaseException) -> Failure:
    """The sentence, hint and exit code for whatever a command raised."""
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, typer.Abort):
        return Failure("Aborted.", "", 1)
    ours = explained(error)
    return Failure(ours.message, ours.hint, ours.exit_code)


def some_failed(names: Sequence[str], total: int) -> str:
    """The sentence that names the pictures of many that failed."""
    return f"{len(names)} of {total} pictures failed: {listed(names, 10)}."


def interrupted(received: int | None) -> Failure:
    """What a run ends with that was stopped by Ctrl-C or SIGTERM."""
    if received == signal.SIGTERM:
        return Failure("Terminated.", WHOLE_OR_NOT, 128 + signal.SIGTERM)
    return Failure("Interrupted.", WHOLE_OR_NOT, 128 + signal.SIGINT)


def _usage(error: typer.TyperException) -> Failure:
    """Typer's own errors: an unknown option, a value of the wrong kind. Help printed instead has no message."""
    message = error.format_message().strip()
    if not message:
        return Failure("", "", error.exit_code)
    if not message.endswith((".", ")")):
        message += "."
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bidiffsr"
    return Failure(message, f"See: {command} --help", error.exit_code)
