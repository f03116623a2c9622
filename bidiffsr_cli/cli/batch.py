"""Enlarge every picture in folders.

Examples:
  bidiffsr batch photos/                          writes to photos_x2/
  bidiffsr batch 2023/ 2024/ -o big/              to big/2023/ and big/2024/
  bidiffsr batch photos/ -o big/ --recursive --exclude "*.gif" --scale 4
  bidiffsr batch photos/ -o big/ --report run.json
  bidiffsr batch photos/ -o big/ --shard 3/8      one of eight jobs of Slurm
  bidiffsr batch photos/ -o big/ --engine ray --ray-address auto
  bidiffsr batch s3://bucket/photos -o s3://bucket/big   needs the extra s3

Run again, it goes on: what is done is skipped, what changed since is done
anew, and what a crash left is mended. Broken pictures are named at the end,
and the others are done all the same (exit code 3). Files that are in the
output folder and were not made here are never touched without --overwrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import _options as o
from ._errors import SOME_FAILED, some_failed
from ._output import out
from ._values import check_repeatable, parse_options, parse_shard

if TYPE_CHECKING:
    from ..tasks.batch import BatchRequest, BatchResult

WORKERS = "Workers"


@o.group(o.MACHINE)
class Machines(o.MachineOptions):
    """Where the network runs, which may be several devices."""

    device: Annotated[
        str,
        o.option(
            "DEVICE,...",
            "As for upscale; several work side by side: cuda:0,cuda:1.",
            "--device",
            "-d",
            envvar="BIDIFFSR_DEVICE",
        ),
    ] = "auto"


@o.expanded
def batch(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER...", help="Folders of pictures or their URLs, and single pictures.", show_default=False
        ),
    ],
    *,
    output: Annotated[
        str | None, o.option("DIR", "Where the results go.", "--output", "-o", show_default="FOLDER_x2")
    ] = None,
    scale: o.ScaleOption = 2,
    model: o.ModelOption = None,
    recursive: Annotated[
        bool, o.option(o.FLAG, "Look into subfolders, too.", "--recursive", "-r", panel=o.PICTURES)
    ] = False,
    include: Annotated[
        list[str] | None, o.option("GLOB", "Take only names that match; may be repeated.", panel=o.PICTURES)
    ] = None,
    exclude: Annotated[
        list[str] | None, o.option("GLOB", "Leave out names that match; may be repeated.", panel=o.PICTURES)
    ] = None,
    limit: Annotated[int | None, o.option("N", "Take the first N by name.", panel=o.PICTURES, min=1)] = None,
    shard: Annotated[str, o.option("I/N", "Do the I-th of N parts.", panel=o.PICTURES)] = "1/1",
    suffix: Annotated[str, o.option("TEXT", "Add this to the results' names.", panel=o.PICTURES)] = "",
    fail_fast: Annotated[
        bool, o.option(o.FLAG, "Stop at the first picture that fails.", "--fail-fast", panel=o.PICTURES)
    ] = False,
    steps: o.StepsOption = None,
    preset: o.PresetOption = None,
    sampling: o.SamplingOptions,
    result: o.ResultOptions,
    engine: Annotated[
        Literal["local", "ray"], o.option("NAME", "local, or ray: a cluster, which needs the extra ray.", panel=WORKERS)
    ] = "local",
    ray_address: Annotated[
        str | None, o.option("ADDR", "Address of the cluster.", panel=WORKERS, show_default="a new one here")
    ] = None,
    jobs: Annotated[
        int, o.option("N", "Threads that decode and encode.", "--jobs", "-j", panel=WORKERS, min=1, max=64)
    ] = 2,
    machine: Machines,
    windows: o.WindowOptions,
    dry_run: o.DryRunOption = False,
    report: o.ReportOption = None,
    messages: o.Messages,
) -> None:
    """Find the pictures, leave out what is done, do the rest, report; the help is the module's docstring."""
    messages.configure()
    check_repeatable(sampling.seed)
    options = parse_options(scale=scale, steps=steps, preset=preset, **vars(sampling), **vars(result), **vars(windows))

    from ..folders.jobs import Selection
    from ..tasks.batch import BatchRequest

    carry_out(
        BatchRequest(
            folders,
            output,
            options=options,
            model=model,
            selection=Selection(recursive, include or (), exclude or (), limit, parse_shard(shard)),
            suffix=suffix,
            fail_fast=fail_fast,
            writing=result.writing,
            overwrite=result.overwrite,
            engine=engine,
            ray_address=ray_address,
            jobs=jobs,
            machine=machine.machine,
            offline=windows.offline,
            dry_run=dry_run,
            report=report,
        )
    )


def carry_out(request: BatchRequest) -> None:
    """Do it, and tell what became of it."""
    from ..runtime import keep_freed_memory
    from ..tasks.batch import run

    def show(found: BatchResult) -> None:
        if request.dry_run:
            for line in found.folders:
                out.answer(f"{line} (dry run: nothing is written)")
        if found.failed:
            out.error(some_failed(found.failed, sum(found.counts.values())), "Run it again when they are mended.")

    out.show = show
    keep_freed_memory()
    result = run(request, out)
    out.json(result.to_dict())
    if result.status == "failed":
        raise typer.Exit(SOME_FAILED)
