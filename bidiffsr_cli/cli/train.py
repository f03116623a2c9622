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
A run is a folder: config, log, state, and the model so far, for upscale
(model.safetensors) and with float weights (weights.safetensors), which models
pack and --magnitudes take.
Ctrl-C and SIGTERM save the state first; whatever else happens, it is as old
as run.save_every seconds at most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..text import counted
from . import _options as o
from ._output import out
from ._signals import deferred
from ._values import parse_duration, parse_size

RUN = "Run"


@o.group(RUN)
class RunOptions:
    """What is trained, on what, and where it is written."""

    data: Annotated[list[str] | None, o.option("FOLDER", "Pictures to train on; may be repeated.", "--data")] = None
    changes: Annotated[list[str] | None, o.option("FIELD=VALUE", "Change a field of the config.", "--set")] = None
    output: Annotated[
        Path | None, o.option("FOLDER", "The folder of the run.", "--output", "-o", show_default="run-CONFIG")
    ] = None
    system: Annotated[str | None, o.option("NAME", "Another of the paper's systems, in this size (cost --all).")] = None
    resume: Annotated[bool, o.option(o.FLAG, "Go on with the run.", "--resume")] = False
    init: Annotated[str | None, o.option("NAME|PATH", "Begin with a model's weights.")] = None
    magnitudes: Annotated[
        str | None, o.option("PATH", "Float model with the magnitudes that a packed --init lacks.")
    ] = None
    validate: Annotated[Path | None, o.option("FOLDER", "Originals to score the model on.")] = None
    cache: Annotated[
        Path | None,
        o.option(
            "FOLDER", "Where decoded pictures are kept.", envvar="BIDIFFSR_CACHE", show_default="the user's cache"
        ),
    ] = None
    tensorboard: Annotated[bool, o.option(o.FLAG, "Also log to RUN/tensorboard.", "--tensorboard")] = False


@o.group("Limits")
class LimitOptions:
    """How long is trained, and how large a state may be."""

    time_limit: Annotated[str | None, o.option("TIME", "Training time, such as 50m or 2h; the schedule fits it.")] = (
        None
    )
    iterations: Annotated[int | None, o.option("N", "Iterations instead of a time.", min=1)] = None
    state_budget: Annotated[str | None, o.option("SIZE", "Also write a compact state of at most this size.")] = None
    max_file: Annotated[str | None, o.option("SIZE", "Cut the compact state into files of at most this size.")] = None


@o.expanded
def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A preset, or a TOML file.", show_default=False)
    ] = None,
    *,
    options: RunOptions,
    show: Annotated[
        bool, o.option(o.FLAG, "Print the config as TOML, or with --json as JSON, and end.", "--show", panel=RUN)
    ] = False,
    limits: LimitOptions,
    device: o.DeviceOption = "auto",
    threads: Annotated[int | None, o.threads_option("Threads of the CPU.", min=1)] = None,
    messages: o.Brief,
) -> None:
    """Show the config, or train; the help is the module's docstring."""
    messages.configure()
    from ..runtime import Machine, keep_freed_memory
    from ..tasks.train import TrainRequest, run, train_config

    with deferred() as stop:
        request = TrainRequest(
            config,
            **vars(options) | {"data": options.data or (), "changes": options.changes or ()},
            time_limit=None if limits.time_limit is None else parse_duration(limits.time_limit),
            iterations=limits.iterations,
            state_budget=None if limits.state_budget is None else parse_size(limits.state_budget),
            max_file=None if limits.max_file is None else parse_size(limits.max_file),
            machine=Machine(device, threads=threads),
        )
        if show:
            from ..training.config_files import to_toml

            wanted = train_config(request)
            out.json(wanted.to_dict())
            if not out.as_json:
                out.write(to_toml(wanted).encode())
            return
        from ..training.processes import rank

        out.quiet = out.quiet or rank() > 0
        out.stop = stop
        keep_freed_memory()
        result = run(request, out)
    state = "Done" if result.done else "Stopped; the state is saved, go on with --resume"
    out.message(
        f"{state}: {counted(result.iteration, 'iteration')}, {counted(result.samples, 'crop')}, {result.seconds:.0f} s."
    )
    out.message(f"The model so far: {result.folder / 'model.safetensors'}")
    if rank() == 0:
        out.json(result.to_dict())
    if stop.received is not None:  # all is said
        raise typer.Exit(128 + stop.received)
