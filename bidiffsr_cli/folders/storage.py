"""Where the pictures are and where the results go: a folder of this machine (`disk`), or one behind a URL (`remote`).

    folder = open_folder("photos")              # or "s3://bucket/photos"
    for name, status in folder.contents().pictures.items():
        picture = read_picture(folder.fetch(name, status.bytes), name=folder.where(name))

A folder is sent to other machines as it is: it holds where it lies and no connection. The names of its files have
slashes between their parts, on every system.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError

LONGEST_CLAIM = 1 << 16
NOTES = ".bidiffsr"
"""Folder in that of the results which remembers what is done."""


@dataclass(frozen=True)
class Status:
    """What tells whether a file has changed, without reading it.

    Attributes:
        bytes: its size.
        version: when it was modified, or what else the storage changes with it; empty where that says nothing.
    """

    bytes: int
    version: str


ABSENT = Status(0, "")
"""Of a link to nothing."""


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Attributes:
        pictures: by name.
        others: how many other files there are, by suffix.
        closed: a sentence for each folder in it that cannot be listed.
    """

    pictures: dict[str, Status]
    others: Counter[str]
    closed: list[str]


class Notes(Protocol):
    """A journal, wherever it lies."""

    entries: dict[str, Any]

    def add(self, key: str, value: Any) -> None:
        """Write an entry down."""

    def close(self) -> None:
        """Let others have it."""


class Folder(ABC):
    """Files with names; `str` gives it as people name it."""

    @abstractmethod
    def where(self, name: str) -> str:
        """A file as people name it."""

    @abstractmethod
    def name(self) -> str:
        """The folder's own name."""

    @abstractmethod
    def identity(self, name: str = "") -> tuple[str, ...]:
        """Where a file or the folder itself really is; what lies in a folder begins with the folder's own."""

    def can_name(self, name: str) -> bool:
        """Whether a file in it can have a name; one that comes from a store may be anything."""
        return not {"", ".", ".."} & set(name.split("/")) and "\0" not in name

    @abstractmethod
    def sibling(self, ending: str) -> Folder:
        """The folder beside it whose name has an ending more.

        Raises:
            UsageError: it is no folder in another.
        """

    @abstractmethod
    def contents(self, *, recursive: bool = True) -> Contents:
        """The picture files in it, and in the folders in it, by name; hidden ones are left out.

        Raises:
            InputError: there is no such folder, or it cannot be read.
        """

    @abstractmethod
    def status(self, name: str) -> Status | None:
        """Of a file; None if it is not there.

        Raises:
            StorageError: the storage does not answer.
        """

    def statuses(self, names: Iterable[str]) -> dict[str, Status]:
        """Of those of many files that are there. Raises StorageError as `status`."""
        return {name: found for name in names if (found := self.status(name))}

    @abstractmethod
    def fetch(self, name: str, size: int) -> Path | bytes:
        """What a picture is read from: the file, or its first `size` bytes where it is far away.

        Raises:
            InputError: it is not there, or cannot be read.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: it is not there, or cannot be read.
        """

    @abstractmethod
    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write a file, and the folders that it is in.

        Raises:
            OutputError: it exists, or cannot be written there.
            StorageError: nothing more can be written there.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OutputError: it cannot be removed.
        """

    def claim(self, name: str, data: bytes) -> str:
        """Note what a file is about to become, in case that the process dies before it can note that it did.

        Returns:
            The sha256 of the data, in hexadecimal.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        note = {"name": name, "bytes": len(data), "sha256": sha256}
        self.write(_claim(name), json.dumps(note).encode(), overwrite=True)
        return sha256

    def is_claimed(self, name: str) -> bool:
        """Whether a file is what such a note says, to the last byte: a user's own file never is."""
        if (status := self.status(name)) is None:
            return False
        if (noted := self.status(_claim(name))) is None or noted.bytes > LONGEST_CLAIM:
            return False
        try:
            note = json.loads(self.read(_claim(name)))
            if not isinstance(note, dict) or note.get("name") != name or note.get("bytes") != status.bytes:
                return False
            return hashlib.sha256(self.read(name)).hexdigest() == note.get("sha256")
        except (InputError, ValueError, RecursionError):
            return False

    def release(self, name: str) -> None:
        """Remove the note."""
        self.remove(_claim(name))

    @abstractmethod
    def journal(self, shard: tuple[int, int]) -> Notes:
        """The journal of a process that does a part of the work.

        Raises:
            OutputError: it cannot be written, or another process does the same part.
        """

    @abstractmethod
    def entries(self) -> list[dict[str, Any]]:
        """What the journals of all processes say; nothing is written.

        Raises:
            OutputError: they cannot be read.
        """


def _claim(name: str) -> str:
    return f"{NOTES}/begun/{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
