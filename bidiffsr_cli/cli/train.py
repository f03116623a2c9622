"""Train a model, from pictures to a checkpoint.

Examples:
  bidiffsr train smoke --data photos/              a minute, to see it work
  bidiffsr train fast --data DIV2K/ --time-limit 2h
  bidiffsr train --resume -o run-fast              go on after a stop
  bidiffsr train fast --data DIV2K/ --init fast    go on from the bundled model
  bidiffsr train fast --data A/ --data B/ --set optimizer.lr=2e-3
  bidiffsr train --show fast > mine.toml           all that there is to set
  bidiffsr train fast --system reactnet --data DIV2K/
  torchrun --nproc-per-node 4 -m bidiffsr_cli train base --data DIV2K/

Presets: base, fast, league, paper-x2, paper-x4, photo, smoke.
A run is a folder: config, log, state, and the model so far (model.safetensors,
for upscale).
Ctrl-C and SIGTERM save the state first; whatever else happens, it is as old
as run.save_every seconds at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from . import _options as o
from ._output import out
from ._signals import deferred
from ._values import parse_duration, parse_size

RUN, LIMITS = "Run", "Limits"


@dataclass(frozen=True)
class RunOptions:
    """What is trained, on what, and where it is written."""

    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="FOLDER", help="Pictures to train on; may be repeated.", rich_help_panel=RUN),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the config.", rich_help_panel=RUN),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(  # not --run, which torchrun would take for its own
            "--output",
            "-o",
            metavar="FOLDER",
            help="The folder of the run.",
            show_default="run-CONFIG",
            rich_help_panel=RUN,
        ),
    ] = None
    system: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Another of the paper's systems, in this size (cost --all).", rich_help_panel=RUN
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", metavar=o.FLAG, help="Go on with the run.", rich_help_panel=RUN)
    ] = False
    init: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Begin with a model's weights.", rich_help_panel=RUN)
    ] = None
    magnitudes: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Float model with the magnitudes that a packed --init lacks.", rich_help_panel=RUN
        ),
    ] = None
    validate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Originals to score the model on.", rich_help_panel=RUN)
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="BIDIFFSR_CACHE",
            help="Where decoded pictures are kept.",
            show_default="the user's cache",
            rich_help_panel=RUN,
        ),
    ] = None
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", metavar=o.FLAG, help="Also log to RUN/tensorboard.", rich_help_panel=RUN)
    ] = False


@dataclass(frozen=True)
class LimitOptions:
    """How long is trained, and how large a state may be."""

    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Training time, such as 50m or 2h; the schedule fits it.", rich_help_panel=LIMITS
        ),
    ] = None
    iterations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Iterations instead of a time.", rich_help_panel=LIMITS)
    ] = None
    state_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Also write a compact state of at most this size.", rich_help_panel=LIMITS),
    ] = None
    max_file: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Cut the compact state into files of at most this size.", rich_help_panel=LIMITS
        ),
    ] = None


@o.expanded
def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A preset, or a TOML file.", show_default=False)
    ] = None,
    *,
    options: RunOptions,
    show: Annotated[
        bool, typer.Option("--show", metavar=o.FLAG, help="Print the config as TOML and end.", rich_help_panel=RUN)
    ] = False,
    limits: LimitOptions,
    device: o.DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Threads of the CPU.", show_default="all cores", rich_help_panel=o.MACHINE
        ),
    ] = None,
    messages: o.Brief,
) -> None:
    """Show the config, or train; the help is the module's docstring."""
    messages.configure()
    from ..tasks.train import TrainRequest, run, train_config

    with deferred() as stop:
        request = TrainRequest(
            config,
            **vars(options) | {"data": options.data or (), "changes": options.changes or ()},
            time_limit=None if limits.time_limit is None else parse_duration(limits.time_limit),
            iterations=limits.iterations,
            state_budget=None if limits.state_budget is None else parse_size(limits.state_budget),
            max_file=None if limits.max_file is None else parse_size(limits.max_file),
            device=device,
            threads=threads,
            stop=stop,
        )
        if show:
            from ..training.config_files import to_toml

            out.data(to_toml(train_config(request)).encode())
            return
        from ..runtime import keep_freed_memory
        from ..training.processes import rank

        out.quiet = out.quiet or rank() > 0
        keep_freed_memory()
        result = run(request, out)
    state = "Done" if result.done else "Stopped; the state is saved, go on with --resume"
    out.message(f"{state}: {result.iteration} iterations, {result.samples} crops, {result.seconds:.0f} s.")
    out.message(f"The model so far: {result.folder / 'model.safetensors'}")
    if out.as_json and rank() == 0:
        out.json(result.to_dict())
    if stop.received is not None:  # all is said
        raise typer.Exit(128 + stop.received)
