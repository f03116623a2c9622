"""Everything that can go wrong in a way the user can act on.

Each error carries one sentence saying what is wrong, a hint saying what to do, and the exit code of the command line:
0 done · 1 unexpected · 2 usage · 3 some pictures of many failed · 4 input missing or unreadable · 5 model unavailable ·
6 out of memory or device absent · 130 interrupted.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/"
LFS_HINT = "Fetch that: git lfs pull"
NO_MEMORY = re.compile(
    r"out of memory|out_of_(host|device)_memory|out_of_resources|allocate memory|alloc(ation)?_?failed|bad_alloc"
    r"|invalid buffer size|failed to map segment",
    re.IGNORECASE,
)
"""How torch's allocators say so, and what computes for it: C++, CUDA, cuDNN, cuBLAS, AMD's twins of them, SYCL, MPS."""


class BidiffsrError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: One sentence: what is wrong.
        hint: What the user can do about it; may be empty.
        exit_code: What the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BidiffsrError):
    """An option or argument has a value that cannot work."""

    exit_code = 2


class OutputError(UsageError):
    """The output cannot be written where it was asked for."""


class StorageError(OutputError):
    """Storage fails: whatever else is to be written there would fail as well."""


class DiskFullError(StorageError):
    """The disk is full."""


class InputError(BidiffsrError):
    """A picture is missing, or is not one that can be read."""

    exit_code = 4


class ModelError(BidiffsrError):
    """A model is unknown or cannot be had."""

    exit_code = 5


class CheckpointError(ModelError):
    """A checkpoint file is damaged, or is not one of ours."""


class DeviceError(BidiffsrError):
    """The device is absent, or memory does not suffice."""

    exit_code = 6


def check_least(least: float, **values: float | None) -> None:
    """Raise UsageError if one of the values, which are named as Python names them, is less; None stands for none."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise UsageError(f"{name}={value} is not possible.", f"Give {least} or more.")


@contextlib.contextmanager
def said_of(file: str) -> Iterator[None]:
    """Put a file's name before what an InputError says."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error.message}", error.hint) from None


def check_no_pointer(path: Path) -> None:
    """Raise CheckpointError if a file is what Git LFS leaves in a clone where the file itself was not fetched."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CheckpointError(f"{path.name} is a Git LFS pointer, not the file that it stands for.", LFS_HINT)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in any of the ways in which Python, the system's loader of libraries and torch say so."""
    told = isinstance(error, RuntimeError | ImportError | OSError) and NO_MEMORY.search(str(error)) is not None
    return isinstance(error, MemoryError) or told or type(error).__name__ == "OutOfMemoryError"


def explained(error: BaseException) -> BidiffsrError:
    """Whatever was raised as an error that says it in one sentence."""
    if isinstance(error, BidiffsrError):
        return error
    if is_out_of_memory(error):
        return out_of_memory()
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):  # such as under `ulimit -u`
        return DeviceError("The system gives this process no more threads.", "Raise the limit: ulimit -u")
    detail = " ".join(str(error).split())  # one line, whatever the library wrote
    name = type(error).__name__
    if name == "AcceleratorError":  # torch's: the device is busy or lost, or the driver fails
        first_line = str(error).partition("\n")[0]
        return DeviceError(f"The device fails ({first_line}).", "Add --device cpu to do without it.")
    sentence = f"Something unexpected happened ({f'{name}: {detail}' if detail else name})."
    return BidiffsrError(sentence, "Run it again with --debug for the traceback.")


def out_of_memory() -> DeviceError:
    """The error that all of them become."""
    return DeviceError("Memory ran out.", "Give a smaller --tile, fewer --threads, or a smaller picture.")
