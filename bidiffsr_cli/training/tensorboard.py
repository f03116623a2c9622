"""The log of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import UsageError
from .run import LogLine


def tensorboard_writer(folder: Path) -> Callable[[LogLine], None]:
    """A function that writes lines of the log to `folder`/tensorboard.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        hint = "In a checkout of bidiffsr: pip install '.[tensorboard]'"
        raise UsageError("TensorBoard is not installed.", hint) from None
    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(line: LogLine) -> None:
        for name, value in _flat(line):
            writer.add_scalar(name, value, line["iteration"])
        writer.flush()

    return write


def _flat(line: LogLine, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
