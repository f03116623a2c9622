"""Folders behind URLs, such as s3://bucket/photos: whatever fsspec reaches; and `open_folder`, for any kind of folder.

Object stores put a file whole or not at all. They know no locks and no lines that are added to a file, so there is an
object for each entry of the journal. Names are joined to the folder's path as they are: nothing in them is taken for a
URL or a pattern.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import BidiffsrError, InputError, OutputError, StorageError, UsageError, is_out_of_memory
from ..images.listing import is_hidden, is_picture
from .disk import LocalFolder
from .storage import NOTES, Contents, Folder, Notes, Status

VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "sha", "blob_id"),
    *("LastModified", "last_modified", "mtime", "updated", "modified", "modify", "last_write_time", "created"),
)
"""What stores call that which changes with a file, the surest first."""
AT_ONCE = 16
"""Objects that are read at a time."""
HINT = "Check the URL, the network and the credentials."


@dataclass(frozen=True)
class RemoteFolder(Folder):
    """Files whose names begin with that of the folder."""

    url: str

    def __str__(self) -> str:
        return self.url

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def identity(self, name: str = "") -> tuple[str, ...]:
        fs, root = _store(self.url)
        return (f"{hash(fs):x}", *root.split("/"), *(name.split("/") if name else ()))

    def can_name(self, name: str) -> bool:
        encodable = name.encode("utf-8", "ignore").decode() == name  # unlike what a file system may hold
        return super().can_name(name) and encodable

    def sibling(self, ending: str) -> Folder:
        if "/" not in _store(self.url)[1].strip("/"):
            raise UsageError(f"There is no folder beside '{self}'.", "Say with -o where the results go.")
        return RemoteFolder(self.url + ending)

    def contents(self, *, recursive: bool = True) -> Contents:
        with _told(self, "read", InputError):
            found = self._find()
        meant = {name: status for name, status in found.items() if recursive or "/" not in name}
        pictures = {name: status for name, status in meant.items() if is_picture(name)}
        others = (name for name in meant if name not in pictures and not is_hidden(name))
        by_suffix = Counter(PurePosixPath(name).suffix.lower() for name in others)
        return Contents(dict(sorted(pictures.items(), key=lambda item: item[0].split("/"))), by_suffix, [])

    def status(self, name: str) -> Status | None:
        fs, _ = _store(self.url)
        with _told(self.where(name), "looked up"):
            fs.invalidate_cache()
            try:
                return _status(fs.info(self._path(name)))
            except FileNotFoundError:
                return None

    def statuses(self, names: Iterable[str]) -> dict[str, Status]:
        with _told(self, "read"):
            found = self._find()
        return {name: found[name] for name in names if name in found}

    def fetch(self, name: str, size: int) -> Path | bytes:
        if size == 0:
            return b""  # no range is in it
        with _told(self.where(name), "read", InputError):
            content: bytes = _store(self.url)[0].cat_file(self._path(name), start=0, end=size)
            return content

    def read(self, name: str) -> bytes:
        with _told(self.where(name), "read", InputError):
            content: bytes = _store(self.url)[0].cat_file(self._path(name))
            return content

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        fs, _ = _store(self.url)
        with _told(self.where(name), "written"):
            try:
                if not overwrite and self.status(name):  # not every store knows the mode
                    raise FileExistsError
                fs.pipe_file(self._path(name), data, mode="overwrite" if overwrite else "create")
            except FileExistsError:
                raise OutputError(
                    f"'{self.where(name)}' exists already.", "Choose another folder, or use --overwrite."
                ) from None

    def remove(self, name: str) -> None:
        with _told(self.where(name), "removed"), contextlib.suppress(FileNotFoundError):
            _store(self.url)[0].rm_file(self._path(name))

    def journal(self, shard: tuple[int, int]) -> Notes:
        self.write(f"{NOTES}/opened", b"", overwrite=True)  # fails now rather than after the first picture
        return ObjectJournal(self)

    def entries(self) -> list[dict[str, Any]]:
        with _told(self, "read"), ThreadPoolExecutor(AT_ONCE) as pool:
            names = [name for name in self._find(f"{NOTES}/done") if name.endswith(".json")]
            return [dict(pool.map(self._entry, names))]

    def _entry(self, name: str) -> tuple[str, Any]:
        """(key, value) of an object of the journal."""
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(self.read(name))
            if isinstance(entry, dict) and isinstance(entry.get("key"), str):
                return entry["key"], entry.get("value")
        where = self.where(name)
        raise OutputError(f"'{where}' is not a journal's entry, or was changed.", "Remove it, or choose another -o.")

    def _path(self, name: str) -> str:
        return f"{_store(self.url)[1]}/{name}"

    def _find(self, folder: str = "") -> dict[str, Status]:
        """All files by name, read anew."""
        fs, root = _store(self.url)
        fs.invalidate_cache()
        found = fs.find(self._path(folder) if folder else root, detail=True)
        return {path[len(root) + 1 :]: _status(info) for path, info in found.items() if path.startswith(f"{root}/")}


class ObjectJournal:
    """A journal of one object for each key; its `entries` are those that were added since."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder
        self.entries: dict[str, Any] = {}

    def add(self, key: str, value: Any) -> None:
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        data = json.dumps({"key": key, "value": value}, separators=(",", ":")).encode()
        self._folder.write(f"{NOTES}/done/{name}.json", data, overwrite=True)
        self.entries[key] = value

    def close(self) -> None:
        """There is nothing to let go of."""


