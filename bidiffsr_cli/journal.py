"""A file that remembers what is done: one JSON object a line, written down to the disk before the work goes on.

    with Journal(folder / "scores.jsonl") as journal:
        if journal.get(key) is None:
            journal.add(key, work())

Whatever kills the process, at most the line in hand is lost; what is left of it is cut off when the file is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Self

from filelock import lock_descriptor

from .atomic import cannot_write, open_plain
from .errors import OutputError, StorageError


class Journal:
    """Keys and values, in the order in which they were added; of a key that was added twice the last value counts.

    Args:
        path: of the file; made if it is not there.

    Raises:
        OutputError: it cannot be written, is something else, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        try:
            self._file = os.fdopen(open_plain(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+b", buffering=0)
            self._lock()
            self._read()
        except OSError as error:
            raise OutputError(
                f"'{path}' cannot be written: {error.strerror or error}.", "Choose another folder."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes have it."""
        with contextlib.suppress(OSError):
            self._file.close()

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        return self.entries.get(key)

    def add(self, key: str, value: Any) -> None:
        """Write an entry down to the disk, whole or not at all.

        Raises:
            OutputError: it cannot be written.
            StorageError: it is gone, or the disk is full.
        """
        if not self.path.exists():
            raise StorageError(f"'{self.path}' was removed or moved meanwhile.", "Run it again.")
        rest = memoryview((json.dumps({"key": key, "value": value}, separators=(",", ":")) + "\n").encode())
        before = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # a part of a line would spoil those behind it
                self._file.truncate(before)
            raise cannot_write(self.path, error) from None
        self.entries[key] = value

    def _lock(self) -> None:
        """Keep other processes out for as long as the file is open; the system lets go of it whatever ends this one."""
        try:
            alone = lock_descriptor(self._file.fileno(), blocking=False)
        except OSError:  # some network file systems have no locks
            return
        if not alone:
            self._file.close()
            raise OutputError(
                f"Another process works in '{self.path.parent}'.", "Wait for it, or choose another folder."
            )

    def _read(self) -> None:
        """Read the whole lines; what stands behind the last sound one is cut off."""
        self._file.seek(0)
        data = self._file.read()
        self.entries, whole = _parse(data)
        rest = data[whole:].splitlines(keepends=True)
        if len(rest) > 1 or (rest and not whole and rest[0].endswith(b"\n")):  # a crash tears the last line alone
            self._file.close()
            raise OutputError(
                f"'{self.path}' is not a journal of bidiffsr, or was changed.",
                "Move it away, or choose another folder.",
            )
        self._file.truncate(whole)


def read_entries(path: Path) -> dict[str, Any]:
    """What a journal holds that another process may have open.

    Its first byte, a brace, is not read: it is the one that is locked, and on Windows that keeps readers out as well.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb", buffering=0) as file:
            file.seek(1)
            return _parse(b"{" + file.readall())[0]
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror or error}.", "Check its permissions.") from None


def _parse(data: bytes) -> tuple[dict[str, Any], int]:
    """The entries of all lines up to the first unsound one, and how many bytes they take."""
    entries: dict[str, Any] = {}
    whole = 0
    for line in data.splitlines(keepends=True):
        entry = None
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
        if not line.endswith(b"\n") or not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            break
        entries[entry["key"]] = entry.get("value")
        whole += len(line)
    return entries, whole
