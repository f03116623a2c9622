"""What a run did, as plain data: the JSON that scripts rely on (schema "bidiffsr/1")."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

SCHEMA = "bidiffsr/1"
"""Of one picture, and of a failure; commands that tell something else have names of their own."""
MANY = "bidiffsr-batch/1"
"""Of several pictures."""


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
    """Wall-clock time of each phase; `per_step` is `sample` over the number of steps.

    `load_model` is 0 for a picture that found the model loaded; `total` is the sum of the phases.
    """

    total: float = 0.0
    load_model: float = 0.0
    decode: float = 0.0
    sample: float = 0.0
    encode: float = 0.0
    per_step: float = 0.0


@dataclass
class PeakMemory:
    """Peak of the whole process, bytes; None where it cannot be read."""

    host: int | None = None
    device: int | None = None


@dataclass
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
    image: Image.Image | None = field(default=None, repr=False)
    """The picture; not part of the JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "image"}
        plain = {k: vars(v).copy() if dataclasses.is_dataclass(v) else v for k, v in fields.items()}
        order = ("input", "output", "status")
        return {"schema": SCHEMA} | {name: plain.pop(name) for name in order} | plain
