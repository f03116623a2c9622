"""What is done: a journal in the output folder says which result was made of which picture with which settings.

A result is written in two lines: one before, which says whose it will be, and one after, which says what it is. So a
crash at any moment leaves either a whole result that is known, or one that is known to be ours and is made again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.files import sha256_of
from ..errors import OutputError
from ..journal import Journal, read_entries
from .folder import Job

FOLDER = ".bidiffsr"


class Ledger:
    """The journal of one process, and what it knows of those of others.

    Args:
        output: folder of the results.
        settings: all that results depend on besides their pictures.
        shard: of this process; each has a journal of its own.

    Raises:
        OutputError: the folder cannot be written, or another process does the same part.
    """

    def __init__(self, output: Path, settings: dict[str, Any], shard: tuple[int, int]) -> None:
        self.output = output
        self.settings = json.dumps(settings, sort_keys=True)
        folder = output / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{output}' cannot be written: {error.strerror}.", "Choose another folder.") from None
        self.journal = Journal(folder / f"done-{shard[0]}-of-{shard[1]}.jsonl")
        self._lock = threading.Lock()
        self._others = [read_entries(path) for path in sorted(folder.glob("done-*.jsonl")) if path != self.journal.path]

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.__exit__()

    def key(self, job: Job) -> str:
        """What a result depends on, as a name."""
        status = job.source.stat()
        value = [job.name, status.st_size, status.st_mtime_ns, self.settings]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]

    def is_done(self, job: Job) -> bool:
        """Whether the result is there, whole, and made of the picture as it is now."""
        return self._made(job) is not None

    def is_ours(self, job: Job) -> bool:
        """Whether a result that is there was made here: it is what was noted, or was being written when a run ended."""
        entries = self._entries(job)
        return any(entry == {} or _fits(job.target, entry) for entry in entries)

    def foreign(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose results are there and were not made here, or were changed since."""
        return [job for job in jobs if job.target.exists() and not self.is_ours(job)]

    def begin(self, job: Job) -> None:
        """Note that the result is about to be written."""
        self._add(job, {})

    def abandon(self, job: Job) -> None:
        """Note that it was not written after all."""
        self._add(job, None)

    def finish(self, job: Job, key: str, result: dict[str, Any]) -> None:
        """Note what was written, of the picture as it was when it was read."""
        status = job.target.stat()
        self._add(
            job,
            {
                "key": key,
                "bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": sha256_of(job.target),
                "result": result,
            },
        )

    def result(self, job: Job) -> dict[str, Any]:
        """What was noted of a result that is done."""
        made = self._made(job)
        assert made is not None
        found: dict[str, Any] = made["result"]
        return found

    def _made(self, job: Job) -> dict[str, Any] | None:
        key = self.key(job)
        return next(
            (entry for entry in self._entries(job) if entry.get("key") == key and _fits(job.target, entry)), None
        )

    def _entries(self, job: Job) -> list[dict[str, Any]]:
        """What each journal says last of a result."""
        name = job.target.relative_to(self.output).as_posix()
        found = [entries.get(name) for entries in (self.journal.entries, *self._others)]
        return [entry for entry in found if isinstance(entry, dict)]

    def _add(self, job: Job, entry: dict[str, Any] | None) -> None:
        with self._lock:
            self.journal.add(job.target.relative_to(self.output).as_posix(), entry)


def _fits(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is what was noted."""
    try:
        status = path.stat()
        if "sha256" not in entry or status.st_size != entry["bytes"]:
            return False
        return status.st_mtime_ns == entry["mtime_ns"] or sha256_of(path) == entry["sha256"]
    except OSError:
        return False
