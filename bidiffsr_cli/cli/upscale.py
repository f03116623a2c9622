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

from typing import Annotated, Any

import typer

from ..tasks.files import is_dir, name_files
from . import _options as o
from . import batch
from ._errors import SOME_FAILED, some_failed
from ._files import PIPE, check_folders, open_pipes, split_words
from ._output import out
from ._values import check_repeatable, parse_options


@o.expanded
def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Pictures, or - for stdin; of two words the second is OUTPUT.", show_default=False
        ),
    ],
    *,
    output: Annotated[
        str | None,
        o.option(
            "FILE|DIR",
            "Where the results go; then every word is an input.",
            "--output",
            "-o",
            show_default="{stem}_x2.png",
        ),
    ] = None,
    scale: o.ScaleOption = 2,
    model: o.ModelOption = None,
    steps: o.StepsOption = None,
    preset: o.PresetOption = None,
    sampling: o.SamplingOptions,
    result: o.ResultOptions,
    machine: o.MachineOptions,
    windows: o.WindowOptions,
    dry_run: o.DryRunOption = False,
    report: o.ReportOption = None,
    messages: o.Messages,
) -> None:
    """Tell the words apart, then do it; the help is the module's docstring."""
    messages.configure()
    options = parse_options(scale=scale, steps=steps, preset=preset, **vars(sampling), **vars(result), **vars(windows))
    sources, target = split_words(inputs, output, overwrite=result.overwrite)

    with_folders = any(source != PIPE and is_dir(source) for source in sources)
    if with_folders:
        check_folders(sources, target)
        check_repeatable(sampling.seed)
    else:  # what names tell is told before Pillow and the like are imported
        given, where = open_pipes(sources, target, json=messages.json, dry_run=dry_run)
        name_files(given, where, scale=scale, format=result.format, report=report, overwrite=result.overwrite)

    shared: dict[str, Any] = {
        "options": options,
        "model": model,
        "writing": result.writing,
        "overwrite": result.overwrite,
        "machine": machine.machine,
        "offline": windows.offline,
        "dry_run": dry_run,
        "report": report,
    }
    if with_folders:
        from ..tasks.batch import BatchRequest

        batch.carry_out(BatchRequest(sources, target, **shared))
        return

    from ..reports.terminal import phases, pictures, planned, summary
    from ..results import UpscaleResult
    from ..runtime import keep_freed_memory
    from ..tasks.upscale import UpscaleRequest, UpscaleSummary, run

    def show(found: UpscaleResult | UpscaleSummary) -> None:
        if isinstance(found, UpscaleResult):
            out.message(summary(found, with_seed=sampling.seed == "random"))
            out.details(phases(found))
            return
        for plan in found.plans:
            out.answer(f"{pictures(plan.result)} (dry run: nothing is written)")
            out.rows(planned(plan.result, plan.format, plan.seconds, plan.memory))
        if found.failed:
            out.error(some_failed(found.failed, len(found.images)))

    out.show = show
    keep_freed_memory()
    summed = run(UpscaleRequest(given, where, **shared), out)
    out.json(summed.to_dict())
    if summed.failed:
        raise typer.Exit(SOME_FAILED)
