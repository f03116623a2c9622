"""Enlarge every picture in folders, here or on a cluster; run again, it goes on.

result = batch(["photos/"], "big/", selection=Selection(recursive=True))
result.counts["failed"], result.failed
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..checkpoints.catalog import AUTO, default_model, suited_models
from ..checkpoints.models import absolute_word
from ..enlarging import Writing
from ..errors import OutputError, UsageError, check_least
from ..folders.jobs import Job, Outcome, Part, Selection, described
from ..folders.ledger import Ledger
from ..folders.parts import FolderProgress, closed, find_parts, left_out
from ..folders.work import Watch, Work, forget_models
from ..options import UpscaleOptions
from ..planning import Planner
from ..reports import check_report, write_report
from ..reports.terminal import suited_hint, totals
from ..results import MANY
from ..runtime import Machine, choose_runtime, peak_memory
from ..text import counted, listed
from .files import several
from .listener import SILENT, Listener, as_function, load_model

EXTENSIONS = {"auto": ".png", "same": "", "tiff": ".tif"}
"""Of results, by the word for their format; of the others it is the word."""


@dataclass(frozen=True)
class BatchRequest:
    """What `batch` is asked for.

    Attributes:
        folders: of pictures: paths, or URLs such as s3://bucket/photos; and paths of single pictures.
        output: folder of the results, or its URL, which is made; of several folders, each has one in it. None puts
            photos_x2 beside photos.
        options: of the enlarging.
        model: a name of the catalog, ORG/REPO[@REV][:FILE] on the Hugging Face Hub, or the path of a file. auto is the
            one that suits each picture; None is the first of the catalog.
        selection: which pictures.
        suffix: of the results' names, such as "_big".
        fail_fast: begin no picture after the first that failed.
        writing: what the files are like.
        overwrite: replace files that were not made here, too.
        engine: local, or ray: a cluster, for which paths mean the same on every node.
        ray_address: of the cluster, or "auto"; None starts one on this machine.
        jobs: threads that decode and encode, of the local engine.
        machine: where to run; several devices, joined by commas, work side by side.
        offline: never use the network, which a model that is not here needs once.
        dry_run: find out what is to be done, and write nothing.
        report: path of a .json, .csv, .md or .html file that takes the figures.

    Raises:
        UsageError: a value is not possible, or two do not go together.
    """

    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    output: str | os.PathLike[str] | None = None
    _: KW_ONLY
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    model: str | None = None
    selection: Selection = field(default_factory=Selection)
    suffix: str = ""
    fail_fast: bool = False
    writing: Writing = field(default_factory=Writing)
    overwrite: bool = False
    engine: str = "local"
    ray_address: str | None = None
    jobs: int = 2
    machine: Machine = field(default_factory=Machine)
    offline: bool = False
    dry_run: bool = False
    report: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_least(1, jobs=self.jobs)
        devices, ray = self.devices, self.engine == "ray"
        if self.engine not in ("local", "ray"):
            raise UsageError(f"{self.engine!r} is not an engine.", "Choose local or ray.")
        if self.ray_address is not None and not ray:
            raise UsageError("--ray-address is for --engine ray.", "Add it, or leave the address out.")
        if len(set(devices)) < len(devices) or (len(devices) > 1 and ray):
            raise UsageError(
                f"Devices {self.machine.device!r} cannot work side by side.", "Name each once; with ray name one."
            )

    @property
    def devices(self) -> list[str]:
        """Those that work side by side."""
        return [name.strip() for name in self.machine.device.split(",")]

    @property
    def extension(self) -> str:
        """Of the results; empty for that of each picture."""
        return EXTENSIONS.get(self.writing.format, f".{self.writing.format}")


@dataclass(frozen=True)
class BatchResult:
    """What became of the folders.

    Attributes:
        status: done; failed, if anything failed or was left; or planned.
        counts: how many pictures were done, skipped (they had been done before), failed and left.
        closed: a sentence for each folder that cannot be listed.
        left_out: how many files are no pictures, by suffix.
        images: for each picture the JSON object of the contract (`reports/README.md`), in order.
        left: names of the pictures that are to be done, in a dry run.
        folders: a line for each folder: how many pictures it has, and where their results go.
        seconds: that it took, but for finding out what is to be done.
        pictures_per_second, megapixels_per_second: of results; None where there are none.
        peak_memory_bytes: of this process; None where it cannot be read.
    """

    status: str
    counts: dict[str, int]
    closed: list[str]
    left_out: dict[str, int]
    images: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    seconds: float = 0.0
    pictures_per_second: float | None = None
    megapixels_per_second: float | None = None
    peak_memory_bytes: int | None = None

    @property
    def failed(self) -> list[str]:
        """The pictures that failed, as `images` names them: with their folder."""
        return [image["input"] for image in self.images if image["status"] == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        names = ["status", "counts", "closed", "left_out"]
        measured = ["seconds", "pictures_per_second", "megapixels_per_second", "peak_memory_bytes", "images"]
        names += ["left"] if self.status == "planned" else measured
        return {"schema": MANY} | {name: getattr(self, name) for name in names}


def run(request: BatchRequest, listener: Listener = SILENT) -> BatchResult:
    """Find the pictures, leave out what is done, and do the rest; a picture that fails is told of in the result.

    Raises:
        InputError: a folder is missing, or holds no picture that is meant.
        UsageError: what is asked for does not go together, or does not suit the model.
        OutputError: results exist that were not made here, or of other pictures, or nothing can be written.
        StorageError: the disk is full, or the store fails.
        ModelError: the model cannot be had.
        DeviceError: a device or a cluster is not there, or memory does not suffice.
    """
    if request.report is not None:
        check_report(Path(request.report), overwrite=request.overwrite)
    parts = _find(request, listener)
    work, sha256 = _work(request, listener)
    shard, settings = request.selection.shard, work.settings(sha256)
    with contextlib.ExitStack() as opened:
        opened.callback(forget_models)
        ledgers = [Ledger(part.target, settings, shard) for part in parts]
        for part, ledger in zip(parts, ledgers, strict=True):
            part.skipped, foreign = ledger.survey(part.jobs)
            if foreign and not request.overwrite:
                raise _not_ours(foreign)
        outdated = sum(len(ledger.outdated(part.left)) for part, ledger in zip(parts, ledgers, strict=True))
        if outdated:
            count = counted(outdated, "picture")
            listener.message(f"Done anew, as this version gives other pixels than the one before: {count}.")
        if request.dry_run:
            planned = _planned(parts)
            listener.found(planned)
            return planned
        for ledger in ledgers:
            opened.enter_context(ledger)
        started = time.perf_counter()
        for part, ledger in zip(parts, ledgers, strict=True):
            listener.message(str(part))
            if part.left:
                _do(request, work, ledger, part, listener)
            if request.fail_fast and part.failed:
                break
        seconds = time.perf_counter() - started
    result = _result(parts, seconds)
    listener.message(totals(result.to_dict()))
    if request.model is None and (hint := suited_hint(result.images)):
        listener.message(hint)
    listener.found(result)
    if request.report is not None:
        write_report(result.images, Path(request.report), overwrite=request.overwrite)
    return result


def _find(request: BatchRequest, listener: Listener) -> list[Part]:
    """The folders, and what there is to be said of them."""
    parts, warnings = find_parts(
        [os.fspath(folder) for folder in several(request.folders)],
        None if request.output is None else os.fspath(request.output),
        request.selection,
        ending=f"_x{request.options.scale}",
        suffix=request.suffix,
        extension=request.extension,
        absolute=request.engine == "ray",
    )
    for sentence in warnings:
        listener.warning(sentence)
    if others := left_out(parts):
        listener.message(f"Left out: {described(others)}.")
    return parts


def _work(request: BatchRequest, listener: Listener) -> tuple[Work, str]:
    """How every picture is done, and the sha256 of the models."""
    name = request.model or default_model()
    names = suited_models() if name == AUTO else [name]
    checkpoints = [load_model(word, listener, offline=request.offline) for word in names]
    for word, checkpoint in zip(names, checkpoints, strict=True):
        Planner(word, checkpoint.config).check(request.options)
    facts = [checkpoint.runtime_facts for checkpoint in checkpoints]
    borne = {name: min(fact[name] or 0.0 for fact in facts) for name in ("bf16_psnr", "fp16_psnr")}  # by all of them
    runtime = choose_runtime(replace(request.machine, device=request.devices[0]), **facts[0] | borne)
    machine = Machine(runtime.device, runtime.precision, runtime.backend, request.machine.threads)
    work = Work(absolute_word(name), machine, request.options, request.writing, request.overwrite)
    return work, "+".join(checkpoint.sha256 for checkpoint in checkpoints)


def _not_ours(foreign: Mapping[Job, str]) -> OutputError:
    hint = "Add --overwrite, or choose another -o."
    others = [f"'{job.target}' of '{other}', not of '{job.source}'" for job, other in foreign.items() if other]
    if others:
        return OutputError(f"Results of other pictures would be replaced: {listed(others, 3)}.", hint)
    names = listed([f"'{job.target}'" for job in foreign], 3)
    exist, were = ("exists", "was") if len(foreign) == 1 else ("exist", "were")
    return OutputError(f"{names} {exist} and {were} not made here, or {were} changed since.", hint)


def _do(request: BatchRequest, work: Work, ledger: Ledger, part: Part, listener: Listener) -> None:
    """Do what is left of a part."""
    left = part.left
    with listener.progress("pictures", "pictures") as advance:
        progress = FolderProgress(left, advance)
        with contextlib.closing(_engine(request, work, ledger, left, progress.watch, listener)) as outcomes:
            for outcome in outcomes:
                part.outcomes.append(outcome)
                progress.finish(outcome.job)
                if outcome.error:
                    listener.warning(outcome.error)
                    continue
                count, seconds = f"{len(part.outcomes)}/{len(left)}", outcome.result["seconds"]["sample"]
                listener.progressed(f"[{count}] {outcome.job.name} -> {outcome.job.target} in {seconds:.1f} s")


def _engine(
    request: BatchRequest, work: Work, ledger: Ledger, left: Sequence[Job], watch: Watch, listener: Listener
) -> Generator[Outcome]:
    fail_fast = request.fail_fast
    if request.engine == "ray":
        from ..folders import cluster

        address = request.ray_address
        return cluster.run(left, work, ledger, address=address, tell=listener.warning, fail_fast=fail_fast)
    from ..folders import local

    devices, io_threads = request.devices, request.jobs
    return local.run(left, work, ledger, devices=devices, io_threads=io_threads, fail_fast=fail_fast, watch=watch)


def _planned(parts: Sequence[Part]) -> BatchResult:
    """Of a dry run."""
    left = [job.name for part in parts for job in part.left]
    counts = {"done": 0, "skipped": sum(len(part.skipped) for part in parts), "failed": 0, "left": len(left)}
    others = dict(left_out(parts))
    return BatchResult("planned", counts, closed(parts), others, left=left, folders=[str(part) for part in parts])


def _result(parts: Sequence[Part], seconds: float) -> BatchResult:
    good = [outcome.result for part in parts for outcome in part.outcomes if not outcome.error]
    failed = sum(part.failed for part in parts)
    total, skipped = sum(len(part.jobs) for part in parts), sum(len(part.skipped) for part in parts)
    counts = {"done": len(good), "skipped": skipped, "failed": failed}
    counts["left"] = total - sum(counts.values())
    pixels = sum(result["output_size"][0] * result["output_size"][1] for result in good)
    return BatchResult(
        status="done" if len(good) + skipped == total and not closed(parts) else "failed",
        counts=counts,
        closed=closed(parts),
        left_out=dict(left_out(parts)),
        images=[image for part in parts for image in part.images],
        folders=[str(part) for part in parts],
        seconds=seconds,
        pictures_per_second=len(good) / seconds if good else None,
        megapixels_per_second=pixels / 1e6 / seconds if good else None,
        peak_memory_bytes=peak_memory(),
    )


batch = as_function(BatchRequest, run)
