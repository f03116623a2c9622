"""What a run did, as plain data: the JSON that scripts rely on (schema "bidiffsr/1")."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .text import counted

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SCHEMA = "bidiffsr/1"
"""Of one picture, and of a failure; commands that tell something else have names of their own."""
MANY = "bidiffsr-batch/1"
"""Of several pictures."""
Progress = Callable[[int, int], None]
"""Is told how far it is: (windows done, windows in all), over all steps; of a download (bytes here, bytes in all)."""


@dataclass(frozen=True)
class ModelInfo:
    """Which weights ran."""

    name: str
    revision: str
    sha256: str


@dataclass(frozen=True)
class TileInfo:
    """The windows a picture was seen through: [width, height] in pixels of the result."""

    size: tuple[int, int]
    overlap: int
    count: int
    concurrent: int


@dataclass
class Seconds:
    """Wall-clock time that one picture took, whichever command it was for.

    Attributes:
        total: the sum of the phases. Waiting for other pictures is in none of them.
        load_model: 0 for a picture that found the model loaded.
        decode: from the file to pixels, and the plan of the work.
        sample: the reverse diffusion.
        encode: from the model's levels to the file, and until that is written.
        per_step: `sample` over the number of steps.
    """

    total: float = field(init=False, default_factory=float)
    load_model: float = 0.0
    decode: float = 0.0
    sample: float = 0.0
    encode: float = 0.0
    per_step: float = 0.0

    def __post_init__(self) -> None:
        self.total = self.load_model + self.decode + self.sample + self.encode

    def add(self, phase: str, seconds: float) -> None:
        """Count more time for a phase, which is named as its attribute."""
        setattr(self, phase, getattr(self, phase) + seconds)
        self.total += seconds

    @contextlib.contextmanager
    def measured(self, phase: str) -> Iterator[None]:
        """Count the time that is spent within for a phase."""
        started = time.perf_counter()
        yield
        self.add(phase, time.perf_counter() - started)


@dataclass
class PeakMemory:
    """Peak of the whole process, bytes; None where it cannot be read."""

    host: int | None = None
    device: int | None = None


@dataclass(repr=False)
class UpscaleResult:
    """One enlarged picture, and how it came about."""

    input_size: tuple[int, int]
    output_size: tuple[int, int]
    scale: int
    model: ModelInfo
    steps: int
    sampler: str
    eta: float
    temperature: float
    seed: int
    device: str
    dtype: str
    backend: str
    isa: str | None
    threads: int
    tiles: TileInfo
    environment: dict[str, str]
    seconds: Seconds = field(default_factory=Seconds)
    peak_memory_bytes: PeakMemory = field(default_factory=PeakMemory)
    warnings: list[str] = field(default_factory=list)
    input_quality: int | None = None
    """At which a JPEG or WebP seems to have been compressed, 1 to 100; None for others."""
    input: str | None = None
    output: str | None = None
    status: str = "done"
    picture: Image.Image | None = field(default=None, repr=False)
    """What `image` gives; None where it was not made, or was let go once it was encoded. Not part of the JSON."""

    def __repr__(self) -> str:
        sizes = " -> ".join(f"{width}×{height}" for width, height in (self.input_size, self.output_size))
        how = f"{self.model.name}, {counted(self.steps, 'step')} of {self.sampler}"
        return f"<UpscaleResult {sizes}: {how}, on {self.device}, {self.status} in {self.seconds.total:.2f} s>"

    @property
    def image(self) -> Image.Image:
        """The enlarged picture, in the mode of its source.

        Raises:
            UsageError: there is none: it was only planned, or a file was made of it.
        """
        if self.picture is None:
            raise UsageError("This result holds no picture (any more).", f"Its status is {self.status!r}.")
        return self.picture

    @property
    def tensor(self) -> Tensor:
        """The enlarged picture for torch: float32, C×H×W in [0, 1], made anew; C as in `image`, 1 to 4."""
        from .images.pixels import to_float

        return to_float(self.image)

    @property
    def array(self) -> Any:
        """The enlarged picture for numpy, which must be installed: H×W×C, grey H×W; uint8, of 16-bit grey uint16."""
        try:
            numpy = importlib.import_module("numpy")
        except ImportError:
            raise UsageError("numpy is not installed.", "pip install numpy, or take `image` or `tensor`.") from None
        return numpy.array(self.image)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "picture"}
        plain = {k: vars(v).copy() if dataclasses.is_dataclass(v) else v for k, v in fields.items()}
        order = ("input", "output", "status")
        return {"schema": SCHEMA} | {name: plain.pop(name) for name in order} | plain


def failure(input: str, output: str, error: str) -> dict[str, Any]:
    """The JSON object of one of several pictures that failed; `error` is a sentence."""
    return {"input": input, "output": output, "status": "failed", "error": error}
