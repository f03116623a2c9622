"""How far the pictures of a folder are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .jobs import Job


class FolderProgress:
    """How far a folder is. The share that is done goes by the files' sizes, as small pictures come first.

    Args:
        left: pictures that are to be done.
        advance: is told how many are, their `share`, what is the `current` one, and how far that is as `detail`.
    """

    def __init__(self, left: Sequence[Job], advance: Callable[..., None]) -> None:
        self._count, self._advance = len(left), advance
        self._bytes = sum(job.status.bytes for job in left) or 1
        self._finished = self._passed = 0
        self._begun: dict[Job, float] = {}

    def watch(self, job: Job, passes: int, total: int) -> None:
        """A window of a picture is done."""
        self._begun[job] = passes / total
        self._tell(job, f", {passes}/{total} windows")

    def finish(self, job: Job) -> None:
        """A picture is written, or has failed."""
        self._finished += 1
        self._passed += job.status.bytes
        self._begun.pop(job, None)
        self._tell(next(iter(self._begun.copy()), job))

    def _tell(self, job: Job, detail: str = "") -> None:
        begun = sum(part * job.status.bytes for job, part in self._begun.copy().items())
        share = (self._passed + begun) / self._bytes
        self._advance(self._finished, self._count, share=share, current=job.name, detail=detail)
