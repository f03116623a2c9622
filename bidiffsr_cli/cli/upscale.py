"""Enlarge pictures.

Examples:
  bidiffsr upscale photo.jpg                      writes photo_x2.png
  bidiffsr upscale photo.jpg big.webp --scale 4
  bidiffsr upscale *.jpg -o big/                  each to big/NAME_x2.png
  bidiffsr upscale photo.jpg --preset best --seed 7 --overwrite
  bidiffsr upscale photo.jpg big.png --long-side 3000
  bidiffsr upscale photo.jpg --dry-run            says how much work it is
  bidiffsr upscale - < photo.jpg > big.png

The second of two words is the OUTPUT, unless it is a picture that was not
made here: then both are enlarged. Without an output the result lies beside
the input; - is stdin or stdout. With a folder among the inputs it is batch.
The result depends on picture, model, scale, steps, sampler, seed, window
and precision, and not on memory or threads.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ModelError, StorageError
from . import _options as o
from . import batch
from ._errors import SOME_FAILED, explain, some_failed
from ._files import (
    Files,
    check_files,
    check_names,
    check_pipes,
    check_targets,
    is_dir,
    name_outputs,
    new_folder,
    own_format,
    read_source,
    split_words,
    write_target,
)
from ._output import out
from ._values import parse_upscale_options

if TYPE_CHECKING:
    from ..configs import UpscaleOptions
    from ..enlarging import Writing
    from ..images import Picture
    from ..pipeline import SuperResolver
    from ..results import UpscaleResult


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Pictures, - for stdin; of two the second is OUTPUT.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Where the results go; then every word is an input.",
            show_default="{stem}_x2.png",
        ),
    ] = None,
    scale: o.ScaleOption = 2,
    model: o.ModelOption = None,
    steps: o.StepsOption = None,
    preset: o.PresetOption = None,
    sampler: o.SamplerOption = "ddim",
    eta: o.EtaOption = 0.0,
    temperature: o.TemperatureOption = None,
    seed: o.SeedOption = "0",
    format: o.FormatOption = "auto",
    quality: o.QualityOption = None,
    width: o.WidthOption = None,
    height: o.HeightOption = None,
    long_side: o.LongSideOption = None,
    alpha: o.AlphaOption = "lanczos",
    color_fix: o.ColorFixOption = "none",
    strip_metadata: o.StripOption = False,
    provenance: o.ProvenanceOption = True,
    overwrite: o.OverwriteOption = False,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    backend: o.BackendOption = "auto",
    threads: o.ThreadsOption = None,
    tile: o.TileOption = "auto",
    tile_overlap: o.TileOverlapOption = None,
    max_memory: o.MaxMemoryOption = None,
    offline: o.OfflineOption = False,
    dry_run: o.DryRunOption = False,
    report: o.ReportOption = None,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    verbose: o.VerboseOption = False,
    no_progress: o.NoProgressOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Check everything that is cheap to check, then enlarge, then write; the help is the module's docstring."""
    out.configure(quiet=quiet, verbose=verbose, json=json, progress=not no_progress, debug=debug)

    options = parse_upscale_options(
        scale=scale,
        steps=steps,
        preset=preset,
        sampler=sampler,
        eta=eta,
        temperature=temperature,
        seed=seed,
        tile=tile,
        tile_overlap=tile_overlap,
        max_memory=max_memory,
        alpha=alpha,
        color_fix=color_fix,
    )
    sources, target = split_words(inputs, output, overwrite=overwrite)
    if any(is_dir(source) for source in sources):
        shared = inspect.signature(batch.batch).parameters.keys() & locals().keys()
        given = {name: value for name, value in locals().items() if name in shared}
        batch.batch(**given | {"folders": sources, "output": target})
        return
    outputs = name_outputs(sources, target, scale, format)
    folder = new_folder(target, several=len(sources) > 1)
    jobs = [Files(*pair, report, overwrite, folder) for pair in zip(sources, outputs, strict=True)]
    check_targets(jobs)
    for files in jobs:
        check_pipes(files, json=json, dry_run=dry_run)
        check_names(files)

    from ..checkpoints.catalog import AUTO, default_model, suited_model
    from ..enlarging import Writing
    from ..images import choose_format
    from ..pipeline import SuperResolver
    from ..reports.terminal import suited_hint
    from ..runtime import keep_freed_memory

    tasks = []
    for files in jobs:
        check_files(files)
        chosen = choose_format(own_format(files) if format == "same" else format, files.target)
        writing = Writing(chosen, quality, strip_metadata, provenance, (width, height, long_side))
        tasks.append(_Task(files, writing, options))
    first = tasks[0].read() if len(tasks) == 1 else None  # a picture that cannot be read is told before a model is had
    keep_freed_memory()
    machine = {"device": device, "precision": precision, "backend": backend, "threads": threads}
    loaded: dict[str, SuperResolver] = {}
    used: set[str] = set()

    def resolver_of(name: str) -> SuperResolver:
        if name not in loaded:
            with out.download(name) as on_download:
                loaded[name] = SuperResolver.from_pretrained(name, offline=offline, on_download=on_download, **machine)
        return loaded[name]

    if model != AUTO:
        resolver_of(model or default_model())  # one that cannot be had is told before several pictures are read
    results = []
    for task in tasks:
        try:
            picture, seconds_to_read = first or task.read()
            name = suited_model(picture.quality) if model == AUTO else model or default_model()
            resolver = resolver_of(name)
            seconds_to_load = 0.0 if name in used else resolver.seconds_to_load
            used.add(name)
            if dry_run:
                results.append(_plan(resolver, picture, task))
                continue
            result = _enlarge(resolver, picture, task)
        except Exception as error:
            if first or isinstance(error, StorageError | ModelError):
                raise
            results.append(_failed(task, error))
            continue
        result.seconds.load_model = seconds_to_load
        result.seconds.decode += seconds_to_read
        result.seconds.total += seconds_to_read + seconds_to_load
        _tell(result, with_seed=seed == "random", one_of_several=len(tasks) > 1)
        results.append(result.to_dict())
    if model is None and (hint := suited_hint(results)):
        out.message(hint)
    _report(results, jobs[0], one=len(tasks) == 1, dry_run=dry_run)


