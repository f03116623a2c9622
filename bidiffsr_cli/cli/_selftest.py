"""The self-test of `bidiffsr doctor`, written against the public Python API: a tiny picture, enlarged in several ways.

The picture is made by arithmetic and one step is taken, so that all of it takes a second or two.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.catalog import catalog, load_checkpoint
from ..configs import UpscaleOptions
from ..errors import BidiffsrError
from ..networks.packed import unpack
from ..networks.unet import BiDiffSRUNet
from ..pipeline import SuperResolver
from ..runtime import Runtime, choose_runtime, usable_cores

LEAST_PSNR = 50.0
WIDTH, HEIGHT, WINDOW, OVERLAP = 48, 32, 64, 16


class TrainedForm(Runtime):
    """Run a network in the form in which it was trained."""

    def prepare(self, network: BiDiffSRUNet) -> nn.Module:
        """Nothing is binarized beforehand, and nothing is packed."""
        return unpack(network).requires_grad_(False).eval()


class Subject:
    """The default model, and what it makes of the picture.

    Raises:
        ModelError: there is no whole default model.
    """

    def __init__(self) -> None:
        self.checkpoint = load_checkpoint(next(iter(catalog())))
        self.runtime = choose_runtime(device="cpu", threads=1, bf16_psnr=self.checkpoint.bf16_psnr)
        self.enlarged = self.enlarge(self.runtime)

    def inference_form(self) -> str:
        """The PSNR between the network's two forms.

        Raises:
            BidiffsrError: they differ visibly.
        """
        plain = choose_runtime(device="cpu", precision="fp32", backend="reference")
        psnr = _psnr(self.enlarged, self.enlarge(TrainedForm(**vars(plain))))
        found = "the same bytes as the trained form" if math.isinf(psnr) else f"{psnr:.1f} dB to the trained form"
        if psnr < LEAST_PSNR:
            raise BidiffsrError(f"The inference form is at {found}; at least {LEAST_PSNR:.0f} dB are right.")
        return found

    def threads(self) -> str:
        """That the number of threads changes nothing.

        Raises:
            BidiffsrError: it does.
        """
        several = max(2, usable_cores())
        many = self.enlarge(dataclasses.replace(self.runtime, threads=several))
        if not torch.equal(self.enlarged, many):
            raise BidiffsrError(f"1 and {several} threads do not give the same bytes.")
        return f"1 and {several} threads give the same bytes"

    def enlarge(self, runtime: Runtime) -> Tensor:
        """The result, through several windows, as uint8."""
        options = UpscaleOptions(scale=self.checkpoint.config.scales[0], steps=1, tile=WINDOW, tile_overlap=OVERLAP)
        result = SuperResolver(self.checkpoint, runtime).upscale(synthetic_picture(), options)
        assert result.image is not None
        return torch.frombuffer(bytearray(result.image.tobytes()), dtype=torch.uint8)


def synthetic_picture() -> Image.Image:
    """Slopes, waves and an edge."""
    pixels = [
        (255 * x // WIDTH, 255 * y // HEIGHT, int(127.5 + 127.5 * math.sin(x * y / 24)) if x < WIDTH // 2 else 40)
        for y in range(HEIGHT)
        for x in range(WIDTH)
    ]
    return Image.frombytes("RGB", (WIDTH, HEIGHT), bytes(value for pixel in pixels for value in pixel))


def _psnr(a: Tensor, b: Tensor) -> float:
    error = (a.double() - b.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
