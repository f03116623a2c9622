"""What a model is, as frozen dataclasses that travel as JSON in the header of every checkpoint file.

`ModelConfig` holds the network, the diffusion, the scales and the window.
Every field is checked on construction, so that a config read from a foreign file is either sound or refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field

from .errors import CheckpointError
from .fields import check, check_between, check_one_of, parse_config

# Steps of the presets where a config names none: those of the authors' diffusion.
IMAGE_PRESETS = {"fast": 10, "balanced": 25, "best": 50}
PRESET_WORDS = {"faithful": "fast"}
"""What people say for a preset whose name in files is another: "fast" is also a model."""
LARGEST_SCALE = 16
"""That a model may have."""


# How convolutions are binarized -> what the 1-bit engine cannot compute of it; nothing where it can compute all.
METHODS = {
    "bi_diffsr": "",
    "bnn": "",
    "dorefa": "",
    "dorefa_01": "its activations are 0 and 1 instead of -1 and 1",
    "xnor": "",
    "xnor_map": "its scales differ from pixel to pixel",
    "irnet": "",
    "reactnet": "",
    "bbcu": "",
    "full_precision": "nothing in it is one bit",
}


@dataclass(frozen=True)
class UpsamplerConfig:
    """Small full-precision networks, one for each scale, that enlarge the picture before the diffusion begins.

    What they make is the mean of what the picture may look like, to which the diffusion adds the rest (Whang et al.,
    arXiv 2112.02475).
    """

    blocks: dict[str, int] = field(hash=False)
    """Scale -> number of its residual blocks."""
    channels: int = 32

    def __post_init__(self) -> None:
        check_between(self, "channels", 1, 256)
        scales = set(map(str, range(1, LARGEST_SCALE + 1)))
        check(bool(self.blocks) and set(self.blocks) <= scales, self, "blocks")
        check(all(0 <= count <= 32 for count in self.blocks.values()), self, "blocks")


@dataclass(frozen=True)
class UNetConfig:
    """The UNet: BI-DiffSR's, its ablations' (paper, table 1), SR3's and that of every method in table 2."""

    type: str = "bi_diffsr"
    """Whose skeleton: bi_diffsr, or sr3 (skips joined to the channels, resolution changed by strided convolutions)."""
    inner_channel: int = 64
    """Channels at full resolution."""
    channel_mults: tuple[int, ...] = (1, 2, 4, 8)
    """Channels of each level in units of `inner_channel`; CP-Down doubles them, so they are 1, 2, 4, ..."""
    res_blocks: int = 2
    """ResBlocks in each encoder level; the decoder has one more."""
    norm_groups: int = 16
    full_precision_levels: tuple[int, ...] = (0, 1)
    """Levels (0 is full resolution) whose decoder blocks and fusions are full precision."""
    full_precision_blocks: tuple[str, ...] = ()
    """Single ResBlocks that are full precision besides, by their place: encoder.0, middle.1, decoder.3.blocks.2."""
    total_steps: int = 2000
    """T: the network is asked at t in 0..T-1."""
    pixel_unshuffle: int = 1
    """r: the inputs are pixel-unshuffled and the output is pixel-shuffled by r."""
    method: str = "bi_diffsr"
    """How convolutions are binarized: a name in METHODS."""
    fusion: str = "cs"
    """How the decoder takes in a skip: cs, split, concat or add; join, which is SR3's."""
    resample: str = "cp"
    """How resolution changes: cp (CP-Down and CP-Up), conv (one convolution and pixel-(un)shuffle); strided, SR3's."""
    identity: bool = True
    """Whether a binary convolution that keeps its channels has an identity shortcut; of methods that know one."""
    tar_groups: int = 5
    """K of the time-aware redistribution (TaR); 1 is a fixed bias, and all that other methods have."""
    taa_groups: int = 5
    """K of the time-aware activation (TaA); 1 is a plain RPReLU, and all that other methods have."""
    upsampler: UpsamplerConfig | None = None
    """What is added to bicubic interpolation before the diffusion begins; None for nothing."""

    def __post_init__(self) -> None:
        sr3 = self.type == "sr3"
        check_one_of(self, "type", {"bi_diffsr", "sr3"})
        check_one_of(self, "method", set(METHODS))
        check_one_of(self, "fusion", {"join"} if sr3 else {"cs", "split", "concat", "add"})
        check_one_of(self, "resample", {"strided"} if sr3 else {"cp", "conv"})
        check_between(self, "inner_channel", 2, 1024)
        check_between(self, "res_blocks", 1, 8)
        check_between(self, "norm_groups", 1, 1024)
        check_between(self, "total_steps", 1, 1_000_000)
        most_groups = 100 if self.method == "bi_diffsr" else 1
        check_between(self, "tar_groups", 1, most_groups)
        check_between(self, "taa_groups", 1, most_groups)
        check_between(self, "pixel_unshuffle", 1, 8)
        check(self.channel_mults in [(1, 2, 4, 8, 16, 32)[:levels] for levels in range(1, 7)], self, "channel_mults")
        check(set(self.full_precision_levels) <= set(range(self.levels)), self, "full_precision_levels")
        check(set(self.full_precision_blocks) <= self._res_blocks(), self, "full_precision_blocks")
        check(self.inner_channel % 2 == 0, self, "inner_channel")
        check(self.inner_channel % self.norm_groups == 0, self, "norm_groups")

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.channel_mults)

    @property
    def multiple_of(self) -> int:
        """Height and width of every input must be a multiple of this."""
        return 2 ** (self.levels - 1) * self.pixel_unshuffle

    @property
    def why_not_packed(self) -> str:
        """What of the method the 1-bit engine cannot compute; empty where weights can be packed."""
        return METHODS[self.method]

    def _res_blocks(self) -> set[str]:
        """Places of all ResBlocks."""
        per_level = self.res_blocks + 1
        encoder = (index for index in range(self.levels * per_level - 1) if (index + 1) % per_level)
        decoder = (f"decoder.{level}.blocks.{index}" for level in range(self.levels) for index in range(per_level))
        return {f"encoder.{index}" for index in encoder} | {"middle.0", "middle.1"} | set(decoder)


