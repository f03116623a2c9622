"""A run: a folder with its config, log, state, and the model it has come to.

config.json            every field
log.jsonl              a line every few iterations, and one for each validation
state.safetensors      from which the run goes on
compact/               the same in few bits and pieces, if that is asked for
model.safetensors      the averaged weights, packed where the method can be, as `upscale --model` takes them
weights.safetensors    the same as float32, from which another run can begin
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..atomic import sweep, write_atomic
from ..checkpoints.files import EXACT, Checkpoint, serialize_float, serialize_packed
from ..errors import OutputError, UsageError
from ..runtime import cpu_name
from .config import TrainConfig
from .data import Pictures
from .state import Level, has_state, load_state, save_compact_state, save_state
from .trainer import Break, Trainer

LICENSE = "unstated: set it with `bidiffsr models pack --license`"
LOG, COMPACT = "log.jsonl", "compact"
Figures = dict[str, Any]


@dataclass
class Outputs:
    """What a run writes, and whom it tells.

    Attributes:
        folder: of the run.
        trained_on: what the data is, for the model's origin.
        compact, max_file: level of a compact state (`state.choose_level`), written beside the whole one, and bytes of
            its pieces; None for none.
        validate: gives the scores of a checkpoint.
        listeners: are given every line of the log.
    """

    folder: Path
    trained_on: str
    compact: Level | None = None
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
        raise UsageError(f"There is no run to resume in '{folder}'.", "Leave --resume out, or name another --output.")
    if not resume and has_state(folder):
        raise UsageError(f"There is a run in '{folder}' already.", "Go on with --resume, or name another --output.")
    try:
        (folder / COMPACT).mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / COMPACT):
            sweep(place, older_than=0)
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be made: {error.strerror}.", "Name another --output."
        ) from None


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
    first, run = trainer.rank == 0, trainer.config.run
    if first:
        config = json.dumps(trainer.config.to_dict(), indent=2) + "\n"
        write_atomic(config.encode(), outputs.folder / "config.json", overwrite=True)

    def log(figures: Figures) -> None:
        if first:
            append_log(outputs.folder, figures)
            for listener in outputs.listeners:
                listener(figures)

    def show() -> None:
        if first:
            log(publish(trainer, outputs))

    breaks = [every(run.save_every, lambda: save(trainer, outputs))]
    breaks += [every(run.validate_every, show)] if run.validate_every else []
    trainer.run(log, stop, breaks)
    done = trainer.part_done() >= 1
    save(trainer, outputs)
    if first:
        log(publish(trainer, outputs if done else replace(outputs, validate=None)))  # who stops it will not wait
    return done


def every(seconds: float, action: Callable[[], None]) -> Break:
    """A break that is due so many seconds after it last ended."""
    last = time.monotonic()

    def act() -> None:
        nonlocal last
        action()
        last = time.monotonic()

    return Break(lambda: time.monotonic() - last >= seconds, act)


def append_log(folder: Path, figures: Figures) -> None:
    """Write a line of the log.

    Raises:
        OutputError: the disk is full, or the folder gone.
    """
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
    except OSError as error:
        raise OutputError(f"'{folder / LOG}' cannot be written: {error.strerror}.", "Make room, then go on.") from None


def cut_log(folder: Path, iteration: int) -> None:
    """Drop the lines behind an iteration, which a killed run will write again."""
    path = folder / LOG
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["iteration"] <= iteration]
        write_atomic("".join(kept).encode(), path, overwrite=True)


def save(trainer: Trainer, outputs: Outputs) -> None:
    """Write the state, and the compact one if one is wanted."""
    save_state(trainer, outputs.folder)
    if outputs.compact is not None and trainer.rank == 0:
        save_compact_state(trainer, outputs.folder / COMPACT, outputs.compact, outputs.max_file)


def publish(trainer: Trainer, outputs: Outputs) -> Figures:
    """Write the model as it is now, and score it if there is something to score it on."""
    trainer.check_finite()
    checkpoint = checkpoint_of(trainer, outputs.trained_on)
    scores = outputs.validate(checkpoint) if outputs.validate else {}
    if scores:
        checkpoint = replace(checkpoint, origin=f"{checkpoint.origin} Scores: {json.dumps(scores)}")
    float32 = serialize_float(checkpoint)
    packs = not checkpoint.config.network.why_not_packed
    model = serialize_packed(checkpoint, EXACT) if packs else float32
    write_atomic(model, outputs.folder / "model.safetensors", overwrite=True)
    write_atomic(float32, outputs.folder / "weights.safetensors", overwrite=True)
    return {"iteration": trainer.progress.iteration, "seconds": trainer.progress.seconds, "scores": scores}


def checkpoint_of(trainer: Trainer, trained_on: str) -> Checkpoint:
    """The averaged weights with all that is known of how they came about."""
    progress, data = trainer.progress, trainer.config.data
    config = replace(trainer.config, data=replace(data, pictures=(), low_res={}))  # where they lie is nobody's concern
    hardware = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else cpu_name()
    threads = "" if trainer.device.type == "cuda" else f", {trainer.threads} threads"
    machine = f"{platform.machine()}{threads}, {'bf16' if trainer.bf16 else 'fp32'}"
    origin = (
        f"Trained {progress.seconds / 60:.0f} minutes on {trainer.world} x {hardware} ({machine}): "
        f"{progress.iteration} iterations, {progress.samples} crops of {data.crop}x{data.crop}, on {trained_on}. "
        f"Config: {json.dumps(config.to_dict())}"
    )
    return Checkpoint.of_tensors(trainer.config.model, trainer.average(), LICENSE, origin)


def resumed(trainer: Trainer, folder: Path) -> str:
    """Load the state of a folder, and say how well it fits."""
    exact = load_state(trainer, folder)
    if trainer.rank == 0:
        cut_log(folder, trainer.progress.iteration)
    where = f"Resumed at iteration {trainer.progress.iteration}"
    if exact:
        return f"{where}."
    if trainer.progress.since_iteration:
        return f"{where} from a compact state: Adam and the schedule begin anew."
    return f"{where}, on other devices: with other crops than it would have seen."


def describe_data(pictures: Pictures, config: TrainConfig) -> str:
    """One phrase on the pictures of a run."""
    degradation = "bicubic with what happens to photos" if config.data.degrades else "bicubic"
    made = sum(bool(item.synthetic) for item in pictures.stored)
    count = f"{len(pictures.stored) - made} pictures" + (f" and {made} made in code" if made else "")
    return f"{count} (pixels' sha256 {pictures.sha256[:16]}), degradation {degradation}"
