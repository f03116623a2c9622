"""Measure the speed of this machine.

Examples:
  bidiffsr bench                                  two to three minutes
  bidiffsr bench --against-upstream-style         and the authors' way
  bidiffsr bench --only steps --network model     the default model alone
  bidiffsr bench --only layers --threads 1
  bidiffsr bench --json > bench.json
  bidiffsr bench --markdown > bench.md

Times binary layers, one step of the network and a whole picture on the
native engine and in plain torch, in turn within one run, and says the
conditions that the figures depend on. Ratios are of medians.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UsageError
from . import _options as o
from ._output import out

if TYPE_CHECKING:
    from ..checkpoints.files import Checkpoint
    from ..evaluation.benchmark import Row
    from ..runtime import Runtime

Section = Literal["all", "layers", "steps", "picture"]
Network = Literal["both", "published", "model"]

WHAT = "What is measured"


@dataclass(frozen=True)
class Request:
    """What is to be measured, as the user said it."""

    model: str
    network: Network
    against_upstream_style: bool
    repeats: int
    precision: str
    port_limit: float | None
    """Of the processor, as the conditions state it."""


def bench(
    only: Annotated[
        Section,
        typer.Option(
            metavar="WHAT", help="layers, steps (with a profile), picture or all of it.", rich_help_panel=WHAT
        ),
    ] = "all",
    network: Annotated[
        Network,
        typer.Option(
            metavar="WHICH",
            help="Steps of the published network at 256x256, of the model at its window, or both.",
            rich_help_panel=WHAT,
        ),
    ] = "both",
    against_upstream_style: Annotated[
        bool,
        typer.Option(
            "--against-upstream-style",
            metavar=o.FLAG,
            help="Also time the step as the authors' code computes it, seconds each.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            metavar="N",
            help="Measurements of each figure; 3 at most of what takes long.",
            rich_help_panel=WHAT,
        ),
    ] = 7,
    model: o.OneModelOption = None,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    backend: o.BackendOption = "auto",
    threads: o.ThreadsOption = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", metavar=o.FLAG, help="Print Markdown on stdout instead.", rich_help_panel=o.MESSAGES
        ),
    ] = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Check, say the conditions, measure and show one section after the other; the help is the module's docstring."""
    out.configure(quiet=quiet or markdown, json=json, debug=debug)
    if json and markdown:
        raise UsageError("--json and --markdown exclude each other.", "Give one of them.")
    if against_upstream_style and only not in ("all", "steps"):
        raise UsageError(f"--only {only} has nothing in the upstream style.", "Leave --only out, or give --only steps.")

    from ..checkpoints.catalog import default_model
    from ..checkpoints.models import load_checkpoint
    from ..evaluation.benchmark import as_dict, choose_runtimes, look_at_conditions
    from ..evaluation.upstream_style import check_blocks
    from ..reports.bench import as_markdown, conditions_as_rows

    name = model or default_model()
    with out.download(name) as progress:
        checkpoint = load_checkpoint(name, progress=progress)
    why_not = checkpoint.config.network.why_not_packed
    runtimes = choose_runtimes(device, precision, backend, threads, why_not)
    if only == "layers" and runtimes[0].kind != "cpu":
        raise UsageError("Single layers are measured on the CPU alone.", "Add --device cpu.")
    if why_not and backend == "auto":
        out.warning(f"The native engine cannot run {name} ({why_not}): all is measured in plain torch.")
        backend = "reference"
    if against_upstream_style and network != "published":
        check_blocks(checkpoint.config.network)
    conditions = look_at_conditions(runtimes, backend, repeats)
    request = Request(name, network, against_upstream_style, repeats, precision, conditions.port_limit)
    out.answer("Conditions")
    out.rows(conditions_as_rows(conditions))
    rows: list[Row] = []
    for measured in _measure(only, request, runtimes, checkpoint):
        rows += measured
        _show(measured)
    if markdown:
        out.data(as_markdown(conditions, rows).encode())
    if json:
        out.json(as_dict(conditions, rows))


def _measure(
    only: Section, request: Request, runtimes: Sequence[Runtime], checkpoint: Checkpoint
) -> Iterator[list[Row]]:
    """The rows of each section, as soon as they are there."""
    from ..evaluation.layers import measure_layers
    from ..evaluation.picture import measure_picture
    from ..runtime import keep_freed_memory, out_of_memory_explained

    keep_freed_memory()  # as `upscale` does
    with out_of_memory_explained():
        if only in ("all", "layers") and runtimes[0].kind == "cpu":
            yield measure_layers(runtimes[0], request.repeats, request.port_limit)
        if only in ("all", "steps"):
            yield from _steps(request, runtimes, checkpoint)
        if only in ("all", "picture"):
            yield measure_picture(checkpoint, request.model, runtimes, request.precision, request.repeats)


def _steps(request: Request, runtimes: Sequence[Runtime], checkpoint: Checkpoint) -> Iterator[list[Row]]:
    """Steps of all networks that are asked for, then their profiles."""
    from ..evaluation.steps import measure_steps, of_model, profile_step, published

    workloads = [published()] if request.network != "model" else []
    workloads += [of_model(checkpoint)] if request.network != "published" else []
    style = request.against_upstream_style
    yield [
        row
        for workload in workloads
        for row in measure_steps(workload, runtimes, request.repeats, against_upstream_style=style)
    ]
    yield [
        row
        for workload in workloads
        for runtime in runtimes
        for row in profile_step(workload, runtime, request.repeats)
    ]


def _show(rows: Sequence[Row]) -> None:
    from ..reports.bench import tables

    for table in tables(rows):
        out.table(**vars(table))