@dataclass(frozen=True)
class DiffusionConfig:
    """What is diffused, how noise is scheduled, and how the network is asked."""

    parameterization: str = "epsilon"
    """What the network predicts: epsilon, or v (Salimans and Ho, 2022)."""
    target: str = "image"
    """What is diffused: the image, or the residual (HR - up(LR)) / s."""
    schedule: str = "linear"
    """linear: linearly growing betas; angle: phi(t) = pi/2 (t+1)/T."""
    beta_start: float = 1e-6
    beta_end: float = 1e-2
    total_steps: int = 2000
    condition: tuple[str, ...] = ("low_res",)
    """What the network sees beside x_t: low_res, the enlarged picture; detail, what is sharp in it."""
    condition_range: tuple[float, float] = (0.0, 1.0)
    """Where low_res's black and white are mapped to."""
    input_gain: str = "none"
    """alpha: the network is given alpha_t x_t, its best linear guess of x_0; none: x_t."""
    residual_scale: dict[str, float] | None = None
    """s for each scale, where the target is the residual."""
    upsample: str = "bicubic_075"
    """up(): bicubic with a = -0.75, and what a network's upsampler adds; bicubic_075_clipped clips it to [0, 1]."""
    spacing: str = "leading"
    """Which of the T steps N steps visit: leading (0 comes last, T-1 is left out) or trailing (T-1 comes first).
    Evenly spaced, but see `trained_steps`."""
    trained_steps: tuple[int, ...] = ()
    """Numbers of trailing steps that the network was trained to take, in order; with any other number it is asked at
    noise levels that it knows from them (see `diffusion/schedule.py`). (): all numbers of steps are evenly spaced."""
    clip: tuple[float, float] | None = (-1.0, 1.0)
    """Range that predictions of x_0 are clamped to."""
    first_step: str = "network"
    """What predicts x_0 from pure noise, which tells nothing of it: network; or mean, which costs nothing. The mean of
    the residual is 0 where an upsampler made up()."""
    temperature: float = 1.0
    """Standard deviation of the start noise."""
    noise_by_detail: float | None = None
    """Deviation of up(LR) around a pixel, of values in [0, 1], from which on there is all of the noise; where the
    picture is flatter there is less of it, and none where it is uniform. None: as much everywhere."""
    residual_by_detail: float | None = None
    """Detail of up(LR) around a pixel (see `diffusion/detail.py`) from which on all of the residual is added;
    where there is less, less of it, and nothing where the picture is uniform. None: all of it everywhere."""
    diagonal_gain: dict[str, float] | None = None
    """By how much the diagonals of the residual's spectrum are raised, for each scale (see `diffusion/detail.py`): a
    network that halves and doubles resolution draws too little there. None: nowhere."""
    default_steps: int = 50
    presets: dict[str, int] = field(default_factory=lambda: dict(IMAGE_PRESETS))
    """Number of steps of the presets fast, balanced and best."""

    def __post_init__(self) -> None:
        check_one_of(self, "parameterization", {"epsilon", "v"})
        check_one_of(self, "target", {"image", "residual"})
        check_one_of(self, "schedule", {"linear", "angle"})
        check_one_of(self, "input_gain", {"none", "alpha"})
        check_one_of(self, "upsample", {"bicubic_075", "bicubic_075_clipped"})
        check_one_of(self, "spacing", {"leading", "trailing"})
        check_one_of(self, "first_step", {"network", "mean"})
        by_mean = self.begins_with_noise and self.target == "residual" and self.total_steps > 1
        check(self.first_step == "network" or by_mean, self, "first_step")
        check_between(self, "total_steps", 1, 1_000_000)
        trained = self.trained_steps
        check(all(type(steps) is int and 1 <= steps <= self.total_steps for steps in trained), self, "trained_steps")
        check(trained == tuple(sorted(set(trained))) and trained != (1,), self, "trained_steps")
        if trained and not self.begins_with_noise:
            raise CheckpointError('trained_steps need the angle schedule, and "trailing" spacing.')
        check_between(self, "default_steps", 1, self.total_steps)
        check_between(self, "temperature", 0, 1)
        check(self.noise_by_detail is None or 1e-4 <= self.noise_by_detail <= 1, self, "noise_by_detail")
        check(self.residual_by_detail is None or 1e-4 <= self.residual_by_detail <= 1, self, "residual_by_detail")
        check(self.residual_by_detail is None or self.target == "residual", self, "residual_by_detail")
        # in float32, the first level must have some noise, and the last one some signal
        check(1e-7 <= self.beta_start <= self.beta_end < 1, self, "beta_start")
        last = self.total_steps * (math.log1p(-self.beta_start) + math.log1p(-self.beta_end)) / 2
        check(last > -60, self, "beta_end")
        check(self.condition in {("low_res",), ("low_res", "detail")}, self, "condition")
        check(-100 <= self.condition_range[0] < self.condition_range[1] <= 100, self, "condition_range")
        check(self.clip is None or -100 <= self.clip[0] < self.clip[1] <= 100, self, "clip")
        check(set(self.presets) <= set(IMAGE_PRESETS), self, "presets")
        check(all(1 <= steps <= self.total_steps for steps in self.presets.values()), self, "presets")
        scales = self.residual_scale or {}
        needed = self.target == "residual" or "detail" in self.condition
        check(bool(scales) or not needed, self, "residual_scale")
        check(all(name.isdecimal() and 1e-4 <= s <= 100 for name, s in scales.items()), self, "residual_scale")
        gains = self.diagonal_gain or {}
        check(not gains or (self.target == "residual" and set(gains) <= set(scales)), self, "diagonal_gain")
        check(all(0 <= gain <= 0.25 for gain in gains.values()), self, "diagonal_gain")
        check(self.schedule == "linear" or self.parameterization == "v", self, "parameterization")

    @property
    def begins_with_noise(self) -> bool:
        """Whether the first level is noise alone."""
        return self.schedule == "angle" and self.spacing == "trailing"

    @property
    def free_steps(self) -> int:
        """How many of a picture's steps ask no network."""
        return int(self.first_step == "mean")


