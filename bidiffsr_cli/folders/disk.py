"""A folder of this machine's file systems, with the journals in it that say what is done."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import A_DAY, read_plain, sweep, write_atomic
from ..errors import InputError, OutputError
from ..images.listing import list_folder
from ..journal import Journal, read_entries
from .storage import ABSENT, NOTES, Contents, Folder, Notes, Status

LONGEST_NAME = 255  # bytes


@dataclass(frozen=True)
class LocalFolder(Folder):
    """A folder of this machine's file systems, be it on its own disk or on one that others share."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def where(self, name: str) -> str:
        return str(self.path / name)

    def name(self) -> str:
        return self.path.resolve().name

    def identity(self, name: str = "") -> tuple[str, ...]:
        return (self.path / name).resolve().parts

    def sibling(self, ending: str) -> Folder:
        path = Path(os.path.abspath(self.path))  # noqa: PTH100 - Path.resolve would follow links
        return LocalFolder(path.with_name(path.name + ending))

    def can_name(self, name: str) -> bool:
        possible = os.sep == "/" or not set(name) & set('\\:*?"<>|')
        return super().can_name(name) and possible and all(_fits(part) for part in name.split("/"))

    def contents(self, *, recursive: bool = True) -> Contents:
        if not self.path.is_dir():
            raise InputError(f"There is no folder '{self.path}'.", "Check its name.")
        listing = list_folder(self.path, recursive=recursive)
        names = [path.relative_to(self.path).as_posix() for path in listing.pictures]
        closed = [f"'{path}' cannot be listed: {reason}." for path, reason in listing.closed.items()]
        return Contents({name: self.status(name) or ABSENT for name in names}, listing.others, closed)

    def status(self, name: str) -> Status | None:
        try:
            found = (self.path / name).stat()
        except OSError:
            return None
        return Status(found.st_size, str(found.st_mtime_ns))

    def fetch(self, name: str, size: int) -> Path | bytes:
        return self.path / name

    def read(self, name: str) -> bytes:
        try:
            path = self.path / name
            return read_plain(path) if name.startswith(f"{NOTES}/") else path.read_bytes()
        except OSError as error:
            raise InputError(f"'{self.where(name)}' cannot be read: {error.strerror}.", "Check its folder.") from None

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(data, path, overwrite=overwrite)

    def remove(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"'{self.where(name)}' cannot be removed: {error.strerror}.", "Check its folder."
            ) from None

    def journal(self, shard: tuple[int, int]) -> Notes:
        try:
            (self.path / NOTES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{self}' cannot be written: {error.strerror}.", "Choose another folder.") from None
        for place in (self.path, self.path / NOTES / "begun"):
            sweep(place, older_than=A_DAY)  # others may be at work
        return Journal(self.path / NOTES / f"done-{shard[0]}-of-{shard[1]}.jsonl")

    def entries(self) -> list[dict[str, Any]]:
        return [read_entries(path) for path in sorted((self.path / NOTES).glob("done-*.jsonl"))]


def _fits(name: str) -> bool:
    """Whether a name is short enough for the usual file systems."""
    return len(os.fsencode(name)) <= LONGEST_NAME
