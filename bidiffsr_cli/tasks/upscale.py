"""Enlarge pictures, from file to file.

result = upscale("photo.jpg", "big.png", options=UpscaleOptions(scale=4))
result.images[0]["output_size"]
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..checkpoints.catalog import AUTO, default_model, suited_model, suited_models
from ..enlarging import Decoded, Writing, decode, encode_result, sample
from ..errors import DeviceError, InputError, ModelError, OutputError, StorageError, UsageError, explained
from ..options import UpscaleOptions
from ..pipeline import SuperResolver
from ..planning import Plan, Planner
from ..reports import write_report
from ..reports.terminal import suited_hint
from ..results import MANY, UpscaleResult, failure
from ..runtime import Machine
from .files import Files, Sink, check_files, name_files, own_format, several
from .listener import SILENT, Listener, as_function, load_model, load_resolver

Source = str | os.PathLike[str] | BinaryIO | bytes
"""A picture: a path, or its file as a stream or as bytes."""


@dataclass(frozen=True)
class UpscaleRequest:
    """What `upscale` is asked for.

    Attributes:
        inputs: a picture, or several: paths, or a single stream of a file.
        output: path of the result, or a stream that takes its file; of several pictures their folder, which is made.
            None puts photo_x2.png beside photo.jpg.
        options: of the enlarging.
        model: a name of the catalog, ORG/REPO[@REV][:FILE] on the Hugging Face Hub, or the path of a file. auto is the
            one that suits each picture; None is the first of the catalog.
        writing: what the files are like.
        overwrite: replace files that are there.
        machine: where to run.
        offline: never use the network, which a model that is not here needs once.
        dry_run: find out how much work it is, and write nothing.
        report: path of a .json, .csv, .md or .html file that takes the figures.
    """

    inputs: Source | Sequence[Source]
    output: str | os.PathLike[str] | Sink | None = None
    _: KW_ONLY
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    model: str | None = None
    writing: Writing = field(default_factory=Writing)
    overwrite: bool = False
    machine: Machine = field(default_factory=Machine)
    offline: bool = False
    dry_run: bool = False
    report: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Planned:
    """What a dry run found out of one picture.

    Attributes:
        result: with the sizes, windows and machine that it would have.
        format: of its file, by Pillow's name.
        seconds: how long it would take.
        memory: how many bytes the process would have resident at the peak.
    """

    result: UpscaleResult
    format: str
    seconds: float
    memory: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return self.result.to_dict() | {"estimate": {"seconds": self.seconds, "memory_bytes": self.memory}}


@dataclass
class UpscaleSummary:
    """What became of the pictures.

    Attributes:
        images: for each, in order, the JSON object of the contract (`reports/README.md`). Its `status` is done or
            planned; of one of several it may be failed, and `error` says why.
        plans: of a dry run.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    plans: list[Planned] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """The inputs of those that failed."""
        return [image["input"] for image in self.images if image["status"] == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract: of one picture its own."""
        if len(self.images) == 1:
            return self.images[0]
        bad, left = len(self.failed), len(self.plans)
        counts = {"done": len(self.images) - bad - left, "failed": bad, "left": left}
        status = "failed" if bad else self.images[0]["status"]
        return {"schema": MANY, "status": status, "counts": counts, "images": self.images}


def run(request: UpscaleRequest, listener: Listener = SILENT) -> UpscaleSummary:
    """Check everything that is cheap to check, then enlarge each picture and write it.

    A single picture that fails raises its error. Of several the others are done, and the summary tells what failed.

    Raises:
        InputError: a picture is missing, or cannot be read.
        UsageError: what is asked for does not go together, or does not suit the model.
        OutputError: a file exists, or cannot be written.
        ModelError: the model cannot be had.
        DeviceError: the device is not there, or memory does not suffice.
    """
    tasks = _tasks(request)
    name = request.model or default_model()

    @functools.cache
    def load(model: str) -> SuperResolver:
        return load_resolver(model, request.machine, listener, offline=request.offline)

    def check_options() -> None:
        for model in suited_models() if name == AUTO else [name]:
            checkpoint = load_model(model, listener, offline=request.offline)
            Planner(checkpoint.name, checkpoint.config).check(request.options)

    try:  # a picture that cannot be read is told before a model is had
        first = tasks[0].read() if len(tasks) == 1 else None
    except (OutputError, DeviceError):  # the result would be too large, maybe for a scale that the model does not have
        check_options()
        raise
    if name != AUTO:
        load(name).planner.check(request.options)  # likewise before several pictures are read
    elif first is None:
        check_options()

    def done(task: _Task) -> Planned | UpscaleResult:
        decoded = first or task.read()
        resolver = load(suited_model(decoded.picture.quality) if name == AUTO else name)
        if request.dry_run:
            return _plan(resolver, decoded, task)
        result = _enlarge(resolver, decoded, task, listener)
        result.seconds.add("load_model", resolver.seconds_to_load)
        resolver.seconds_to_load = 0.0  # which were for the first picture
        return result

    summed = UpscaleSummary()
    for task in tasks:
        try:
            found = done(task)
        except Exception as error:
            if first or isinstance(error, StorageError | ModelError):
                raise
            summed.images.append(_failed(task, error, listener))
            continue
        summed.images.append(found.to_dict())
        if isinstance(found, Planned):
            summed.plans.append(found)
            continue
        for warning in found.warnings:
            listener.warning(f"{found.input}: {warning}" if len(tasks) > 1 else warning)
        listener.found(found)
    if request.model is None and (hint := suited_hint(summed.images)):
        listener.message(hint)
    listener.found(summed)
    if request.report is not None and not request.dry_run:
        write_report(summed.images, Path(request.report), overwrite=request.overwrite)
    return summed


@dataclass(frozen=True)
class _Task:
    """One picture: from where to where, and how."""

    files: Files
    writing: Writing
    options: UpscaleOptions

    def read(self) -> Decoded:
        """Decode it."""
        return decode(self.files.read, self.options, self.writing)


def _tasks(request: UpscaleRequest) -> list[_Task]:
    """One for each picture, as far as can be told before any is read."""
    listed = several(request.inputs)
    if not listed:
        raise UsageError("There is no picture.", "Name one, or several.")
    for source in listed:
        stream = hasattr(source, "read") and not isinstance(source, io.TextIOBase)
        if not stream and not isinstance(source, str | os.PathLike | bytes):
            message = f"A picture file cannot be read from an object of type {type(source).__qualname__}."
            hint = "Give a path or an open binary file; SuperResolver.upscale takes pictures."
            raise InputError(message, hint)
    sources = [
        io.BytesIO(source)
        if isinstance(source, bytes)
        else os.fspath(source)
        if isinstance(source, os.PathLike)
        else source
        for source in listed
    ]
    output = os.fspath(request.output) if isinstance(request.output, os.PathLike) else request.output
    report = None if request.report is None else os.fspath(request.report)
    word, overwrite = request.writing.format, request.overwrite
    jobs = name_files(sources, output, scale=request.options.scale, format=word, report=report, overwrite=overwrite)
    tasks = []
    for files in jobs:
        check_files(files)
        format = own_format(files.source) if word == "same" else word
        tasks.append(_Task(files, replace(request.writing, format=format).for_file(files.target), request.options))
    return tasks


def _plan(resolver: SuperResolver, decoded: Decoded, task: _Task) -> Planned:
    plan = resolver.planner.plan(decoded.picture, task.options, resolver.runtime)
    result = resolver.describe(decoded.picture, plan, task.options)
    result.status, (result.input, result.output) = "planned", task.files.names
    result.output_size = task.writing.final_size(result.output_size)
    return Planned(result, task.writing.format, resolver.estimate(plan), plan.memory)


def _enlarge(resolver: SuperResolver, decoded: Decoded, task: _Task, listener: Listener) -> UpscaleResult:
    """The work itself; the output is opened when the picture is complete."""
    source, output = task.files.names
    with listener.progress(Path(source).name, "windows") as advance:

        def tell(plan: Plan, done: int) -> None:
            steps = plan.passes * plan.steps
            advance(done, plan.evaluations, detail=f", step {plan.step_after(done)}/{steps}")

        result = sample(resolver, decoded, task.options, tell)
    result.input, result.output = source, output
    data = encode_result(result, decoded.picture, task.options, task.writing)
    with result.seconds.measured("encode"):
        task.files.write(data)
    return result


def _failed(task: _Task, error: Exception, listener: Listener) -> dict[str, Any]:
    """One of several pictures whose own fault it is."""
    source, output = task.files.names
    sentence = explained(error).message
    listener.traceback(error)
    listener.warning(sentence if source in sentence else f"'{source}': {sentence}")
    return failure(source, output, sentence)


upscale = as_function(UpscaleRequest, run)
