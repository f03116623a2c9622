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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import _options as o
from ._errors import SOME_FAILED, some_failed
from ._output import out
from ._values import check_repeatable, parse_enlarging, parse_shard, writing_of

if TYPE_CHECKING:
    from ..tasks.batch import BatchRequest

PICTURES, WORKERS = "Pictures", "Workers"


@dataclass(frozen=True)
class Machines(o.MachineOptions):
    """Where the network runs, which may be several devices."""

    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="DEVICE,...",
            envvar="BIDIFFSR_DEVICE",
            help="As for upscale; several work side by side: cuda:0,cuda:1.",
            rich_help_panel=o.MACHINE,
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
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the results go.", show_default="FOLDER_x2"),
    ] = None,
    scale: o.ScaleOption = 2,
    model: o.ModelOption = None,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", metavar=o.FLAG, help="Look into subfolders, too.", rich_help_panel=PICTURES),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Take only names that match; may be repeated.", rich_help_panel=PICTURES),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out names that match; may be repeated.", rich_help_panel=PICTURES),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take the first N by name.", rich_help_panel=PICTURES)
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Do the I-th of N parts.", rich_help_panel=PICTURES)
    ] = "1/1",
    suffix: Annotated[
        str, typer.Option(metavar="TEXT", help="Add this to the results' names.", rich_help_panel=PICTURES)
    ] = "",
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast", metavar=o.FLAG, help="Stop at the first picture that fails.", rich_help_panel=PICTURES
        ),
    ] = False,
    steps: o.StepsOption = None,
    preset: o.PresetOption = None,
    sampling: o.Sampling,
    result: o.Result,
    written: o.Written,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            metavar="NAME", help="local, or ray: a cluster, which needs the extra ray.", rich_help_panel=WORKERS
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR", help="Address of the cluster.", show_default="a new one here", rich_help_panel=WORKERS
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, max=64, metavar="N", help="Threads that decode and encode.", rich_help_panel=WORKERS
        ),
    ] = 2,
    machine: Machines,
    windows: o.Windows,
    dry_run: o.DryRunOption = False,
    report: o.ReportOption = None,
    messages: o.Messages,
) -> None:
    """Find the pictures, leave out what is done, do the rest, report; the help is the module's docstring."""
    messages.configure()
    check_repeatable(sampling.seed)
    options = parse_enlarging(scale, steps, preset, sampling, result, windows)

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
            writing=writing_of(result, written),
            overwrite=written.overwrite,
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

    keep_freed_memory()
    result = run(request, out)
    for line in result.folders if request.dry_run else ():
        out.answer(f"{line} (dry run: nothing is written)")
    if result.failed:
        out.error(some_failed(result.failed, sum(result.counts.values())), "Run it again when they are mended.")
    if out.as_json:
        out.json(result.to_dict())
    if result.status == "failed":
        raise typer.Exit(SOME_FAILED)
