"""The config of a training run, as frozen dataclasses: data, loss, optimizer, run. `config_files.py` reads them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..configs import ModelConfig
from ..errors import CheckpointError, UsageError
from ..fields import check, check_between, check_one_of, parse_config
from ..images.kernels import KERNELS

KINDS = ("flats", "gradients", "text", "interfaces")
"""Kinds of pictures that are made in code (`training/synthetic.py`)."""
SPECTRUM = 64
"""Side of the part of a crop whose spectrum the comb and cross losses compare, pixels."""
LEAST_FOR_LPIPS = 48
"""Side below which AlexNet's last layers see fewer than two positions of a picture, pixels."""
SHOW_FIELDS = "The presets show all fields: bidiffsr train --show fast"


@dataclass(frozen=True)
class DataConfig:
    """Pictures, the crops that are cut out of them, and how their low-resolution versions are degraded."""

    pictures: tuple[str, ...] = ()
    """The originals (HR): files, or folders, which are searched recursively."""
    low_res: dict[str, str] = field(default_factory=dict)
    """Scale -> folder of low-resolution pictures, named like the originals or as test sets name them. Scales that are
    not here are made by bicubic."""
    crop: int = 64
    """Side of a crop, pixels of the original."""
    batch: int = 32
    """Crops in one iteration of each process."""
    candidates: int = 2
    """Crops that are drawn for each one that is used, which is the one with most detail."""
    plain: float = 0.0
    """Share of crops that are used as they are drawn, without that choice."""
    synthetic: dict[str, float] = field(default_factory=dict)
    """Kind -> share of crops from pictures that are made in code: flats, gradients, text, interfaces."""
    augment: bool = True
    """Mirror and transpose crops at random."""
    clean: float = 0.0
    """Share of crops that are not degraded by anything below."""
    kernels: dict[str, float] = field(default_factory=dict)
    """Kernel (lanczos, bilinear, area) -> share of crops that it shrinks; the rest is shrunk by bicubic."""
    blur: float = 0.0
    """Gaussian blur of up to this standard deviation, pixels. This and the next three happen to 3 crops of 10 each."""
    noise: float = 0.0
    """Noise of up to this standard deviation, in levels of 255: grey or coloured, fine or coarse, with or without
    dependence on brightness."""
    chroma_blur: float = 0.0
    """Gaussian blur of chroma alone, of up to this standard deviation, pixels."""
    sharpen: float = 0.0
    """Unsharp mask of one pixel and up to this strength."""
    jpeg: int = 100
    """Lowest quality of JPEG, which is applied once or twice; 100 leaves JPEG out."""
    webp: int = 100
    """Lowest quality of WebP, which a part of the crops gets instead; 100 leaves WebP out."""

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
        """Whether low-resolution crops are degraded beyond bicubic."""
        soft = self.blur or self.noise or self.chroma_blur or self.sharpen
        return bool(soft or self.jpeg < 100 or self.webp < 100 or any(self.kernels.values()))


