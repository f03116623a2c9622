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
        self.known: dict[str, Any] = {}
        for path in sorted(folder.glob("done-*.jsonl")):
            self.known |= self.journal.entries if path == self.journal.path else read_entries(path)

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
        entry = self.known.get(job.target.relative_to(self.output).as_posix())
        if not entry or "sha256" not in entry or entry["key"] != self.key(job):
            return False
        try:
            status = job.target.stat()
        except OSError:
            return False
        if status.st_size != entry["bytes"]:
            return False
        return status.st_mtime_ns == entry["mtime_ns"] or _sha256(job.target) == entry["sha256"]

    def is_ours(self, job: Job) -> bool:
        """Whether a result that is there was made here, in whatever state it is."""
        return job.target.relative_to(self.output).as_posix() in self.known

    def foreign(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose results are there and were not made here."""
        return [job for job in jobs if job.target.exists() and not self.is_ours(job)]

    def begin(self, job: Job) -> None:
        """Note that the result is about to be written."""
        self._add(job, {})

    def finish(self, job: Job, key: str, result: dict[str, Any]) -> None:
        """Note what was written, of the picture as it was when it was read."""
        status = job.target.stat()
        self._add(
            job,
            {
                "key": key,
                "bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": _sha256(job.target),
                "result": result,
            },
        )

    def result(self, job: Job) -> dict[str, Any]:
        """What was noted of a result that is done."""
        found: dict[str, Any] = self.known[job.target.relative_to(self.output).as_posix()]["result"]
        return found

    def _add(self, job: Job, entry: dict[str, Any]) -> None:
        name = job.target.relative_to(self.output).as_posix()
        with self._lock:
            self.journal.add(name, entry)
            self.known[name] = entry


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
