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

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import _options as o
from ._output import out
from ._signals import deferred
from ._values import parse_duration, parse_size

if TYPE_CHECKING:
    import torch

    from ..checkpoints.files import Checkpoint
    from ..training.config import TrainConfig
    from ..training.data import Pictures
    from ..training.run import Figures

RUN, LIMITS = "Run", "Limits"


def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A preset, or a TOML file.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="FOLDER", help="Pictures to train on; may be repeated.", rich_help_panel=RUN),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the config.", rich_help_panel=RUN),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(  # not --run, which torchrun would take for its own
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the run lies.",
            show_default="run-CONFIG",
            rich_help_panel=RUN,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Another of the paper's systems, in this size (cost --all).", rich_help_panel=RUN
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", metavar=o.FLAG, help="Go on with the run.", rich_help_panel=RUN)
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Begin with a model's weights.", rich_help_panel=RUN),
    ] = None,
    magnitudes: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A float model that says how firm the signs of a packed --init are.",
            rich_help_panel=RUN,
        ),
    ] = None,
    validate: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Originals to score the model on.", rich_help_panel=RUN),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            envvar="BIDIFFSR_CACHE",
            help="Where decoded pictures are kept.",
            show_default="the user's cache",
            rich_help_panel=RUN,
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", metavar=o.FLAG, help="Also log to RUN/tensorboard.", rich_help_panel=RUN),
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", metavar=o.FLAG, help="Print the config as TOML and end.", rich_help_panel=RUN)
    ] = False,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Training time, such as 50m or 2h; the schedule fits it.", rich_help_panel=LIMITS
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Iterations instead of a time.", rich_help_panel=LIMITS),
    ] = None,
    state_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Also write a compact state of at most this size.", rich_help_panel=LIMITS),
    ] = None,
    max_file: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Cut it into files of at most this size.", rich_help_panel=LIMITS),
    ] = None,
    device: o.DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of the CPU.", show_default="all cores", rich_help_panel=o.MACHINE),
    ] = None,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Read the config, prepare the folder, train; the help is the module's docstring."""
    out.configure(quiet=quiet, json=json, debug=debug)
    from ..training.config import to_toml

    folder = output or Path(f"run-{Path(config).stem}" if config else "run")
    wanted = list(changes or [])
    if time_limit is not None:
        wanted += [f"run.seconds={parse_duration(time_limit)}", "run.iterations=null"]
    if iterations is not None:
        wanted += [f"run.iterations={iterations}", "run.seconds=null"]
    if time_limit is not None and iterations is not None:
        raise UsageError("--time-limit and --iterations exclude each other.", "Give one of them.")
    if system is not None and resume:
        raise UsageError("--resume goes on with the run's own network.", "Leave --system out.")
    chosen = _config(config, system, wanted, folder, resume=resume)
    if data:  # not as words of TOML: a folder's name may be of any bytes
        chosen = dataclasses.replace(
            chosen, data=dataclasses.replace(chosen.data, pictures=tuple(map(_absolute, data)))
        )
    if show:
        out.data(to_toml(chosen).encode())
        return
    if max_file is not None and state_budget is None:
        raise UsageError("--max-file cuts the compact state.", "Add --state-budget.")
    if magnitudes is not None and init is None:
        raise UsageError("--magnitudes completes the signs of --init.", "Add --init MODEL.")
    if resume and (config is not None or init is not None):
        raise UsageError("--resume goes on with the run's own config and weights.", "Leave CONFIG and --init out.")

    from .. import runtime
    from ..training.data import CropSampler
    from ..training.run import Outputs, describe_data, prepare_folder, resumed
    from ..training.run import train as train_run
    from ..training.state import choose_level
    from ..training.trainer import Trainer

    prepare_folder(folder, resume=resume)
    runtime.keep_freed_memory()
    with _processes(device) as (place, rank):
        out.quiet = out.quiet or rank > 0
        sharded = place.type == "cpu" and not _launched() and not chosen.loss.dropout  # which threads could not share
        cores = threads or runtime.default_threads()
        weights = _weights(init, magnitudes, chosen)
        pictures = _pictures(chosen, cache)
        trainer = Trainer(
            chosen,
            CropSampler(pictures, chosen, place),
            place,
            perceptual=_perceptual(chosen, place),
            weights=weights,
            threads=cores if sharded else 1,
        )
        if resume:
            out.message(resumed(trainer, folder))
        outputs = Outputs(
            folder,
            describe_data(pictures, chosen),
            None if state_budget is None else choose_level(trainer, parse_size(state_budget)),
            None if max_file is None else parse_size(max_file),
            _validation(validate, place) if rank == 0 else None,
            [_Teller(), *([_tensorboard(folder)] if tensorboard and rank == 0 else [])],
        )
        with runtime.torch_threads(1 if sharded else max(1, cores // _local_processes())), deferred() as stop:
            done = train_run(trainer, outputs, stop)
    progress = trainer.progress
    state = "Done" if done else "Stopped; the state is saved, go on with --resume"
    out.message(f"{state}: {progress.iteration} iterations, {progress.samples} crops, {progress.seconds:.0f} s.")
    out.message(f"The model so far: {folder / 'model.safetensors'}")
    if out.as_json and rank == 0:
        facts = {"iteration": progress.iteration, "samples": progress.samples, "seconds": progress.seconds}
        out.json({"schema": "bidiffsr-train/1", "run": str(folder), "done": done, **facts})
    if stop.received is not None:  # all is said
        raise typer.Exit(128 + stop.received)


def _config(name: str | None, system: str | None, changes: list[str], folder: Path, *, resume: bool) -> TrainConfig:
    """Of a new run by its name, with another system in it; of a resumed one that of its state; with changes."""
    from ..training.config import changed, of_system, read_config
    from ..training.state import has_state, read_config_of

    if resume and has_state(folder):
        before = read_config_of(folder)
        after = changed(before, changes)
        if after.model.network != before.model.network:
            raise UsageError("--resume goes on with the run's own network.", "Begin another run, with --init.")
        return after
    if name is None:
        raise UsageError("There is no config.", "Name a preset or a TOML file: bidiffsr train fast --data FOLDER")
    if system is None:
        return read_config(name, changes)
    return changed(of_system(read_config(name), system), changes)


def _absolute(name: str) -> str:
    return os.path.abspath(name)  # noqa: PTH100 - Path.resolve would follow links


def _pictures(config: TrainConfig, cache: Path | None) -> Pictures:
    """The decoded pictures; of several processes on a machine, one decodes."""
    import torch.distributed as distributed

    from ..training.data import open_pictures

    def progress(done: int, count: int) -> None:
        if done % 100 == 0:
            out.message(f"Decoding pictures: {done} of {count}")

    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - may be relative
    folder, first = cache or Path(home, "bidiffsr", "pictures"), os.environ.get("LOCAL_RANK", "0") == "0"
    if _launched() and not first:
        distributed.barrier()
    pictures = open_pictures(config.data, config.model.scales, folder, progress)
    if _launched() and first:
        distributed.barrier()
    out.message(
        f"{len(pictures.stored)} pictures, {len(pictures.pixels) / 1e6:.1f} million pixels with the small ones."
    )
    for name, reason in list(pictures.skipped.items())[:10]:
        out.warning(f"Skipped {name}: {reason}")
    if pictures.skipped:
        out.warning(f"{len(pictures.skipped)} files were skipped.")
    return pictures


def _weights(init: str | None, magnitudes: str | None, config: TrainConfig) -> dict[str, torch.Tensor] | None:
    """The weights of a model to begin with."""
    from ..checkpoints.models import load_checkpoint
    from ..training.initial import initial_weights

    def load(word: str) -> Checkpoint:
        with out.download(word) as progress:
            return load_checkpoint(word, progress=progress)

    if init is None:
        return None
    return initial_weights(config.model, load(init), None if magnitudes is None else load(magnitudes))


def _perceptual(config: TrainConfig, device: torch.device) -> Any:
    """LPIPS on the device, if the loss has it."""
    rollout = config.loss.rollout
    if not config.loss.lpips and not (rollout.share and rollout.lpips):
        return None
    from ..evaluation.metrics import load_lpips

    return load_lpips().to(device)


def _validation(folder: Path | None, device: torch.device) -> Callable[[Checkpoint], Figures] | None:
    if folder is None:
        return None
    import torch

    from ..evaluation.validate import Validation
    from ..runtime import choose_runtime

    validation = Validation(folder)

    def validate(checkpoint: Checkpoint) -> Figures:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # what training holds back counts as taken
        return validation(checkpoint, choose_runtime(str(device), **checkpoint.runtime_facts))

    return validate


class _Teller:
    """Tells the person at the terminal what is in the log, a line at a time; the log itself says more."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, figures: Figures) -> None:
        if "scores" in figures:
            for scale, by_steps in figures["scores"].items():
                for steps, score in by_steps.items():
                    out.message(f"  x{scale}, {steps} steps: {score['psnr_y']:.3f} dB, LPIPS {score['lpips_alex']:.4f}")
            return
        out.message(
            f"{figures['part_done']:6.1%}  iteration {figures['iteration']}  loss {figures['loss']:.3f}  "
            f"lr {figures['lr']:.1e}  {figures['samples_per_second']:.1f} crops/s{self._left(figures['part_done'])}"
        )

    def _left(self, part: float) -> str:
        """How long it will take at the speed that this process had so far."""
        now = time.monotonic()
        first_time, first_part = self._first = self._first or (now, part)
        if part <= first_part:
            return ""
        left = (now - first_time) * (1 - part) / (part - first_part)
        return f"  {timedelta(seconds=round(left))} left"


def _tensorboard(folder: Path) -> Callable[[Figures], None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed.", "pip install 'bidiffsr[tensorboard]'") from None
    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(figures: Figures) -> None:
        for name, value in _flat(figures):
            writer.add_scalar(name, value, figures["iteration"])
        writer.flush()

    return write


def _flat(figures: Figures, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _local_processes() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def _processes(device: str) -> Iterator[tuple[torch.device, int]]:
    """The device of this process and its rank; joins the others if torchrun started several."""
    import torch
    import torch.distributed as distributed

    from ..runtime import choose_runtime

    if not _launched():
        yield torch.device(choose_runtime(device).device), 0
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    name = f"cuda:{local}" if cuda else choose_runtime(device if device != "auto" else "cpu").device
    place = torch.device(name)
    if cuda:
        torch.cuda.set_device(place)
    # the others wait while one decodes pictures or scores the model
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=12))
    try:
        yield place, distributed.get_rank()
        distributed.barrier()  # a process that ends while another one still works takes their connections with it
    finally:
        distributed.destroy_process_group()
