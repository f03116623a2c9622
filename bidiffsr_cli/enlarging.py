"""From a decoded picture to the bytes of an enlarged file: what `upscale` does once and `batch` many times.

writing = Writing(format="PNG")
writing.check_size(picture, scale)                        # before the long work
result = resolver.upscale(picture, options)
data = encode_result(result, picture, options, writing)   # adds to the result's seconds and warnings
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from . import __version__, runtime
from .configs import UpscaleOptions
from .images import Picture, check_size, encode, resample, resampled_size
from .results import UpscaleResult

BYTES_PER_PIXEL = 10  # a picture of four bytes, as much again while it is resampled, and the file's bytes


@dataclass(frozen=True)
class Writing:
    """How the enlarged picture becomes a file."""

    format: str
    quality: int | None = None
    strip_metadata: bool = False
    provenance: bool = True
    resampling: tuple[int | None, int | None, int | None] = (None, None, None)
    """width, height and long side."""

    def check_size(self, size: tuple[int, int], scale: int, max_memory: int | None = None) -> None:
        """Check that a picture of `size` (width, height) can be read, and written when it is enlarged.

        Raises:
            OutputError: the format cannot hold it.
            DeviceError: memory cannot, even without the model's work.
        """
        width, height = self.final_size((size[0] * scale, size[1] * scale))
        check_size(self.format, (width, height))
        needed = max(BYTES_PER_PIXEL * width * height, runtime.BYTES_TO_DECODE * size[0] * size[1])
        runtime.require_memory(runtime.resident_memory() + needed, max_memory)

    def final_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """What becomes of the model's `size`; raises UsageError if what is asked for contradicts itself."""
        return resampled_size(size, *self.resampling)


def encode_result(result: UpscaleResult, picture: Picture, options: UpscaleOptions, writing: Writing) -> bytes:
    """Encode an enlarged picture, which the result no longer holds afterwards.

    Args:
        result: of `SuperResolver.upscale`; its time, peak memory, size and warnings are brought up to date.
        picture: what it was made from: colour profile, EXIF and the like come from there.
        options: with which.
        writing: how.
    """
    started = time.perf_counter()
    assert result.image is not None
    image = resample(result.image, *writing.resampling)
    result.output_size, result.image = image.size, None
    data, notes = encode(
        image,
        writing.format,
        quality=writing.quality,
        picture=picture,
        strip_metadata=writing.strip_metadata,
        provenance=_provenance(result, options) if writing.provenance and not writing.strip_metadata else None,
    )
    seconds = time.perf_counter() - started
    result.seconds.encode += seconds
    result.seconds.total += seconds
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
