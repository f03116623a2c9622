"""What a task says while it works: messages, warnings and progress. A task returns its result and prints nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from ..checkpoints.files import Checkpoint
    from ..pipeline import SuperResolver
    from ..runtime import Machine

Parameters = ParamSpec("Parameters")
Request = TypeVar("Request")
Result = TypeVar("Result")


class Advance(Protocol):
    """Moves what `Listener.progress` shows."""

    def __call__(
        self, done: int, total: int, *, share: float | None = None, current: str = "", detail: str = ""
    ) -> None:
        """Tell how far the work is.

        Args:
            done: units that are finished.
            total: units in all.
            share: of the whole work that is done, 0 to 1, where it is not done / total.
            current: name of what is in hand.
            detail: stands behind the units, such as ", step 2/5".
        """


class Listener:
    """Is told what a task does. This one ignores it; override what is of interest. Called from the task's thread."""

    def message(self, text: str) -> None:
        """One line about what happened."""

    def detail(self, text: str) -> None:
        """One line that only the curious want."""

    def details(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values that only the curious want."""

    def warning(self, text: str) -> None:
        """One sentence about something that is not as one may expect."""

    def progressed(self, text: str) -> None:
        """One line about a piece of the work that `progress` counts, which only those want who do not see that."""

    def found(self, part: Any) -> None:
        """A part of the result, as soon as it is there; and the whole, before it is written as a report.

        A part is the `UpscaleResult` of each picture of `upscale`, and a `BenchResult` with the rows of one section, of
        which the first has none.
        """

    def stopped(self) -> bool:
        """Whether training should save its state and end; asked after every iteration."""
        return False

    def traceback(self, error: BaseException) -> None:
        """An error that became part of the result; whoever looks for a bug wants to know where it came from."""

    @contextmanager
    def progress(self, name: str, unit: str) -> Iterator[Advance]:
        """Around a piece of work; what it yields may be called from any thread.

        Args:
            name: of the work.
            unit: what is counted, in the plural: windows, pictures, scores, bytes.
        """
        yield lambda *_, **__: None


SILENT = Listener()


class Logger(Listener):
    """Writes warnings to Python's logger "bidiffsr", and nothing else."""

    def warning(self, text: str) -> None:
        """By `logging`: the `warnings` module loses some where threads switch others off, as those of `batch` do."""
        import logging

        logging.getLogger("bidiffsr").warning(text)


def load_model(name: str, listener: Listener, *, offline: bool = False) -> Checkpoint:
    """As `load_checkpoint`; the listener sees how a model is fetched that is not on this machine."""
    from ..checkpoints.models import load_checkpoint

    with listener.progress(name, "bytes") as progress:
        return load_checkpoint(name, offline=offline, progress=progress)


def load_resolver(name: str, machine: Machine, listener: Listener, *, offline: bool = False) -> SuperResolver:
    """Likewise as `SuperResolver.from_pretrained`: a model that is ready to run."""
    from ..pipeline import SuperResolver

    with listener.progress(name, "bytes") as progress:
        return SuperResolver.from_pretrained(name, offline=offline, on_download=progress, **vars(machine))


def as_function(
    request: Callable[Parameters, Request], run: Callable[[Request, Listener], Result]
) -> Callable[Parameters, Result]:
    """The function that takes a request's fields, for callers who do not listen: warnings are logged."""

    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return run(request(*args, **kwargs), Logger())

    call.__name__ = call.__qualname__ = run.__module__.rpartition(".")[2]
    call.__module__, call.__doc__ = run.__module__, f"{inspect.getdoc(run)}\n\n{inspect.getdoc(request)}"
    returned = inspect.signature(run).return_annotation
    call.__signature__ = inspect.signature(request).replace(return_annotation=returned)  # type: ignore[attr-defined]
    return call
