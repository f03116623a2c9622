"""What a training run is, as frozen dataclasses read from TOML: a preset, a user's file, and single fields on top.

    config = read_config("fast", ["data.pictures=['photos']", "optimizer.lr=2e-3"])

A file names the preset that it changes in `preset = "..."`. The presets lie in `training/presets`.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..configs import ModelConfig, check, check_between, check_one_of, parse_config
from ..errors import CheckpointError, UsageError
from ..images.kernels import KERNELS
from ..systems import find_system

PRESETS = Path(__file__).parent / "presets"
KINDS = ("flats", "gradients", "text", "interfaces")
"""Of pictures that are made in code (`training/synthetic.py`)."""
SPECTRUM = 64
"""Side of the part of a crop whose spectrum comb and cross judge, pixels."""
LEAST_FOR_LPIPS = 48
"""Side below which AlexNet's last layers see less than two places of a picture, pixels."""


@dataclass(frozen=True)
class DataConfig:
    """Pictures, and what is cut out of them."""

    pictures: tuple[str, ...] = ()
    """Folders (searched with all that is in them) or files: the originals, HR."""
    low_res: dict[str, str] = field(default_factory=dict)
    """Scale -> folder of small pictures, named as the originals or as sets usually are; others are made by bicubic."""
    crop: int = 64
    """Side of a crop, pixels of the original."""
    batch: int = 32
    """Crops of one iteration, on each process."""
    candidates: int = 2
    """Crops that are drawn for each one taken: the one with most detail."""
    plain: float = 0.0
    """Share of crops that are taken as they come, without that choice."""
    synthetic: dict[str, float] = field(default_factory=dict)
    """Shares of crops from pictures that are made in code: flats, gradients, text, interfaces."""
    augment: bool = True
    """Mirror and transpose at random."""
    clean: float = 0.0
    """Share of crops that none of what follows happens to."""
    kernels: dict[str, float] = field(default_factory=dict)
    """Shares of small pictures that are made by lanczos, bilinear, area; the rest by bicubic."""
    blur: float = 0.0
    """Blur small pictures by a Gaussian of up to this standard deviation, pixels; 3 crops of 10, as the next three."""
    noise: float = 0.0
    """Noise of up to this standard deviation, levels of 255: grey or coloured, fine or coarse, by light or not."""
    chroma_blur: float = 0.0
    """Blur colour, not light, by a Gaussian of up to this standard deviation, pixels."""
    sharpen: float = 0.0
    """Sharpen by an unsharp mask of one pixel and up to this strength."""
    jpeg: int = 100
    """JPEG of qualities down to this, once or twice; 100 leaves it out."""
    webp: int = 100
    """Likewise WebP, of a part of the crops."""

    def __post_init__(self) -> None:
        check_between(self, "crop", 16, 4096)
        check_between(self, "batch", 1, 4096)
        check_between(self, "candidates", 1, 16)
        check_between(self, "plain", 0, 1)
        check(set(self.synthetic) <= set(KINDS), self, "synthetic")
        check(all(share >= 0 for share in self.synthetic.values()), self, "synthetic")
        check(sum(self.synthetic.values()) <= 1, self, "synthetic")
        check_between(self, "blur", 0, 10)
        check_between(self, "noise", 0, 100)
        check_between(self, "chroma_blur", 0, 10)
        check_between(self, "sharpen", 0, 3)
        check_between(self, "jpeg", 10, 100)
        check_between(self, "webp", 1, 100)
        check_between(self, "clean", 0, 1)
        check(set(self.kernels) <= set(KERNELS), self, "kernels")
        check(all(share >= 0 for share in self.kernels.values()), self, "kernels")
        check(sum(self.kernels.values()) <= 1, self, "kernels")

    @property
    def degrades(self) -> bool:
        """Whether small pictures are made worse than bicubic makes them."""
        soft = self.blur or self.noise or self.chroma_blur or self.sharpen
        return bool(soft or self.jpeg < 100 or self.webp < 100 or any(self.kernels.values()))


