"""Enlarge one picture.

Examples:
  bidiffsr upscale photo.jpg                      writes photo_x2.png
  bidiffsr upscale photo.jpg big.webp --scale 4
  bidiffsr upscale photo.jpg --preset best --seed 7 --overwrite
  bidiffsr upscale photo.jpg big.png --long-side 3000
  bidiffsr upscale photo.jpg --dry-run            says how much work it is
  bidiffsr upscale - < photo.jpg > big.png

Without OUTPUT the result lies beside the input; - is stdin or stdout.
The result depends on picture, model, scale, steps, sampler, seed, window
and precision, and not on memory or threads.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _options as o
from ._files import Files, check_files, check_names, check_pipes, name_output, read_source, write_target
from ._output import out
from ._values import parse_upscale_options

if TYPE_CHECKING:
    from ..configs import UpscaleOptions
    from ..enlarging import Writing
    from ..images import Picture
    from ..pipeline import SuperResolver
    from ..results import UpscaleResult


def upscale(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A picture; - is stdin.", show_default=False)],
    output: Annotated[
        str | None, typer.Argument(metavar="OUTPUT", help="Where it goes.", show_default="{stem}_x2.png")
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
    files = Files(source, name_output(source, output, scale, format), report, overwrite)
    check_pipes(files, json=json, dry_run=dry_run)
    check_names(files)

    from ..checkpoints.catalog import default_model
    from ..enlarging import Writing
    from ..images import choose_format
    from ..pipeline import SuperResolver
    from ..runtime import keep_freed_memory

    check_files(files)
    writing = Writing(
        format=choose_format(format, files.target),
        quality=quality,
        strip_metadata=strip_metadata,
        provenance=provenance,
        resampling=(width, height, long_side),
    )
    started = time.perf_counter()
    picture = read_source(source, partial(writing.check_size, scale=scale, max_memory=options.max_memory))
    seconds_to_read = time.perf_counter() - started
    keep_freed_memory()
    name = model or default_model()
    with out.download(name) as on_download:
        resolver = SuperResolver.from_pretrained(
            name,
            offline=offline,
            on_download=on_download,
            device=device,
            precision=precision,
            backend=backend,
            threads=threads,
        )
    if dry_run:
        _plan(resolver, picture, options, files, writing)
        return
    result = _enlarge(resolver, picture, options, files, writing)
    result.seconds.load_model = resolver.seconds_to_load
    result.seconds.decode += seconds_to_read
    result.seconds.total += seconds_to_read + resolver.seconds_to_load
    _tell(result, files, with_seed=seed == "random")


def _plan(resolver: SuperResolver, picture: Picture, options: UpscaleOptions, files: Files, writing: Writing) -> None:
    """--dry-run: say what the work will be."""
    from ..reports.terminal import pictures, planned

    plan = resolver.plan(picture, options)
    result = resolver.describe(picture, plan, options)
    result.input, result.output, result.status = files.source, files.output, "planned"
    result.output_size = writing.final_size(result.output_size)
    seconds = resolver.seconds_per_window(plan) * plan.evaluations
    out.message(f"{pictures(result)} (dry run: nothing is written)")
    out.rows(planned(result, plan, seconds, writing.format))
    if out.as_json:
        out.json(result.to_dict() | {"estimate": {"seconds": seconds, "memory_bytes": plan.memory}})


def _enlarge(
    resolver: SuperResolver, picture: Picture, options: UpscaleOptions, files: Files, writing: Writing
) -> UpscaleResult:
    """The work itself; the output is opened when the picture is complete."""
    from ..enlarging import encode_result

    plan = resolver.plan(picture, options)
    with out.progress(Path(files.source).name, len(plan.grid.tiles), plan.passes * plan.steps) as advance:
        result = resolver.upscale(picture, options, progress=advance)
    result.input, result.output = files.source, files.output
    data = encode_result(result, picture, options, writing)
    started = time.perf_counter()
    write_target(data, files)
    seconds = time.perf_counter() - started
    result.seconds.encode += seconds
    result.seconds.total += seconds
    return result


def _tell(result: UpscaleResult, files: Files, *, with_seed: bool) -> None:
    """Warnings, the summary line, the report, and the JSON object."""
    from ..reports import write_report
    from ..reports.terminal import phases, summary

    for warning in result.warnings:
        out.warning(warning)
    out.message(summary(result, with_seed=with_seed))
    out.details(phases(result))
    if files.report is not None:
        write_report([result.to_dict()], Path(files.report), overwrite=files.overwrite)
    if out.as_json:
        out.json(result.to_dict())