def open_folder(text: str, *, absolute: bool = False) -> Folder:
    """A folder of this machine, given as a path or a file:// URL, or one in a store, given as another URL.

    Args:
        text: path or URL.
        absolute: make a path absolute, for processes whose current folder is another.

    Raises:
        UsageError: the URL is of a kind that is unknown, or whose package is missing.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return LocalFolder(Path(text).absolute() if absolute else Path(text))
    if "::" in text:
        raise UsageError(f"'{text}' is a chain of URLs.", "Give one URL.")
    if re.match(r"[^/]*://[^/@]*:[^/]*@", text):
        raise UsageError("A URL with a password would stand in reports.", "Give it as the store's own settings.")
    url = text if text.endswith("://") else text.rstrip("/")
    scheme = url.partition(":")[0]
    try:
        fs, path = _store(url)
    except ImportError as error:
        hint = "In a checkout of bidiffsr: pip install '.[s3]'" if scheme in ("s3", "s3a") else f"{_reason(error)}."
        raise UsageError(f"The package that reads {scheme}:// is not installed.", hint) from None
    except Exception as error:
        raise UsageError(f"'{url}' cannot be opened: {_reason(error)}.", "Check the URL.") from None
    if not path.strip("/"):
        raise UsageError(f"'{url}' names no folder.", "Give one, such as s3://bucket/photos.")
    return LocalFolder(Path(path)) if "file" in fs.protocol else RemoteFolder(url)


@lru_cache(maxsize=64)
def _store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the folder's path in it; one for each process."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    fs, path = url_to_fs(url)
    return fs, path.rstrip("/")


def _status(info: dict[str, Any]) -> Status:
    version = next((str(info[key]) for key in VERSIONS if info.get(key)), "")
    return Status(int(info.get("size") or 0), version.strip('"'))


@contextlib.contextmanager
def _told(where: object, what: str, kind: type[BidiffsrError] = StorageError) -> Iterator[None]:
    """Whatever a store raises, as a sentence; there is no telling what comes from which library."""
    try:
        yield
    except BidiffsrError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        hint = "Check its name." if kind is InputError and isinstance(error, FileNotFoundError) else HINT
        raise kind(f"'{where}' cannot be {what}: {_reason(error)}.", hint) from error


def _reason(error: BaseException) -> str:
    """One line of what a library says."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
