"""Train a model: find the config, prepare the folder, decode the pictures, and run the loop.

result = train("smoke", data=["photos/"], output="run", iterations=3)
result.done, result.folder / "model.safetensors"
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, check_least
from ..runtime import Machine
from .files import check_folder, several
from .listener import SILENT, Listener, as_function, load_model

if TYPE_CHECKING:
    import torch

    from ..checkpoints.files import Checkpoint
    from ..training.config import TrainConfig
    from ..training.dataset import Dataset
    from ..training.objective import PerceptualDistance
    from ..training.run import LogLine

SCHEMA = "bidiffsr-train/1"
MOST_SKIPPED = 10
"""Files of which is told why they were skipped."""


@dataclass(frozen=True)
class TrainRequest:
    """What `train` is asked for.

    Attributes:
        config: a preset, or the path of a TOML file; None only to resume a run.
        data: folders of pictures, or pictures; empty takes those of the config.
        changes: "table.field=value" each, of the config's fields.
        output: folder of the run; None is run-CONFIG in the current folder.
        system: another of the paper's systems (`networks.systems`), in the config's size.
        resume: go on with the run in `output`.
        init: model whose weights to begin with: a name of the catalog, or the path of a file.
        magnitudes: float model that has the magnitudes of the weights of a packed `init`.
        validate: folder of originals to score the model on.
        cache: folder of decoded pictures; None is in the user's cache.
        tensorboard: also log to the run's folder tensorboard.
        time_limit: seconds of training, instead of the config's length.
        iterations: likewise, in iterations; only one of the two.
        state_budget: also write a compact state of at most so many bytes.
        max_file: cut the compact state into files of at most so many bytes.
        machine: where to train; precision and backend are the config's business.

    Raises:
        UsageError: a value is not possible, or two do not go together.
    """

    config: str | None = None
    _: KW_ONLY
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()
    changes: str | Sequence[str] = ()
    output: str | os.PathLike[str] | None = None
    system: str | None = None
    resume: bool = False
    init: str | None = None
    magnitudes: str | None = None
    validate: str | os.PathLike[str] | None = None
    cache: str | os.PathLike[str] | None = None
    tensorboard: bool = False
    time_limit: float | None = None
    iterations: int | None = None
    state_budget: int | None = None
    max_file: int | None = None
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check_least(1, iterations=self.iterations, state_budget=self.state_budget, max_file=self.max_file)
        check_least(0, time_limit=self.time_limit)
        if (self.machine.precision, self.machine.backend) != ("auto", "auto"):
            raise UsageError("Training takes device and threads alone.", "Leave precision and backend out.")
        if self.time_limit is not None and self.iterations is not None:
            raise UsageError("--time-limit and --iterations exclude each other.", "Give one of them.")
        if self.system is not None and self.resume:
            raise UsageError("--resume goes on with the run's own network.", "Leave --system out.")
        if self.max_file is not None and self.state_budget is None:
            raise UsageError("--max-file cuts the compact state.", "Add --state-budget.")
        if self.magnitudes is not None and self.init is None:
            raise UsageError("--magnitudes completes the signs of --init.", "Add --init MODEL.")
        if self.resume and (self.config is not None or self.init is not None):
            raise UsageError("--resume goes on with the run's own config and weights.", "Leave CONFIG and --init out.")

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.output or (f"run-{Path(self.config).stem}" if self.config else "run"))


@dataclass(frozen=True)
class TrainResult:
    """How far a run came.

    Attributes:
        folder: of the run; `training/run.py` lists its files.
        done: whether the run reached its end, and was not stopped.
        iteration: iterations done.
        samples: crops seen, by all processes together.
        seconds: of training.
    """

    folder: Path
    done: bool
    iteration: int
    samples: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return {"schema": SCHEMA, "run": str(self.folder)} | {k: v for k, v in vars(self).items() if k != "folder"}


def train_config(request: TrainRequest) -> TrainConfig:
    """The config of the run that is asked for, with all changes; of a resumed run it is that of the state.

    Raises:
        UsageError: there is no such config, or what is asked for does not go together.
        CheckpointError: the state of the run is damaged.
    """
    from ..training.config_files import changed, of_system, read_config

    changes = several(request.changes)
    if request.time_limit is not None:
        changes += [f"run.seconds={request.time_limit}", "run.iterations=null"]
    if request.iterations is not None:
        changes += [f"run.iterations={request.iterations}", "run.seconds=null"]
    if request.resume:
        from ..training.run import check_run
        from ..training.state import read_config_of

        check_run(Path(request.folder), resume=True)
        before = read_config_of(Path(request.folder))
        config = changed(before, changes)
        if config.model.network != before.model.network:
            raise UsageError("--resume goes on with the run's own network.", "Begin another run, with --init.")
    elif request.config is None:
        raise UsageError("There is no config.", "Name a preset or a TOML file: bidiffsr train fast --data FOLDER")
    elif request.system is None:
        config = read_config(request.config, changes)
    else:
        config = changed(of_system(read_config(request.config), request.system), changes)
    if not request.data:
        return config
    pictures = tuple(os.path.abspath(name) for name in several(request.data))  # noqa: PTH100 - Path.resolve would follow links
    return replace(config, data=replace(config.data, pictures=pictures))


def run(request: TrainRequest, listener: Listener = SILENT) -> TrainResult:
    """Train to the end of the run, or until the listener has `stopped`; state and model are saved in either case.

    Raises:
        UsageError: what is asked for does not go together, or the folder has a run already.
        InputError: a picture is missing, or none can be used.
        OutputError: the folder or the cache cannot be written.
        ModelError: the model to begin with cannot be had.
        DeviceError: the device is not there.
        BidiffsrError: the loss is no longer finite; the last state is still good.
    """
    config, folder = train_config(request), request.folder
    from .. import runtime
    from ..reports.training import LogTeller
    from ..training.crops import CropSampler
    from ..training.initial import check_upsampler
    from ..training.processes import joined, launched, local_processes, rank
    from ..training.run import COMPACT, Outputs, describe_data, prepare_folder, resumed, train_run
    from ..training.state import choose_bit_widths
    from ..training.tensorboard import tensorboard_writer
    from ..training.trainer import Trainer

    if not request.resume:
        check_folder(folder, ours=[COMPACT, "config.json"])
    prepare_folder(folder, resume=request.resume)
    first = rank() == 0
    with joined(request.machine) as device:
        # threads compute parts of a batch, but with dropout, as they would share its generator
        parts = device.type == "cpu" and not launched() and not config.loss.dropout
        cores = request.machine.threads or runtime.default_threads()
        weights = _initial_weights(request, config, listener)
        if not request.resume:
            check_upsampler(config, weights or {})
        dataset = _dataset(request, config, listener)
        trainer = Trainer(
            config,
            CropSampler(dataset, config, device),
            device,
            perceptual=_perceptual(config, device),
            weights=weights,
            threads=cores if parts else 1,
        )
        if request.resume:
            listener.message(resumed(trainer, folder))
        outputs = Outputs(
            folder,
            describe_data(dataset, config),
            None if request.state_budget is None else choose_bit_widths(trainer, request.state_budget),
            request.max_file,
            _validation(Path(request.validate), device) if request.validate is not None and first else None,
            [LogTeller(listener.message), *([tensorboard_writer(folder)] if request.tensorboard and first else [])],
        )
        with runtime.torch_threads(1 if parts else max(1, cores // local_processes())):
            done = train_run(trainer, outputs, listener.stopped)
    progress = trainer.progress
    return TrainResult(folder, done, progress.iteration, progress.samples, progress.seconds)


def _dataset(request: TrainRequest, config: TrainConfig, listener: Listener) -> Dataset:
    """The decoded pictures."""
    from ..training.dataset import open_dataset
    from ..training.processes import one_at_first

    def progress(done: int, count: int) -> None:
        if done % 100 == 0:
            listener.message(f"Decoding pictures: {done} of {count}")

    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - may be relative
    cache = Path(request.cache or Path(home, "bidiffsr", "pictures"))
    with one_at_first():
        dataset = open_dataset(config.data, config.model.scales, cache, progress)
    listener.message(f"{dataset.size_in_words}, {len(dataset.pixels) / 1e6:.1f} million pixels with the small ones.")
    for name, reason in list(dataset.skipped.items())[:MOST_SKIPPED]:
        listener.warning(f"Skipped {name}: {reason}")
    if dataset.skipped:
        listener.warning(f"{len(dataset.skipped)} files were skipped.")
    return dataset


def _initial_weights(request: TrainRequest, config: TrainConfig, listener: Listener) -> dict[str, torch.Tensor] | None:
    """The weights of a model to begin with."""
    from ..training.initial import initial_weights

    if request.init is None:
        return None
    model = load_model(request.init, listener)
    floats = None if request.magnitudes is None else load_model(request.magnitudes, listener)
    return initial_weights(config.model, model, floats)


def _perceptual(config: TrainConfig, device: torch.device) -> PerceptualDistance | None:
    """LPIPS on the device, if the loss has it."""
    rollout = config.loss.rollout
    if not config.loss.lpips and not (rollout.share and rollout.lpips):
        return None
    from ..evaluation.metrics import load_lpips

    return load_lpips().to(device)


def _validation(folder: Path, device: torch.device) -> Callable[[Checkpoint], LogLine]:
    """A function that scores a checkpoint on the originals of a folder."""
    import torch

    from ..evaluation.validate import Validation
    from ..runtime import choose_runtime

    validation = Validation(folder)

    def validate(checkpoint: Checkpoint) -> LogLine:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # what training holds back counts as taken
        return validation(checkpoint, choose_runtime(Machine(str(device)), **checkpoint.runtime_facts))

    return validate


train = as_function(TrainRequest, run)