@dataclass(frozen=True)
class RolloutConfig:
    """Rollouts: batches of the sampler's own states. From noise it takes its steps up to one, which is trained on."""

    share: float = 0.0
    """Share of batches that are rollouts; the others are noised originals."""
    steps: tuple[int, ...] = (2, 5)
    """Numbers of DDIM steps, one of which is drawn for each batch; a number given twice is drawn twice as often."""
    stop: str = "random"
    """The step that is trained on: random (any but the first, which other batches cover or which asks no network) or
    last."""
    mse: float = 1.0
    """Weight of the mean square error of the predicted x_0, in the units of what is diffused."""
    lpips: float = 0.0
    """Weight of LPIPS between the picture that x_0 stands for and the original."""
    lpips_shift: int = 0
    """LPIPS sees a part of the crop, at a random place, that is smaller by so many pixels."""
    lpips_turn: bool = False
    """LPIPS sees it mirrored and transposed at random."""
    lpips_zooms: tuple[float, ...] = (1.0,)
    """LPIPS sees it enlarged by one of these factors; the larger the factor, the smaller the part."""
    comb: float = 0.0
    """Weight of the difference from the original at periods of 8, 4, 8/3 and 2 pixels (`training/penalties.py`). This
    and the next two need eight crops at a time, so more threads than crops / 8 do not help here."""
    cross: float = 0.0
    """Weight of the difference in how the spectrum's power is spread over axes and diagonals."""
    weave: float = 0.0
    """Weight of the repeating 8×8 pattern in the error of x_0 where the original is flat. Above about 60, in units of
    the residual, it outweighs the rest."""

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
    """The time steps that are trained on, and the loss."""

    kind: str = "mse"
    """mse or l1, between what the network predicts and its target."""
    times: str = "grid"
    """grid: mostly the time steps that evenly spaced steps visit, all of a batch in one TaR/TaA group; uniform: one t
    for each micro-batch, as the authors draw it."""
    last: float = 0.35
    """With grid: share of batches at T-1, where every sampler begins; 0 where the first step asks no network."""
    grid: float = 0.35
    """With grid: share of batches at the last t of another segment; the rest is uniform within one segment."""
    segments: int = 5
    """With grid: number of equal segments of the time, whatever K is; their last t are those of as many evenly
    spaced steps."""
    micro_batch: int = 4
    """With uniform: crops that share a t (the authors had 4 on each of 4 GPUs)."""
    lpips: float = 0.0
    """Weight of LPIPS between the picture that a prediction stands for and the original."""
    lpips_groups: int = 2
    """Number of segments, from the low-noise end, in which LPIPS counts."""
    dropout: float = 0.0
    """Probability of dropout in the second half of ResBlocks."""
    upsampler: float = 0.0
    """Share of batches that the network's upsamplers learn from, by the mean absolute error of up(LR), and nothing
    else does. The other batches take them as they are."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        check_one_of(self, "kind", {"mse", "l1"})
        check_one_of(self, "times", {"grid", "uniform"})
        check_between(self, "last", 0, 1)
        check_between(self, "grid", 0, round(1 - self.last, 9))
        check_between(self, "micro_batch", 1, 4096)
        check_between(self, "lpips", 0, 1000)
        check_between(self, "segments", 1, 100)
        check_between(self, "lpips_groups", 1, 100)
        check_between(self, "dropout", 0, 0.9)
        check_between(self, "upsampler", 0, 1)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, its learning rate schedule and the moving average of the weights."""

    lr: float = 1e-3
    latent_lr: float = 1.0
    """Learning rate of binary convolutions' latent weights, in units of `lr`."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    """Iterations over which the learning rate grows from 0."""
    decay: float = 0.33
    """Last part of the run, 0 to 1, over which it falls linearly to 0."""
    clip: float | None = 1.0
    """Norm to which the gradient is clipped; None does not clip."""
    ema: float = 0.999
    """Decay of the weights' moving average, approached from below; 0 takes the weights themselves."""

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
    """Length, seed and precision of a run, and when it logs, saves and validates."""

    iterations: int | None = None
    """End after so many iterations."""
    seconds: float | None = None
    """End after so much training time, interruptions not counted. With both, whichever ends first counts."""
    seed: int = 0
    precision: str = "auto"
    """bf16, fp32, or auto, which is bf16 where the device multiplies it; of convolutions and what lies between them.
    Weights, sums and norms are always fp32."""
    compile: bool = False
    """Compile the network by torch.compile, which pays on a GPU."""
    log_every: int = 50
    """Iterations from one line of the log to the next."""
    save_every: float = 60.0
    """Seconds from one saved state to the next: what a killed run loses at most."""
    validate_every: float = 600.0
    """Seconds from one validation to the next; 0 validates at the end only."""

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
    """Everything about a training run except its folder."""

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
        if self.loss.upsampler and self.model.network.upsampler is None:
            raise CheckpointError("loss.upsampler needs a model.network.upsampler.")
        if self.loss.last and self.loss.times == "grid" and self.model.diffusion.first_step == "mean":
            raise CheckpointError('loss.last must be 0 where the diffusion\'s first_step is "mean".')
        check(set(self.data.low_res) <= {str(scale) for scale in self.model.scales}, self.data, "low_res")

    def _check_rollouts(self) -> None:
        """Raise CheckpointError if rollouts do not fit the rest of the config."""
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

    @property
    def trained_model(self) -> ModelConfig:
        """The config of the model that is made: it knows the numbers of steps of its rollouts."""
        diffusion, rollout = self.model.diffusion, self.loss.rollout
        if not (rollout.share and diffusion.begins_with_noise):
            return self.model
        steps = tuple(sorted(set(rollout.steps)))
        return dataclasses.replace(self.model, diffusion=dataclasses.replace(diffusion, trained_steps=steps))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> TrainConfig:
        """The config of what `to_dict` returned, or of a parsed TOML file.

        Raises:
            UsageError: a field is unknown, missing, of the wrong type or out of range.
        """
        try:
            return parse_config(cls, value, "The training config")
        except CheckpointError as error:
            raise UsageError(error.message, SHOW_FIELDS) from None