@dataclass(frozen=True)
class TileConfig:
    """The window that the network looks through, in pixels of the enlarged picture."""

    size: int = 256
    overlap: int = 48

    def __post_init__(self) -> None:
        check_between(self, "size", 16, 16384)
        check_between(self, "overlap", 0, self.size // 4)  # so that no three windows count at one place


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its weights."""

    network: UNetConfig
    diffusion: DiffusionConfig
    scales: tuple[int, ...]
    tile: TileConfig = field(default_factory=TileConfig)

    def __post_init__(self) -> None:
        sound = (isinstance(scale, int) and 1 <= scale <= LARGEST_SCALE for scale in self.scales)
        check(1 <= len(self.scales) <= 16 and all(sound), self, "scales")
        check(self.tile.size % self.network.multiple_of == 0, self, "tile")
        check(self.network.total_steps == self.diffusion.total_steps, self, "diffusion")
        scaled = self.diffusion.residual_scale
        check(scaled is None or all(str(scale) in scaled for scale in self.scales), self, "scales")
        upsampler = self.network.upsampler
        check(upsampler is None or all(str(scale) in upsampler.blocks for scale in self.scales), self, "scales")
        check(upsampler is not None or not self.diffusion.free_steps, self.diffusion, "first_step")

    @property
    def condition_channels(self) -> int:
        """Channels of the condition at the picture's resolution."""
        return 3 * len(self.diffusion.condition)

    def to_json(self) -> str:
        """The config as one line of JSON, every field written out."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: the text is no JSON, or a field is unknown, missing, of the wrong type or out of range.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise CheckpointError("The checkpoint's config is not JSON.") from None
        return parse_config(cls, value, "The checkpoint's config")
