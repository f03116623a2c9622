"""What every engine does with one picture, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import enlarging
from ..checkpoints.catalog import AUTO, default_model, suited_model
from ..checkpoints.header import read_header
from ..checkpoints.models import find_model
from ..enlarging import Decoded, Writing, encode_result
from ..errors import BidiffsrError, InputError, StorageError, is_out_of_memory, out_of_memory
from ..images import LONGEST_FILE, Picture, choose_format, picture_size, read_picture
from ..options import UpscaleOptions
from ..pipeline import SuperResolver
from ..planning import Planner
from ..results import UpscaleResult, failure
from ..runtime import Machine
from .jobs import Job, Outcome

BEGINNING = 1 << 18
"""Bytes in which nearly every picture file says how large its picture is."""


@dataclass(frozen=True)
class Work:
    """How every picture is enlarged.

    Attributes:
        model: as `--model` takes it; auto is each picture's own.
        machine: where.
        options: of the diffusion.
        writing: of the files.
        overwrite: replace also what was not made here.
    """

    model: str
    machine: Machine
    options: UpscaleOptions
    writing: Writing
    overwrite: bool = False

    def writing_of(self, job: Job) -> Writing:
        """How a result is written, whose name may say the format."""
        return self.writing.for_file(Path(job.result))

    def settings(self, sha256: str) -> dict[str, Any]:
        """All that a result depends on besides its picture; memory and threads are not among it.

        Journals of earlier versions hold it, so its words and its form stay as they are.

        Args:
            sha256: of the model, or of all that `auto` may take.
        """
        word = self.writing.format
        value = {"sha256": sha256} | asdict(self.options) | asdict(self.writing) | asdict(self.machine)
        value["format"] = word if word == "same" else choose_format(word, None)
        value["resampling"] = [value.pop(name) for name in ("width", "height", "long_side")]
        value["device"] = self.machine.device.partition(":")[0]
        return {name: item for name, item in value.items() if name not in ("max_memory", "threads")}

    def resolver(self, device: str | None = None) -> SuperResolver:
        """The model, ready to run; one for each device and process. Of `auto` it is the default one."""
        name = default_model() if self.model == AUTO else self.model
        return _resolver(name, replace(self.machine, device=device or self.machine.device))

    def planner(self) -> Planner:
        """What says how much work a picture is; of `auto` the default model's. No weights are read for it."""
        return _planner(default_model() if self.model == AUTO else self.model)

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
def _resolver(model: str, machine: Machine) -> SuperResolver:
    return SuperResolver.from_pretrained(model, offline=True, **vars(machine))


@lru_cache(maxsize=16)
def _planner(model: str) -> Planner:
    found = find_model(model)
    return Planner(found.name, read_header(found.local_path() or found.fetch(offline=True)).config)


def forget_models() -> None:
    """Give up the models that were loaded: their files may be others the next time."""
    _resolver.cache_clear()
    _planner.cache_clear()


Watch = Callable[[Job, int, int], None]
"""Is told, from any thread, how many of a picture's passes through the network are done, and how many there are."""


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


def decode_job(job: Job, work: Work) -> Decoded:
    """Read a picture, and check that its result can be written."""
    return enlarging.decode(
        lambda check: read_picture(_fetched(job), name=f"'{job.source}'", check=check),
        work.options,
        work.writing_of(job),
    )


def _fetched(job: Job) -> Path | bytes:
    if job.status.bytes > LONGEST_FILE:
        raise InputError(
            f"'{job.source}' has more than {LONGEST_FILE >> 30} GB.", "Cut it into parts, or leave it out."
        )
    return job.folder.fetch(job.name, job.status.bytes)


def sample_job(
    job: Job, decoded: Decoded, work: Work, resolver: SuperResolver, watch: Watch = lambda *_: None
) -> UpscaleResult:
    """Enlarge it."""
    suited = work.suited(resolver, decoded.picture)
    result = enlarging.sample(suited, decoded, work.options, lambda plan, done: watch(job, done, plan.evaluations))
    result.input, result.output = job.source, job.target
    return result


def write_job(job: Job, picture: Picture, result: UpscaleResult, work: Work, *, replace: bool) -> Outcome:
    """Encode it and write it, whole or not at all; `replace` a file that is there."""
    data = encode_result(result, picture, work.options, work.writing_of(job))
    with result.seconds.measured("encode"):
        sha256 = job.output.claim(job.result, data)
        job.output.write(job.result, data, overwrite=replace)
    return Outcome(job, result.to_dict(), sha256=sha256)


def failed(job: Job, error: BaseException) -> Outcome:
    """The outcome of a picture that raised something of its own; anything else, and storage that fails, is raised."""
    if is_out_of_memory(error):
        error = out_of_memory()
    if isinstance(error, StorageError) or not isinstance(error, Exception):
        raise error
    sentence = error.message if isinstance(error, BidiffsrError) else f"'{job.source}' failed ({_detail(error)})."
    return broken(job, sentence)


def broken(job: Job, sentence: str) -> Outcome:
    """The outcome of a picture that failed, and why."""
    return Outcome(job, failure(job.source, job.target, sentence), sentence)


def _detail(error: Exception) -> str:
    """What kind of fault it is and what it says, in one line."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    return said if isinstance(error, OSError) and said else f"{type(error).__name__}: {said}".rstrip(": ")