@dataclass(frozen=True)
class _Task:
    """One picture: from where to where, and how."""

    files: Files
    writing: Writing
    options: UpscaleOptions

    def read(self) -> tuple[Picture, float]:
        """The picture, and how many seconds that took."""
        started = time.perf_counter()
        check = partial(self.writing.check_size, scale=self.options.scale, max_memory=self.options.max_memory)
        picture = read_source(self.files.source, check)
        return picture, time.perf_counter() - started


def _plan(resolver: SuperResolver, picture: Picture, task: _Task) -> dict[str, Any]:
    """--dry-run: say what the work will be."""
    from ..reports.terminal import pictures, planned

    plan = resolver.plan(picture, task.options)
    result = resolver.describe(picture, plan, task.options)
    result.input, result.output, result.status = task.files.source, task.files.output, "planned"
    result.output_size = task.writing.final_size(result.output_size)
    seconds = resolver.seconds_per_window(plan) * plan.evaluations
    out.answer(f"{pictures(result)} (dry run: nothing is written)")
    out.rows(planned(result, plan, seconds, task.writing.format))
    return result.to_dict() | {"estimate": {"seconds": seconds, "memory_bytes": plan.memory}}


def _enlarge(resolver: SuperResolver, picture: Picture, task: _Task) -> UpscaleResult:
    """The work itself; the output is opened when the picture is complete."""
    from ..enlarging import encode_result

    files, options = task.files, task.options
    plan = resolver.plan(picture, options)
    with out.progress(Path(files.source).name, len(plan.grid.tiles), plan.passes * plan.steps) as advance:
        result = resolver.upscale(picture, options, progress=advance)
    result.input, result.output = files.source, files.output
    data = encode_result(result, picture, options, task.writing)
    started = time.perf_counter()
    write_target(data, files)
    seconds = time.perf_counter() - started
    result.seconds.encode += seconds
    result.seconds.total += seconds
    return result


def _failed(task: _Task, error: Exception) -> dict[str, Any]:
    """One of several pictures whose own fault it is."""
    out.traceback(error)
    failure = explain(error)
    told = failure.message if task.files.source in failure.message else f"'{task.files.source}': {failure.message}"
    out.warning(told)
    return {
        "input": task.files.source,
        "output": task.files.output,
        "status": "failed",
        "error": failure.message,
    }


def _tell(result: UpscaleResult, *, with_seed: bool, one_of_several: bool) -> None:
    """Warnings and the summary line of a picture."""
    from ..reports.terminal import phases, summary

    for warning in result.warnings:
        out.warning(f"{result.input}: {warning}" if one_of_several else warning)
    out.message(summary(result, with_seed=with_seed))
    out.details(phases(result))


def _report(results: Sequence[dict[str, Any]], files: Files, *, one: bool, dry_run: bool) -> None:
    """The report and the JSON object; the exit code if some failed."""
    from ..reports import write_report
    from ..results import MANY

    failed = [result["input"] for result in results if result["status"] == "failed"]
    if failed:
        out.error(some_failed(failed, len(results)))
    if files.report is not None and not dry_run:
        write_report(results, Path(files.report), overwrite=files.overwrite)
    if out.as_json and one:
        out.json(results[0])
    elif out.as_json:
        status = "failed" if failed else results[0]["status"]
        good = len(results) - len(failed)
        counts = {"done": 0 if dry_run else good, "failed": len(failed), "left": good if dry_run else 0}
        out.json({"schema": MANY, "status": status, "counts": counts, "images": results})
    if failed:
        raise typer.Exit(SOME_FAILED)
