"""What is done: a journal in the output folder says which result was made of which picture with which settings.

    ledger = Ledger(output, settings, shard)      # reads the journals of all processes
    done, foreign = ledger.survey(jobs)
    with ledger:                                  # opens a journal for this process, and keeps others out of its part
        ledger.finish(outcome)

What a result is about to become is noted beside the journal before it is written (`Folder.claim`), and in the journal
afterwards. So a crash at any moment leaves either a whole result that is known, or one that is known to be ours by its
content and is made again; what a user put in its place meanwhile is never taken for ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..options import PIXELS
from .jobs import Job
from .storage import Folder, Notes, Status
from .work import Outcome


class Ledger:
    """What the journals in a folder say; as a context, also the journal of this process.

    Args:
        output: folder of the results.
        settings: all that results depend on besides their pictures and `PIXELS`.
        shard: of this process; each has a journal of its own.

    Raises:
        OutputError: a journal cannot be read; on entering, the folder cannot be written, or another process does the
            same part.
    """

    def __init__(self, output: Folder, settings: dict[str, Any], shard: tuple[int, int]) -> None:
        self.output, self.shard = output, shard
        self.settings = json.dumps(settings, sort_keys=True)
        self.journal: Notes | None = None
        self._lock = threading.Lock()
        self._known = output.entries()

    def __enter__(self) -> Ledger:
        self.journal = self.output.journal(self.shard)
        return self

    def __exit__(self, *_: object) -> None:
        if self.journal:
            self.journal.close()

    def key(self, job: Job) -> str:
        """What a result depends on, as a name; the picture is as it was found, so that a later one is another."""
        value = [job.name, job.status.bytes, job.status.version, self.settings]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]

    def survey(self, jobs: Sequence[Job]) -> tuple[dict[Job, dict[str, Any]], dict[Job, str]]:
        """What is there already.

        Returns:
            The jobs whose results are there, whole, and made of their pictures as they are now, each to what was noted;
            and of the others those whose results are there and are not theirs, each to the other picture of which its
            result was made, or "" where it was not made here, or was changed since.
        """
        done, foreign = dict[Job, dict[str, Any]](), dict[Job, str]()
        there = self.output.statuses([job.result for job in jobs])
        for job in jobs:
            status = there.get(job.result)
            current = (entry for entry in self._made(job) if _pixels(entry) == PIXELS)
            made = next((entry for entry in current if self._fits(job, status, entry)), None)
            if made is not None:
                done[job] = made["result"]
            elif status and not self._is_ours(job, status):
                fitting = (entry for entry in self._entries(job) if self._fits(job, status, entry))
                foreign[job] = next(map(_source, fitting), "")
        return done, foreign

    def outdated(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that would be done already, had this version not other pixels than the one that made them."""
        return [job for job in jobs if any(_pixels(entry) != PIXELS for entry in self._made(job))]

    def is_ours(self, job: Job) -> bool:
        """Whether a result that is there was made here, of a picture with the same name.

        It is what was noted, or was being written when a run ended.
        """
        return self._is_ours(job, self.output.status(job.result))

    def finish(self, outcome: Outcome) -> None:
        """Note what was written.

        Raises:
            OutputError: it is not there.
        """
        job = outcome.job
        status = self.output.status(job.result)
        if status is None:
            raise OutputError(f"'{job.target}' was written, and is not there.", "Give storage that all nodes share.")
        entry = {"key": self.key(job), "bytes": status.bytes, "version": status.version, "sha256": outcome.sha256}
        assert self.journal
        with self._lock:
            self.journal.add(job.result, entry | {"pixels": PIXELS, "result": outcome.result})
        self.output.release(job.result)

    def _made(self, job: Job) -> list[dict[str, Any]]:
        """What journals say of results of this very picture with these settings."""
        key = self.key(job)
        return [entry for entry in self._entries(job) if entry.get("key") == key and _is_result(entry.get("result"))]

    def _is_ours(self, job: Job, status: Status | None) -> bool:
        noted = any(_names(entry, job) and self._fits(job, status, entry) for entry in self._entries(job))
        return noted or (status is not None and self.output.is_claimed(job.result))

    def _fits(self, job: Job, status: Status | None, entry: dict[str, Any]) -> bool:
        """Whether a result is what was noted."""
        if status is None or not entry.get("sha256") or status.bytes != entry.get("bytes"):
            return False
        if status.version and status.version == entry.get("version"):
            return True
        with contextlib.suppress(InputError):  # what cannot be read is not what was written
            return hashlib.sha256(self.output.read(job.result)).hexdigest() == entry["sha256"]
        return False

    def _entries(self, job: Job) -> list[dict[str, Any]]:
        """What each journal says last of a result."""
        own = [self.journal.entries] if self.journal else []
        found = [entries.get(job.result) for entries in (*own, *self._known)]
        return [entry for entry in found if isinstance(entry, dict)]


def _pixels(entry: dict[str, Any]) -> Any:
    """The `PIXELS` of the version that made a result; the first one did not note it."""
    return entry.get("pixels", 1)


def _source(entry: dict[str, Any]) -> str:
    """The picture of which a result was made, as it was given; empty if that is not noted."""
    result = entry.get("result")
    source = result.get("input") if isinstance(result, dict) else None
    return source if isinstance(source, str) else ""


def _names(entry: dict[str, Any], job: Job) -> bool:
    """Whether a result was made of a picture of the same name, as far as is noted; its folder is the result's."""
    source = _source(entry)
    return not source or Path(source).name == Path(job.name).name


def _is_result(value: Any) -> bool:
    """Whether a journal says of a result what is written there; it may have been changed by anybody."""
    return isinstance(value, dict) and isinstance(value.get("status"), str)
