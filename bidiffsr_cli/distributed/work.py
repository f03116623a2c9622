"""What every engine does with one picture, and what it says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from ..checkpoints.catalog import AUTO, default_model, suited_model
from ..configs import UpscaleOptions
from ..enlarging import Writing, encode_result
from ..errors import BidiffsrError, InputError, StorageError, is_out_of_memory, out_of_memory
from ..images import LONGEST_FILE, Picture, choose_format, picture_size, read_picture
from ..pipeline import SuperResolver
from ..results import UpscaleResult
from .folder import Job

Done = TypeVar("Done")
SAME = "same"
"""In place of a format: that of each picture."""
BEGINNING = 1 << 18
"""Bytes in which nearly every picture file says how large its picture is."""


@dataclass(frozen=True)
class Work:
    """How every picture is enlarged.

    Attributes:
        model: as `--model` takes it; auto is each picture's own.
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

    def writing_of(self, job: Job) -> Writing:
        """How a result is written, whose name may say the format."""
        if self.writing.format != SAME:
            return self.writing
        return replace(self.writing, format=choose_format("auto", Path(job.result)))

    def resolver(self, device: str | None = None) -> SuperResolver:
        """The model, ready to run; one for each device and process. Of `auto` it is the default one."""
        machine = dict(self.machine)
        name = default_model() if self.model == AUTO else self.model
        return _resolver(name, tuple((machine | ({"device": device} if device else {})).items()))

    def for_picture(self, picture: Picture) -> Work:
        """The same with a model of its own instead of `auto`."""
        return replace(self, model=suited_model(picture.quality)) if self.model == AUTO else self

    def suited(self, resolver: SuperResolver, picture: Picture) -> SuperResolver:
        """In place of a model that was loaded for all pictures the one that suits this one."""
        chosen = self.for_picture(picture)
        if chosen is self or chosen.model == default_model():
            return resolver
        other = chosen.resolver(resolver.runtime.device)
        return other.elsewhere(resolver.runtime, other.network)


@lru_cache(maxsize=16)
def _resolver(model: str, machine: tuple[tuple[str, Any], ...]) -> SuperResolver:
    return SuperResolver.from_pretrained(model, offline=True, **dict(machine))


Watch = Callable[[Job, int, int], None]
"""Is told, from any thread, how many of a picture's passes through the network are done, and how many there are."""


@dataclass(frozen=True)
class Outcome:
    """What came of a picture.

    Attributes:
        job: which one.
        result: its figures, as `UpscaleResult.to_dict`; of a failed one only input, output and status.
        error: why it failed, one sentence; empty if it did not.
        seconds: from reading to writing.
        sha256: of the file that was written, in hexadecimal.
    """

    job: Job
    result: dict[str, Any]
    error: str = ""
    seconds: float = 0.0
    sha256: str = ""


def size_of(job: Job) -> tuple[int, int]:
    """(width, height) of a picture as it is stored, pixels.

    Raises:
        InputError: it cannot be read.
    """
    whole = job.status.bytes
    beginning = job.folder.fetch(job.name, min(whole, BEGINNING))
    try:
        return picture_size(beginning, name=f"'{job.source}'")
    except InputError:
        if isinstance(beginning, Path) or whole <= BEGINNING:
            raise
        return picture_size(_fetched(job), name=f"'{job.source}'")


def decode(job: Job, work: Work) -> Picture:
    """Read a picture, and check that its result can be written."""
    check = partial(work.writing_of(job).check_size, scale=work.options.scale, max_memory=work.options.max_memory)
    return read_picture(_fetched(job), name=f"'{job.source}'", check=check)


def _fetched(job: Job) -> Path | bytes:
    if job.status.bytes > LONGEST_FILE:
        raise InputError(
            f"'{job.source}' has more than {LONGEST_FILE >> 30} GB.", "Cut it into parts, or leave it out."
        )
    return job.folder.fetch(job.name, job.status.bytes)


def sample(
    job: Job, picture: Picture, work: Work, resolver: SuperResolver, watch: Watch = lambda *_: None
) -> UpscaleResult:
    """Enlarge it."""
    result = work.suited(resolver, picture).upscale(picture, work.options, progress=partial(watch, job))
    result.input, result.output = job.source, job.target
    return result


def write(job: Job, picture: Picture, result: UpscaleResult, work: Work, *, replace: bool, started: float) -> Outcome:
    """Encode it and write it, whole or not at all; `replace` a file that is there."""
    data = encode_result(result, picture, work.options, work.writing_of(job))
    began = time.perf_counter()
    sha256 = job.output.claim(job.result, data)
    job.output.write(job.result, data, overwrite=replace)
    ended = time.perf_counter()
    result.seconds.encode += ended - began
    return Outcome(job, result.to_dict(), seconds=ended - started, sha256=sha256)


def failed(job: Job, error: BaseException) -> Outcome:
    """The outcome of a picture that raised something of its own; anything else, and storage that fails, is raised."""
    if is_out_of_memory(error):
        error = out_of_memory()
    if isinstance(error, StorageError) or not isinstance(error, Exception):
        raise error
    sentence = error.message if isinstance(error, BidiffsrError) else f"'{job.source}' failed ({_detail(error)})."
    figures = {"input": job.source, "output": job.target, "status": "failed", "error": sentence}
    return Outcome(job, figures, sentence)


def _detail(error: Exception) -> str:
    """What kind of fault it is and what it says, in one line."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    return said if isinstance(error, OSError) and said else f"{type(error).__name__}: {said}".rstrip(": ")


def attempt(job: Job, step: Callable[[], Done]) -> Outcome | Done:
    """Do something with a picture; its own errors become its outcome."""
    try:
        return step()
    except Exception as error:
        return failed(job, error)