@dataclass(frozen=True)
class RolloutConfig:
    """Batches on the sampler's own states: from noise it takes its steps up to one, which the network learns from."""

    share: float = 0.0
    """Of batches; the others are noised originals."""
    steps: tuple[int, ...] = (2, 5)
    """Of the sampler (DDIM), one of these for each batch; what is named twice is drawn twice as often."""
    stop: str = "random"
    """Which step learns: random, any but the first, of which the other batches take care; or last."""
    mse: float = 1.0
    """Weight of the mean square error of the x_0 that the step predicts, in the units of what is diffused."""
    lpips: float = 0.0
    """Weight of LPIPS between the picture that x_0 comes to and the original."""
    lpips_shift: int = 0
    """LPIPS is shown a part of the crop that is smaller by so many pixels, at a random place."""
    lpips_turn: bool = False
    """LPIPS is shown it mirrored and transposed at random."""
    lpips_zooms: tuple[float, ...] = (1.0,)
    """LPIPS is shown it enlarged by one of these; of a larger one, less is shown."""
    comb: float = 0.0
    """Weight of how much lines of periods 8, 4, 8/3 and 2 pixels differ from the original's (`training/penalties.py`).
    Eight crops are judged together by this and the next two, so more threads than crops / 8 do not help here."""
    cross: float = 0.0
    """Weight of how differently power is shared out between axes and diagonals of the spectrum."""
    weave: float = 0.0
    """Weight of the pattern of 8×8 pixels in what x_0 is off by where the original is flat; above some 60 in units of
    the residual it drowns the rest."""

    def __post_init__(self) -> None:
        check_between(self, "share", 0, 1)
        check(bool(self.steps) and all(2 <= steps <= 1000 for steps in self.steps), self, "steps")
        check_one_of(self, "stop", {"random", "last"})
        for name in ("mse", "lpips", "comb", "cross", "weave"):
            check_between(self, name, 0, 1000)
        check_between(self, "lpips_shift", 0, 1000)
        check(bool(self.lpips_zooms) and all(1 <= zoom <= 4 for zoom in self.lpips_zooms), self, "lpips_zooms")


@dataclass(frozen=True)
class LossConfig:
    """What the network is asked at training, and how its answer is judged."""

    kind: str = "mse"
    """mse or l1, of what the network predicts."""
    times: str = "grid"
    """grid: mostly the few steps that few-step samplers visit, all of a batch in one TaR/TaA group; uniform: one t for
    each micro-batch, as the authors draw it."""
    last: float = 0.35
    """Of grid: the share of batches at T-1, where the first step of every sampler is."""
    grid: float = 0.35
    """Of grid: the share at the last t of the other segments; the rest is uniform inside of one segment."""
    segments: int = 5
    """Of grid: in how many equal segments the time is cut, whatever K: their last t are those of as many steps."""
    micro_batch: int = 4
    """Of uniform: pictures that share a t (the authors had 4 on each of 4 GPUs)."""
    lpips: float = 0.0
    """Weight of LPIPS between the picture that a prediction comes to and the original."""
    lpips_groups: int = 2
    """In how many segments, from the low-noise end, LPIPS counts."""
    dropout: float = 0.0
    """In the second half of ResBlocks."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        check_one_of(self, "kind", {"mse", "l1"})
        check_one_of(self, "times", {"grid", "uniform"})
        check_between(self, "last", 0, 1)
        check_between(self, "grid", 0, 1 - self.last)
        check_between(self, "micro_batch", 1, 4096)
        check_between(self, "lpips", 0, 1000)
        check_between(self, "segments", 1, 100)
        check_between(self, "lpips_groups", 1, 100)
        check_between(self, "dropout", 0, 0.9)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, its schedule and the average of weights."""

    lr: float = 1e-3
    latent_lr: float = 1.0
    """Learning rate of binary convolutions' weights, in units of `lr`."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    """Iterations over which the learning rate grows from 0."""
    decay: float = 0.33
    """Last part of the run over which it falls linearly to 0."""
    clip: float | None = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the average of weights, reached slowly; 0 takes the weights themselves."""

    def __post_init__(self) -> None:
        check_between(self, "lr", 0, 1)
        check_between(self, "latent_lr", 0, 100)
        check(all(0 <= beta < 1 for beta in self.betas), self, "betas")
        check_between(self, "warmup", 0, 1_000_000)
        check_between(self, "decay", 0, 1)
        check(self.clip is None or 0 < self.clip < 1e6, self, "clip")
        check(0 <= self.ema < 1, self, "ema")


@dataclass(frozen=True)
class RunConfig:
    """How long, how, and what is written when."""

    iterations: int | None = None
    """End after so many."""
    seconds: float | None = None
    """End after so much training time, interruptions not counted; of the two, the schedule follows what ends first."""
    seed: int = 0
    precision: str = "auto"
    """Of convolutions and what lies between them: bf16, fp32, or auto, which is bf16 where the device multiplies it.
    Weights, sums and norms are fp32."""
    compile: bool = False
    """Let torch compile the network (worth it on a GPU)."""
    log_every: int = 50
    """Iterations between two lines of the log."""
    save_every: float = 60.0
    """Seconds between two states: what a killed run loses at most."""
    validate_every: float = 600.0
    """Seconds between two validations; 0 validates at the end only."""

    def __post_init__(self) -> None:
        check(self.iterations is None or 1 <= self.iterations <= 10**9, self, "iterations")
        check(self.seconds is None or 0 < self.seconds <= 10**9, self, "seconds")
        check(self.iterations is not None or self.seconds is not None, self, "iterations")
        check_between(self, "seed", 0, 2**31)
        check_one_of(self, "precision", {"auto", "bf16", "fp32"})
        check_between(self, "log_every", 1, 1_000_000)
        check_between(self, "save_every", 0, 1e9)
        check_between(self, "validate_every", 0, 1e9)


