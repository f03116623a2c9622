"""Ctrl-C and SIGTERM: a command unwinds as from any exception, and the process ends within a second or two.

The windows that are being computed cannot be cut short, so a run that has not ended `PATIENCE` seconds after the first
signal is ended at once, and a second signal does so too. That leaves nothing behind, for no output is written in parts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ._errors import interrupted
from ._output import out

PATIENCE = 1.5
MOST_WORDS = 0.5
"""Seconds."""


class Signals:
    """The first signal that came, and what is done about it."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._deadline: threading.Timer | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop the command; the second time, stop the process."""
        if self.received is not None:
            self._exit()
        self.received = number
        self._deadline = threading.Timer(PATIENCE, self._exit)
        self._deadline.daemon = True
        with contextlib.suppress(RuntimeError):  # the system has no thread left for it
            self._deadline.start()
        raise KeyboardInterrupt

    def settle(self) -> None:
        """The command has ended in time."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _exit(self) -> None:
        failure = interrupted(self.received)

        def say() -> None:
            out.show_cursor()
            out.error(failure.message, failure.hint)

        try:
            saying = threading.Thread(target=say, daemon=True)
            saying.start()
            saying.join(MOST_WORDS)  # nobody may be reading what it writes
        finally:  # whatever state the interrupted code left the terminal's stream in
            os._exit(failure.exit_code)


@contextlib.contextmanager
def stoppable() -> Iterator[Signals]:
    """Handle SIGINT and SIGTERM; what the parent process chose to ignore (nohup, `&`) stays ignored."""
    signals = Signals()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                before[number] = signal.signal(number, signals.handle)
    try:
        yield signals
    finally:
        signals.settle()
        for number, handler in before.items():
            signal.signal(number, handler)


class Deferred:
    """A stop condition: true once a signal came. Before it is first asked, a signal acts at once; so does a second."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._asked = self._told = False

    def __call__(self) -> bool:
        self._asked = True
        if self.received is not None and not self._told:  # not said by the handler: it may interrupt other words
            out.message("Stopping after this iteration, to save the state; once more stops at once.")
            self._told = True
        return self.received is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal of work that asks; hand others on."""
        if self.received is not None or not self._asked:
            before = self._before[number]
            signal.signal(number, before if callable(before) else signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number


@contextlib.contextmanager
def deferred() -> Iterator[Deferred]:
    """Within it, SIGINT and SIGTERM are only noted: work that must be put away in order asks for them."""
    stop = Deferred()
    if threading.current_thread() is threading.main_thread():
        for caught in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(caught) is not signal.SIG_IGN:
                stop._before[caught] = signal.signal(caught, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in stop._before.items():
            signal.signal(number, handler)
