"""One picture from its file to the bytes of an enlarged one: what `upscale` does once and `batch` many times.

writing = Writing(quality=90).for_file(Path("big.jpg"))
decoded = decode(read, options, writing)                          # checks the size before the long work
result = sample(resolver, decoded, options)
data = encode_result(result, decoded.picture, options, writing)

Each adds its time to `result.seconds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from . import __version__, runtime
from .fields import take_plain
from .images import Picture, check_size, choose_format, encode, resample, resampled_size
from .images.reading import SizeCheck
from .images.writing import NAMES, check_quality
from .options import UpscaleOptions
from .pipeline import SuperResolver
from .planning import Plan
from .results import UpscaleResult

BYTES_PER_PIXEL = 10  # a picture of four bytes, as much again while it is resampled, and the file's bytes


@dataclass(frozen=True)
class Writing:
    """How the enlarged picture becomes a file.

    Attributes:
        format: png, jpg, webp, avif or tiff; auto goes by the output's suffix, else it is png; same is the input's.
            `for_file` puts Pillow's name in its place.
        quality: 1 to 100, of jpg, avif, and webp, which then has less colour. None is 95, 85 and lossless.
        strip_metadata: write no EXIF, resolution or provenance.
        provenance: record model, steps, seed and the like.
        width, height: resample to them after the model, pixels; one alone keeps the proportions.
        long_side: likewise for the longer of both, instead of them.

    Raises:
        UsageError: a value is not possible, or `long_side` stands beside another size.
    """

    format: str = "auto"
    quality: int | None = None
    strip_metadata: bool = False
    provenance: bool = True
    width: int | None = None
    height: int | None = None
    long_side: int | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        if self.format not in NAMES.values():
            choose_format(self.format, None)
        check_quality(self.quality)
        self.final_size((1, 1))

    @property
    def resampling(self) -> tuple[int | None, int | None, int | None]:
        """Width, height and long side."""
        return self.width, self.height, self.long_side

    def for_file(self, target: Path | None) -> Writing:
        """The same for a file that is written at `target`, or to a stream.

        Raises:
            UsageError: its suffix names another format, or none.
        """
        return replace(self, format=choose_format(self.format, target))

    def check_size(self, size: tuple[int, int], scale: int, max_memory: int | None = None) -> None:
        """Check that a picture of `size` (width, height) can be read, and written when it is enlarged.

        Raises:
            OutputError: the format cannot hold it.
            DeviceError: memory cannot, even without the model's work.
        """
        width, height = self.final_size((size[0] * scale, size[1] * scale))
        check_size(self.format, (width, height))
        needed = max(BYTES_PER_PIXEL * width * height, runtime.BYTES_TO_DECODE * size[0] * size[1])
        runtime.require_memory(needed, max_memory)

    def final_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """What becomes of the model's `size`."""
        return resampled_size(size, *self.resampling)


@dataclass(frozen=True)
class Decoded:
    """A picture, and how many seconds it took to read it."""

    picture: Picture
    seconds: float


def decode(read: Callable[[SizeCheck], Picture], options: UpscaleOptions, writing: Writing) -> Decoded:
    """Read a picture by `read`, which is given what to check its size with before it decodes it.

    Raises:
        OutputError, DeviceError: as `Writing.check_size`.
    """
    started = time.perf_counter()
    picture = read(partial(writing.check_size, scale=options.scale, max_memory=options.max_memory))
    return Decoded(picture, time.perf_counter() - started)


def sample(
    resolver: SuperResolver,
    decoded: Decoded,
    options: UpscaleOptions,
    progress: Callable[[Plan, int], None] = lambda *_: None,
) -> UpscaleResult:
    """Enlarge a picture; as `SuperResolver.upscale`, but that `progress` is told of the plan, too.

    Args:
        progress: is told, from any thread, how many of the plan's `evaluations` are done.
    """
    started = time.perf_counter()
    runtime.return_freed_memory()  # what decoding left behind
    plan = resolver.planner.plan(decoded.picture, options, resolver.runtime)
    planning = time.perf_counter() - started
    result = resolver.carry_out(plan, decoded.picture, options, lambda done, _: progress(plan, done))
    result.seconds.add("decode", decoded.seconds + planning)
    return result


def encode_result(result: UpscaleResult, picture: Picture, options: UpscaleOptions, writing: Writing) -> bytes:
    """Encode an enlarged picture, which the result no longer holds afterwards.

    Args:
        result: of `sample`; its time, peak memory, size and warnings are brought up to date.
        picture: what it was made from: colour profile, EXIF and the like come from there.
        options: with which.
        writing: how, with a format of `for_file`.
    """
    with result.seconds.measured("encode"):
        image = resample(result.image, *writing.resampling)
        result.output_size, result.picture = image.size, None
        data, notes = encode(
            image,
            writing.format,
            quality=writing.quality,
            picture=picture,
            strip_metadata=writing.strip_metadata,
            provenance=_provenance(result, options) if writing.provenance and not writing.strip_metadata else None,
        )
    result.warnings += notes
    result.peak_memory_bytes.host = runtime.peak_memory()
    return data


def _provenance(result: UpscaleResult, options: UpscaleOptions) -> dict[str, str]:
    """What it takes to make the same picture again."""
    return {
        "software": f"bidiffsr {__version__}",
        "model": result.model.name,
        "revision": result.model.revision,
        "sha256": result.model.sha256,
        "scale": str(result.scale),
        "steps": str(result.steps),
        "sampler": result.sampler,
        "eta": f"{result.eta:g}",
        "temperature": f"{result.temperature:g}",
        "seed": str(result.seed),
        "tile": str(options.tile),
        "tile_overlap": str(result.tiles.overlap),
        "color_fix": options.color_fix,
        "precision": result.dtype,
        "backend": result.backend,
    }
