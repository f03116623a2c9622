"""A run: a folder with its config, log, state, and the model it has come to.

config.json            every field
log.jsonl              a line every few iterations, and one for each validation
state.safetensors      from which the run goes on
model.safetensors      the averaged weights, packed, as `upscale --model` takes them
weights.safetensors    the same as float32, from which another run can begin
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..atomic import write_atomic
from ..checkpoints.files import EXACT, Checkpoint, serialize_float, serialize_packed
from ..errors import OutputError, UsageError
from ..runtime import cpu_name
from .config import TrainConfig
from .state import has_state, load_state, save_compact_state, save_state
from .trainer import Trainer

LICENSE = "unstated: set it with `bidiffsr models pack --license`"
Figures = dict[str, Any]


@dataclass
class Outputs:
    """What a run writes, and whom it tells.

    Attributes:
        folder: of the run.
        trained_on: what the data is, for the model's origin.
        budget, max_file: bytes of a compact state and of its pieces, written beside the whole one; None for none.
        validate: gives the scores of a checkpoint.
        listeners: are given every line of the log.
    """

    folder: Path
    trained_on: str
    budget: int | None = None
    max_file: int | None = None
    validate: Callable[[Checkpoint], Figures] | None = None
    listeners: Sequence[Callable[[Figures], None]] = field(default_factory=list)


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make the folder of a run, or see that there is one.

    Raises:
        UsageError: there is a run that is not to be resumed, or none that could be.
        OutputError: it cannot be made.
    """
    if resume and not has_state(folder):
        raise UsageError(f"There is no run to resume in '{folder}'.", "Leave --resume out, or name another --run.")
    if not resume and has_state(folder):
        raise UsageError(f"There is a run in '{folder}' already.", "Go on with --resume, or name another --run.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder '{folder}' cannot be made: {error.strerror}.", "Name another --run.") from None


def train(trainer: Trainer, outputs: Outputs, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train to the end of the run, or until `stop`; the state and the model are written whichever way it ends.

    Args:
        trainer: new, or as `state.load_state` left it.
        outputs: what is written.
        stop: asked after every iteration.

    Returns:
        Whether the run came to its end.

    Raises:
        BidiffsrError: the loss is no longer finite; the last state is a sound one.
        OutputError: the disk is full, or the folder gone.
    """
    first = trainer.rank == 0
    run, saved, validated = trainer.config.run, time.monotonic(), time.monotonic()
    if first:
        config = json.dumps(trainer.config.to_dict(), indent=2) + "\n"
        write_atomic(config.encode(), outputs.folder / "config.json", overwrite=True)

    def log(figures: Figures) -> None:
        if first:
            with (outputs.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
            for listener in outputs.listeners:
                listener(figures)

    def pause() -> bool:
        nonlocal saved, validated
        now = time.monotonic()
        if trainer.agreed(now - saved >= run.save_every):
            save(trainer, outputs)
            saved = time.monotonic()
        if first and run.validate_every and now - validated >= run.validate_every:
            log(publish(trainer, outputs))
            validated = time.monotonic()
        return stop()

    trainer.run(log, pause)
    save(trainer, outputs)
    if first:
        log(publish(trainer, outputs))
    return trainer.part_done() >= 1


def save(trainer: Trainer, outputs: Outputs) -> None:
    """Write the state, and the compact one if one is wanted."""
    save_state(trainer, outputs.folder)
    if outputs.budget is not None and trainer.rank == 0:
        compact = outputs.folder / "compact"
        compact.mkdir(exist_ok=True)
        save_compact_state(trainer, compact, outputs.budget, outputs.max_file)


def publish(trainer: Trainer, outputs: Outputs) -> Figures:
    """Write the model as it is now, and score it if there is something to score it on."""
    checkpoint = checkpoint_of(trainer, outputs.trained_on)
    scores = outputs.validate(checkpoint) if outputs.validate else {}
    checkpoint = checkpoint_of(trainer, outputs.trained_on, scores)
    write_atomic(serialize_packed(checkpoint, EXACT), outputs.folder / "model.safetensors", overwrite=True)
    write_atomic(serialize_float(checkpoint), outputs.folder / "weights.safetensors", overwrite=True)
    return {"iteration": trainer.progress.iteration, "seconds": trainer.progress.seconds, "scores": scores}


def checkpoint_of(trainer: Trainer, trained_on: str, scores: Figures | None = None) -> Checkpoint:
    """The averaged weights with all that is known of how they came about."""
    progress, data = trainer.progress, trainer.config.data
    hardware = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else cpu_name()
    threads = "" if trainer.device.type == "cuda" else f", {trainer.threads} threads"
    origin = (
        f"Trained {progress.seconds / 60:.0f} minutes on {trainer.world} x {hardware} ({platform.machine()}{threads}): "
        f"{progress.iteration} iterations, {progress.samples} crops of {data.crop}x{data.crop}, on {trained_on}. "
        f"Config: {json.dumps(trainer.config.to_dict())}"
    )
    if scores:
        origin += f" Scores: {json.dumps(scores)}"
    return Checkpoint(trainer.config.model, trainer.average(), LICENSE, origin)


def resumed(trainer: Trainer, folder: Path) -> str:
    """Load the state of a folder, and say how well it fits."""
    exact = load_state(trainer, folder)
    where = f"Resumed at iteration {trainer.progress.iteration}"
    return f"{where}." if exact else f"{where} from a compact state: Adam and the schedule begin anew."


def describe_data(sha256: str, count: int, config: TrainConfig) -> str:
    """One phrase on the pictures of a run."""
    wild = config.data.blur or config.data.noise or config.data.jpeg < 100
    degradation = "bicubic with blur, noise or JPEG" if wild else "bicubic"
    return f"{count} pictures (pixels' sha256 {sha256[:16]}), degradation {degradation}"
