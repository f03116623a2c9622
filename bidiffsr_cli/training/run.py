"""A run: a folder with its config, its log, its state and the model so far.

config.json            every field
log.jsonl              a line every few iterations, and one for each validation
state.safetensors      what the run resumes from
compact/               the same quantized and in pieces, if that is asked for
model.safetensors      the averaged weights, packed if the method can be, as `upscale --model` takes them
weights.safetensors    the same in float32, from which another run can begin
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
from ..checkpoints.files import EIGHT_BITS, EXACT, Checkpoint, serialize_float, serialize_packed
from ..errors import OutputError, UsageError
from ..runtime import cpu_name
from ..text import counted
from .config import TrainConfig
from .dataset import Dataset
from .progress import Callback
from .state import BitWidths, has_state, load_state, save_compact_state, save_state
from .trainer import Trainer

LICENSE = "unstated: set it with `bidiffsr models pack --license`"
LOG, COMPACT = "log.jsonl", "compact"
LogLine = dict[str, Any]
"""A line of the log; one on a validation has "scores"."""


@dataclass
class Outputs:
    """What a run writes.

    Attributes:
        folder: of the run.
        trained_on: describes the data, for the model's origin.
        compact: bit widths of a compact state (`state.choose_bit_widths`) beside the full one; None for no such state.
        max_file: bytes of its pieces at most; None for one piece.
        validate: returns the scores of a checkpoint.
        on_log: each is called with every line of the log.
    """

    folder: Path
    trained_on: str
    compact: BitWidths | None = None
    max_file: int | None = None
    validate: Callable[[Checkpoint], LogLine] | None = None
    on_log: Sequence[Callable[[LogLine], None]] = field(default_factory=list)


def check_run(folder: Path, *, resume: bool) -> None:
    """Raise UsageError if there is a run in the folder that is not to be resumed, or none that could be."""
    if resume and not has_state(folder):
        raise UsageError(f"There is no run to resume in '{folder}'.", "Leave --resume out, or name another --output.")
    if not resume and has_state(folder):
        raise UsageError(f"There is a run in '{folder}' already.", "Go on with --resume, or name another --output.")


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make the folder of a new run, or check that there is a run to resume.

    Raises:
        UsageError: as `check_run`.
        OutputError: the folder cannot be made.
    """
    check_run(folder, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / COMPACT):
            sweep(place, older_than=0)
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be made: {error.strerror}.", "Name another --output."
        ) from None


def train_run(trainer: Trainer, outputs: Outputs, stop: Callable[[], bool] = lambda: False) -> bool:
    """Train to the end of the run, or until `stop` returns true; write the state and the model in either case.

    Args:
        trainer: new, or as `state.load_state` left it.
        outputs: what is written.
        stop: asked after every iteration.

    Returns:
        Whether the run reached its end.

    Raises:
        BidiffsrError: the loss is no longer finite; the last state is still good.
        OutputError: the disk is full, or the folder is gone.
    """
    first, run = trainer.rank == 0, trainer.config.run
    if first:
        config = json.dumps(trainer.config.to_dict(), indent=2) + "\n"
        write_atomic(config.encode(), outputs.folder / "config.json", overwrite=True)

    def log(line: LogLine) -> None:
        if first:
            append_log(outputs.folder, line)
            for on_log in outputs.on_log:
                on_log(line)

    def validate() -> None:
        if first:
            log(publish(trainer, outputs))

    callbacks = [every(run.save_every, lambda: save(trainer, outputs))]
    callbacks += [every(run.validate_every, validate)] if run.validate_every else []
    trainer.run(log, stop, callbacks)
    done = trainer.part_done() >= 1
    save(trainer, outputs)
    if first:
        log(publish(trainer, outputs if done else replace(outputs, validate=None)))  # whoever stops it will not wait
    return done


