"""How far the pictures of a folder are, as a bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ._output import out

if TYPE_CHECKING:
    from ..distributed.folder import Job


class FolderBar:
    """How far a folder is. The time that is left goes by the files' sizes, as small pictures come first."""

    def __init__(self, left: Sequence[Job]) -> None:
        self.left = left
        self._bytes = sum(job.status.bytes for job in left) or 1
        self._finished = self._passed = 0
        self._begun: dict[Job, float] = {}
        self._show: Callable[..., None] = lambda *_: None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While the work is done."""
        with out.count("pictures", "pictures") as self._show:
            yield

    def watch(self, job: Job, passes: int, total: int) -> None:
        """A window of a picture is done."""
        self._begun[job] = passes / total
        self._update(job, f", {passes}/{total} windows")

    def finish(self, job: Job) -> None:
        """A picture is written, or has failed."""
        self._finished += 1
        self._passed += job.status.bytes
        self._begun.pop(job, None)
        self._update(next(iter(self._begun.copy()), job))

    def _update(self, job: Job, far: str = "") -> None:
        begun = sum(part * job.status.bytes for job, part in self._begun.copy().items())
        self._show(self._finished, len(self.left), (self._passed + begun) / self._bytes, job.name, far)
