"""The self-test of `bidiffsr doctor`: the default model enlarges a tiny picture in several ways that must agree.

The picture is made by arithmetic, so that the test takes a second or two.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from PIL import Image, ImageChops, ImageStat

from ..checkpoints.catalog import default_model
from ..checkpoints.files import Checkpoint
from ..checkpoints.models import load_checkpoint
from ..errors import BidiffsrError
from ..options import UpscaleOptions
from ..pipeline import SuperResolver
from ..runtime import LEAST_PSNR, Machine, Runtime, choose_runtime, usable_cores

WINDOW, OVERLAP = 64, 16
LEAST_PSNR_OF_DEVICES = 40.0
"""Each may be in reduced precision; a device that computes wrongly is far below."""


class TrainedForm(Runtime):
    """Runs a network in the form in which it was trained."""

    def prepare(self, checkpoint: Checkpoint) -> Any:
        """Nothing is binarized beforehand, and nothing is packed."""
        from ..networks.packed import unpack

        return unpack(checkpoint.build_packed()).requires_grad_(False).eval()


class SelfTest:
    """The default model, and the picture that it enlarged.

    Raises:
        ModelError: the default model is missing or damaged.
    """

    def __init__(self) -> None:
        self.checkpoint = load_checkpoint(default_model())
        self.runtime = choose_runtime(Machine("cpu", threads=1), **self.checkpoint.runtime_facts)
        self.enlarged = self.enlarge(self.runtime)

    def inference_form(self) -> str:
        """Compare with a plainer form, which is the engine's portable code, or in torch the form that was trained.

        Returns:
            How well they agree, in words.

        Raises:
            BidiffsrError: they differ visibly.
        """
        plain = dataclasses.replace(self.runtime, dtype="float32")
        if self.runtime.isa not in (None, "portable"):
            other, runtime = "the portable code", dataclasses.replace(plain, isa="portable")
        else:
            other, runtime = "the trained form", TrainedForm("cpu", "float32", "reference", None, plain.threads)
        psnr = _psnr(self.enlarged, self.enlarge(runtime))
        found = f"the same bytes as {other}" if math.isinf(psnr) else f"{psnr:.1f} dB to {other}"
        if psnr < LEAST_PSNR:
            raise BidiffsrError(f"The inference form is at {found}; at least {LEAST_PSNR:.0f} dB are right.")
        return found

    def threads(self) -> str:
        """Compare one thread with several.

        Returns:
            That they agree, in words.

        Raises:
            BidiffsrError: the number of threads changes the result.
        """
        several = max(2, usable_cores())
        many = self.enlarge(dataclasses.replace(self.runtime, threads=several))
        if many.tobytes() != self.enlarged.tobytes():
            raise BidiffsrError(f"1 and {several} threads do not give the same bytes.")
        return f"1 and {several} threads give the same bytes"

    def device(self, runtime: Runtime) -> str:
        """Compare another device with the CPU.

        Returns:
            How well they agree, in words, and on CUDA what Triton's pair computed.

        Raises:
            BidiffsrError: they differ visibly.
        """
        from ..networks import fused

        psnr = _psnr(self.enlarged, self.enlarge(runtime))
        if psnr < LEAST_PSNR_OF_DEVICES:
            raise BidiffsrError(f"Pictures from {runtime.device} are at {psnr:.1f} dB to those from the CPU.")
        return ", ".join(filter(None, (f"{psnr:.1f} dB to the CPU", fused.in_words())))

    def enlarge(self, runtime: Runtime) -> Image.Image:
        """The picture enlarged on a runtime, in several windows."""
        config = self.checkpoint.config
        steps = 1 + config.diffusion.free_steps
        options = UpscaleOptions(scale=config.scales[0], steps=steps, tile=WINDOW, tile_overlap=OVERLAP)
        return SuperResolver(self.checkpoint, runtime).upscale(built_in_picture(), options).image


def built_in_picture() -> Image.Image:
    """A picture of slopes, waves and an edge: 48×32, RGB."""
    width, height = 48, 32
    pixels = [
        (255 * x // width, 255 * y // height, int(127.5 + 127.5 * math.sin(x * y / 24)) if x < width // 2 else 40)
        for y in range(height)
        for x in range(width)
    ]
    return Image.frombytes("RGB", (width, height), bytes(value for pixel in pixels for value in pixel))


def _psnr(a: Image.Image, b: Image.Image) -> float:
    error = sum(ImageStat.Stat(ImageChops.difference(a, b)).sum2) / (3 * a.width * a.height)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