def every(seconds: float, action: Callable[[], None]) -> Callback:
    """A callback that is due so many seconds after it last ended."""
    last = time.monotonic()

    def act() -> None:
        nonlocal last
        action()
        last = time.monotonic()

    return Callback(lambda: time.monotonic() - last >= seconds, act)


def append_log(folder: Path, line: LogLine) -> None:
    """Append a line to the log.

    Raises:
        OutputError: the disk is full, or the folder is gone.
    """
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise OutputError(f"'{folder / LOG}' cannot be written: {error.strerror}.", "Make room, then go on.") from None


def cut_log(folder: Path, iteration: int) -> None:
    """Drop the lines after an iteration, which the run will write again."""
    path = folder / LOG
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["iteration"] <= iteration]
        write_atomic("".join(kept).encode(), path, overwrite=True)


def save(trainer: Trainer, outputs: Outputs) -> None:
    """Write the state, and the compact one if it is asked for."""
    save_state(trainer, outputs.folder)
    if outputs.compact is not None and trainer.rank == 0:
        save_compact_state(trainer, outputs.folder / COMPACT, outputs.compact, outputs.max_file)


def publish(trainer: Trainer, outputs: Outputs) -> LogLine:
    """Validate the model as it is now if there is something to validate it on, and write it; returns the log's line."""
    trainer.check_finite()
    checkpoint = checkpoint_of(trainer, outputs.trained_on)
    scores = outputs.validate(checkpoint) if outputs.validate else {}
    if scores:
        checkpoint = replace(checkpoint, origin=f"{checkpoint.origin} Scores: {json.dumps(scores)}")
    float32 = serialize_float(checkpoint)
    packs = not checkpoint.config.network.why_not_packed
    model = serialize_packed(checkpoint, EXACT, EIGHT_BITS) if packs else float32
    write_atomic(model, outputs.folder / "model.safetensors", overwrite=True)
    write_atomic(float32, outputs.folder / "weights.safetensors", overwrite=True)
    return {"iteration": trainer.progress.iteration, "seconds": trainer.progress.seconds, "scores": scores}


def checkpoint_of(trainer: Trainer, trained_on: str) -> Checkpoint:
    """The averaged weights, with an origin that tells how they were trained."""
    progress, data = trainer.progress, trainer.config.data
    config = replace(trainer.config, data=replace(data, pictures=(), low_res={}))  # paths are private
    hardware = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else cpu_name()
    threads = "" if trainer.device.type == "cuda" else f", {counted(trainer.threads, 'thread')}"
    machine = f"{platform.machine()}{threads}, {'bf16' if trainer.bf16 else 'fp32'}"
    origin = (
        f"Trained {progress.seconds / 60:.0f} minutes on {trainer.world} x {hardware} ({machine}): "
        f"{progress.iteration} iterations, {progress.samples} crops of {data.crop}x{data.crop}, on {trained_on}. "
        f"Config: {json.dumps(config.to_dict())}"
    )
    return Checkpoint.of_tensors(trainer.config.trained_model, trainer.average(), LICENSE, origin)


def resumed(trainer: Trainer, folder: Path) -> str:
    """Load the state of a folder; returns a sentence on where the run resumes, and whether exactly."""
    exact = load_state(trainer, folder)
    if trainer.rank == 0:
        cut_log(folder, trainer.progress.iteration)
    where = f"Resumed at iteration {trainer.progress.iteration}"
    if exact:
        return f"{where}."
    if trainer.progress.since_iteration == trainer.progress.iteration > 0:
        return f"{where} from a compact state: Adam and the schedule begin anew."
    return f"{where}, on other devices: with other crops than it would have seen."


def describe_data(dataset: Dataset, config: TrainConfig) -> str:
    """A phrase on the pictures of a run, for the model's origin."""
    degradation = "bicubic with what happens to photos" if config.data.degrades else "bicubic"
    return f"{dataset.size_in_words} (pixels' sha256 {dataset.sha256[:16]}), degradation {degradation}"