@dataclass(frozen=True)
class TrainConfig:
    """Everything about a training run but where it lies."""

    model: ModelConfig
    data: DataConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    run: RunConfig

    def __post_init__(self) -> None:
        step = self.model.network.multiple_of
        check(self.data.crop % step == 0, self.data, "crop")
        check(all(self.data.crop % scale == 0 for scale in self.model.scales), self.data, "crop")
        self._check_rollouts()
        check(set(self.data.low_res) <= {str(scale) for scale in self.model.scales}, self.data, "low_res")

    def _check_rollouts(self) -> None:
        """Whether they go together with the rest."""
        loss, rollout, crop = self.loss, self.loss.rollout, self.data.crop

        def need(sound: bool, message: str) -> None:
            if rollout.share and not sound:
                raise CheckpointError(message)

        spectra = rollout.comb or rollout.cross
        need(not spectra or crop >= SPECTRUM, f"loss.rollout.comb and cross need data.crop >= {SPECTRUM}.")
        shown = crop - rollout.lpips_shift
        need(
            not rollout.lpips or shown >= LEAST_FOR_LPIPS,
            f"loss.rollout.lpips_shift leaves less than {LEAST_FOR_LPIPS} pixels.",
        )
        total = self.model.diffusion.total_steps
        need(max(rollout.steps) <= total, f"loss.rollout.steps cannot be more than the {total} of the diffusion.")
        need(loss.times == "grid", 'loss.rollout.share needs loss.times = "grid".')
        need(not loss.dropout, "loss.rollout.share excludes loss.dropout: samplers have none.")

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON knows it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> TrainConfig:
        """Read what `to_dict` gave, or what TOML holds.

        Raises:
            UsageError: a field is unknown, missing, of the wrong type or out of range.
        """
        try:
            return parse_config(cls, value, "The training config")
        except CheckpointError as error:
            raise UsageError(error.message, "The presets show all fields: bidiffsr train --show fast") from None


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_config(name: str, changes: Iterable[str] = ()) -> TrainConfig:
    """A preset or a TOML file, with changes.

    Args:
        name: of a preset, or the path of a file.
        changes: "table.field=value" each, the value as in TOML; a bare word is a string.

    Raises:
        UsageError: there is no such preset or file, or it is no sound config.
    """
    value = _read(name)
    for change in changes:
        _apply(value, change)
    return TrainConfig.from_dict(value)


def changed(config: TrainConfig, changes: Iterable[str]) -> TrainConfig:
    """A config with changes, as `read_config` takes them."""
    value = json.loads(json.dumps(config.to_dict()))
    for change in changes:
        _apply(value, change)
    return TrainConfig.from_dict(value)


def of_system(config: TrainConfig, name: str) -> TrainConfig:
    """The same training of another of the paper's systems (`systems.SYSTEMS`), in the config's size.

    Raises:
        UsageError: there is none of that name.
    """
    network = find_system(name).applied_to(config.model.network)
    return replace(config, model=replace(config.model, network=network))


def to_toml(config: TrainConfig) -> str:
    """A TOML file of all fields, which `read_config` reads."""
    return "\n".join(_tables(json.loads(json.dumps(config.to_dict())), ""))


def _tables(value: dict[str, Any], path: str) -> Iterator[str]:
    plain = {key: item for key, item in value.items() if not isinstance(item, dict)}
    if path:
        yield f"[{path}]"
    yield from (f"{_quoted(key)} = {json.dumps('null' if item is None else item)}" for key, item in plain.items())
    yield ""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _tables(item, f"{path}.{_quoted(key)}" if path else _quoted(key))


def _quoted(key: str) -> str:
    return key if key.isidentifier() else json.dumps(key)


def _read(name: str) -> dict[str, Any]:
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    if not path.is_file():
        raise UsageError(f"There is no preset or file {name!r}.", f"Presets: {', '.join(presets())}.")
    try:
        value = _with_none(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} is not readable TOML: {error}.", "Mend it there.") from None
    preset = value.pop("preset", None)
    if preset is None:
        return value
    if preset not in presets():
        raise UsageError(f"{name} names the preset {preset!r}.", f"Presets: {', '.join(presets())}.")
    return _merged(_read(preset), value)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _apply(value: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"{change!r} changes nothing.", "Write it as table.field=value.")
    try:
        new = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        new = text.strip()
    for key in keys[:-1]:
        value = value.setdefault(key, {})
        if not isinstance(value, dict):
            raise UsageError(
                f"{path.strip()!r} is no field.", "The presets show all fields: bidiffsr train --show fast"
            )
    value[keys[-1]] = _with_none(new)


def _with_none(value: Any) -> Any:
    """TOML has no null: the word "null" stands for it."""
    if isinstance(value, dict):
        return {key: _with_none(item) for key, item in value.items()}
    return None if value == "null" else value
