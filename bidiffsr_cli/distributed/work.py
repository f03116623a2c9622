"""What every engine does with one picture, and what it says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from ..atomic import write_atomic
from ..configs import UpscaleOptions
from ..enlarging import Writing, encode_result
from ..errors import BidiffsrError, DiskFullError, is_out_of_memory, out_of_memory
from ..images import Picture, read_picture
from ..pipeline import SuperResolver
from ..results import UpscaleResult
from .folder import Job

Done = TypeVar("Done")


@dataclass(frozen=True)
class Work:
    """How every picture is enlarged.

    Attributes:
        model: as `--model` takes it.
        machine: device, precision, backend and threads, as for `choose_runtime`.
        options: of the diffusion.
        writing: of the files.
        overwrite: replace also what was not made here.
    """

    model: str
    machine: tuple[tuple[str, Any], ...]
    options: UpscaleOptions
    writing: Writing
    overwrite: bool = False

    def resolver(self, device: str | None = None) -> SuperResolver:
        """The model, ready to run; one for each device and process."""
        machine = dict(self.machine)
        return _resolver(self.model, tuple((machine | ({"device": device} if device else {})).items()))


@lru_cache(maxsize=16)
def _resolver(model: str, machine: tuple[tuple[str, Any], ...]) -> SuperResolver:
    return SuperResolver.from_pretrained(model, offline=True, **dict(machine))


@dataclass(frozen=True)
class Outcome:
    """What came of a picture.

    Attributes:
        job: which one.
        result: its figures, as `UpscaleResult.to_dict`; of a failed one only input, output and status.
        error: why it failed, one sentence; empty if it did not.
        seconds: from reading to writing.
    """

    job: Job
    result: dict[str, Any]
    error: str = ""
    seconds: float = 0.0


def decode(job: Job, work: Work) -> Picture:
    """Read a picture, and check that its result can be written."""
    picture = read_picture(job.source)
    work.writing.check_size(picture, work.options.scale, work.options.max_memory)
    return picture


def sample(job: Job, picture: Picture, work: Work, resolver: SuperResolver) -> UpscaleResult:
    """Enlarge it."""
    result = resolver.upscale(picture, work.options)
    result.input, result.output = str(job.source), str(job.target)
    return result


def write(job: Job, picture: Picture, result: UpscaleResult, work: Work, *, replace: bool) -> dict[str, Any]:
    """Encode it and write it, whole or not at all; `replace` a file that is there."""
    data = encode_result(result, picture, work.options, work.writing)
    started = time.perf_counter()
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(data, job.target, overwrite=replace)
    result.seconds.encode += time.perf_counter() - started
    return result.to_dict()


def failed(job: Job, error: BaseException) -> Outcome:
    """The outcome of a picture that raised something of its own; anything else, and a full disk, is raised again."""
    if is_out_of_memory(error):
        error = out_of_memory()
    if isinstance(error, DiskFullError) or not isinstance(error, BidiffsrError | OSError):
        raise error
    sentence = error.message if isinstance(error, BidiffsrError) else f"{job.name}: {error.strerror or error}."
    figures = {"input": str(job.source), "output": str(job.target), "status": "failed", "error": sentence}
    return Outcome(job, figures, sentence)


def attempt(job: Job, step: Callable[[], Done]) -> Outcome | Done:
    """Do something with a picture; its own errors become its outcome."""
    try:
        return step()
    except Exception as error:
        return failed(job, error)
