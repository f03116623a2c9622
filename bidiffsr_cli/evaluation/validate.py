"""A quick score of a model while it is trained: PSNR at one step, LPIPS at a few, on a folder of originals."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.files import Checkpoint
from ..errors import InputError
from ..images.pairing import list_pictures
from ..images.pixels import to_levels
from ..images.reading import read_picture
from ..images.resizing import downscale_bicubic
from ..pipeline import SuperResolver
from ..runtime import Runtime
from .metrics import load_lpips, psnr_y

LEAST = 64
"""Pixels a side of the smallest original: LPIPS and PSNR need some of them."""
Scores = dict[str, dict[str, dict[str, float]]]


class Validation:
    """Originals in memory, scored again and again.

    Args:
        folder: of the originals; small pictures are made of them by MATLAB's bicubic.

    Raises:
        InputError: there is none, or one is damaged or too small.
    """

    def __init__(self, folder: Path) -> None:
        files = list_pictures(folder)
        if not files:
            raise InputError(f"There are no pictures in '{folder}'.", "Name another folder with --validate.")
        self.originals = [(read_picture(file).rgb * 255).round().to(torch.uint8) for file in files]
        for file, original in zip(files, self.originals, strict=True):
            if min(original.shape[1:]) < LEAST:
                raise InputError(f"{file.name} is smaller than {LEAST} pixels.", "Leave it out of --validate.")
        self.lpips = load_lpips()

    def __call__(self, checkpoint: Checkpoint, runtime: Runtime) -> Scores:
        """Means over all pictures: scale -> steps -> psnr_y in dB, lpips_alex.

        At 1 and 5 steps where the first one is T-1, else at the model's default: from less, nothing comes of it.
        """
        resolver, diffusion = SuperResolver(checkpoint, runtime), checkpoint.config.diffusion
        steps = (1, 5) if diffusion.spacing == "trailing" else (diffusion.default_steps,)
        return {
            str(scale): {str(count): self._score(resolver, scale, count) for count in steps}
            for scale in checkpoint.config.scales
        }

    def _score(self, resolver: SuperResolver, scale: int, steps: int) -> dict[str, float]:
        pairs = [self._enlarged(resolver, original, scale, steps) for original in self.originals]
        with torch.inference_mode():
            distances = [float(self.lpips(sr[None] / 255, hr[None] / 255)) for sr, hr in pairs]
        return {
            "psnr_y": round(statistics.mean(psnr_y(sr, hr, scale) for sr, hr in pairs), 4),
            "lpips_alex": round(statistics.mean(distances), 5),
        }

    def _enlarged(self, resolver: SuperResolver, original: Tensor, scale: int, steps: int) -> tuple[Tensor, Tensor]:
        """The enlarged small picture, and the original cut to its size."""
        height, width = (side // scale * scale for side in original.shape[1:])
        hr = original[:, :height, :width]
        result = resolver.upscale(downscale_bicubic(hr, scale), scale=scale, steps=steps)
        assert result.image is not None
        return to_levels(result.image), hr
