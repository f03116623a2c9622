"""What is scored: bicubic interpolation, pictures that any tool has finished, and a model with a number of steps.

Each has a label, what people call it, and an identity: all that its pictures depend on, and that is worth a column
(model, revision, sha256, steps, ...). `enlarge` gives a picture, 3×H×W uint8, and the figures of the work: seconds,
peak_memory_bytes, ...
"""

from __future__ import annotations

import dataclasses
from typing import Any

from PIL import Image
from torch import Tensor

from ..images.pixels import to_image, to_levels
from ..options import UpscaleOptions
from ..pipeline import SuperResolver
from ..text import counted
from .testset import Pixels


class Bicubic:
    """The paper's baseline: Pillow's bicubic (a = -0.5), which equals MATLAB's but for the outermost pixels."""

    label = "bicubic"
    identity: dict[str, Any] = {"model": "bicubic"}  # noqa: RUF012 - nobody changes it

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As of any subject."""
        image = to_image(pixels.lr, "RGB")
        large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        return to_levels(large), {}


class Finished:
    """Pictures that were enlarged before, by any tool."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.identity = {"model": label, "finished": True}

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As of any subject."""
        assert pixels.finished is not None
        return pixels.finished, {}


class AtSteps:
    """A model with a number of steps."""

    def __init__(self, resolver: SuperResolver, options: UpscaleOptions) -> None:
        self.resolver, self.options = resolver, options
        self.steps = resolver.planner.steps(options)
        self.label = f"{resolver.model.name}, {counted(self.steps, 'step')}"

    @property
    def identity(self) -> dict[str, Any]:
        """As of any subject."""
        model, options, runtime = self.resolver.model, self.options, self.resolver.runtime
        return {
            "model": model.name,
            "revision": model.revision,
            "sha256": model.sha256,
            "steps": self.steps,
            "sampler": options.sampler,
            "eta": options.eta,
            "temperature": options.temperature,
            "seed": options.seed,
            "tile": options.tile,
            "tile_overlap": options.tile_overlap,
            "color_fix": options.color_fix,
            "precision": runtime.dtype,
            "backend": runtime.backend,
            "device": runtime.device,
        }

    def enlarge(self, pixels: Pixels, scale: int) -> tuple[Tensor, dict[str, Any]]:
        """As of any subject."""
        result = self.resolver.upscale(pixels.lr, self.options, scale=scale, steps=self.steps, preset=None)
        figures = {
            "seconds": dataclasses.asdict(result.seconds),
            "peak_memory_bytes": dataclasses.asdict(result.peak_memory_bytes),
        }
        return to_levels(result.image), figures


Subject = Bicubic | Finished | AtSteps
