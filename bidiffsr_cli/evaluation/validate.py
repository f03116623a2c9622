"""A quick score of a model while it is trained: PSNR and LPIPS at the presets' steps, on a folder of originals."""

from __future__ import annotations

import statistics
from pathlib import Path

from ..checkpoints.files import Checkpoint
from ..errors import InputError
from ..images.listing import list_pictures
from ..options import UpscaleOptions
from ..pipeline import SuperResolver
from ..runtime import Runtime
from .protocol import measure, rules
from .subjects import AtSteps
from .testset import make_small, read_levels

LEAST = 64
"""Pixels a side of the smallest original: LPIPS and PSNR need some of them."""
DIGITS = {"psnr_y": 4, "lpips_alex": 5}
"""What is measured, and how many decimals are kept."""
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
        self.originals = [read_levels(file) for file in files]
        for file, original in zip(files, self.originals, strict=True):
            if min(original.shape[1:]) < LEAST:
                raise InputError(f"{file.name} is smaller than {LEAST} pixels.", "Leave it out of --validate.")

    def __call__(self, checkpoint: Checkpoint, runtime: Runtime) -> Scores:
        """Means over all pictures: scale -> steps -> psnr_y in dB, lpips_alex.

        At the steps of the presets where the first one is T-1, else at the model's default: from less, nothing comes
        of it.
        """
        resolver, diffusion = SuperResolver(checkpoint, runtime), checkpoint.config.diffusion
        of_presets = sorted(set(diffusion.presets.values()))
        steps = of_presets if of_presets and diffusion.spacing == "trailing" else [diffusion.default_steps]
        return {
            str(scale): {
                str(count): self._means(AtSteps(resolver, UpscaleOptions(scale=scale, steps=count)), scale)
                for count in steps
            }
            for scale in checkpoint.config.scales
        }

    def _means(self, subject: AtSteps, scale: int) -> dict[str, float]:
        rule, found = rules("paper", scale), []
        for original in self.originals:
            pixels = make_small(original, scale)
            sr, _ = subject.enlarge(pixels, scale)
            found.append(measure(DIGITS, sr, pixels, rule)[0])
        return {name: round(statistics.fmean(values[name] for values in found), n) for name, n in DIGITS.items()}
