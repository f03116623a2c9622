"""Self-tests against the public Python API: a tiny picture, enlarged in several ways that must agree.

`bidiffsr doctor` tests the default model, `models pack` and `models convert` what they write. The picture is made by
arithmetic, so that all of it takes a second or two.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.catalog import default_model
from ..checkpoints.files import EXACT, NORMS, Checkpoint, read_checkpoint, serialize_packed
from ..checkpoints.models import load_checkpoint
from ..configs import ModelConfig, UpscaleOptions
from ..diffusion.conditioning import condition_of, detail_radius
from ..errors import BidiffsrError, CheckpointError
from ..networks.packed import unpack
from ..networks.unet import UNet
from ..pipeline import SuperResolver
from ..runtime import Runtime, choose_runtime, usable_cores

LEAST_PSNR = 50.0
LEAST_SNR, GOOD_SNR = 40.0, 45.0
WIDTH, HEIGHT, WINDOW, OVERLAP = 48, 32, 64, 16


class TrainedForm(Runtime):
    """Run a network in the form in which it was trained."""

    def prepare(self, network: UNet) -> nn.Module:
        """Nothing is binarized beforehand, and nothing is packed."""
        return unpack(network).requires_grad_(False).eval()


def pack_and_test(checkpoint: Checkpoint) -> tuple[bytes, str]:
    """Pack a checkpoint as small as it may be, and compare its predictions with those of the form that was trained.

    A value that is rounded just before a sign may flip it: two forms of one network agree to 45 dB and more where
    few signs flip, and to 120 dB where none does. Numbers that do not reach a sign next are stored in 16 bits; of the
    others as few are kept in 32 bits as give `GOOD_SNR`.

    Returns:
        The bytes of the packed file, and what the test found.

    Raises:
        CheckpointError: even with all but signs in float32, the packed weights predict something else.
    """
    network = checkpoint.build() if checkpoint.storage == "float" else unpack(checkpoint.build_packed())
    trained = network.requires_grad_(False).eval()
    runtime = choose_runtime(device="cpu", precision="fp32")
    expected = _predictions(checkpoint.config, trained, runtime)
    everything = {part for name in checkpoint.state for part in name.split(".")}
    for float32 in (NORMS, EXACT, everything):
        data = serialize_packed(checkpoint, float32)
        packed = runtime.prepare(_read_back(data).build_packed())
        snr = _snr(expected, _predictions(checkpoint.config, packed, runtime))
        if snr >= GOOD_SNR:
            break
    if not snr >= LEAST_SNR:
        raise CheckpointError(
            f"The packed weights predict something else than the float ones (they agree to {snr:.1f} dB).",
            f"At least {LEAST_SNR:.0f} dB are right; nothing was written.",
        )
    return data, f"its predictions agree with the float weights' to {snr:.0f} dB"


def _predictions(config: ModelConfig, network: Callable[..., Tensor], runtime: Runtime) -> Tensor:
    """What a network predicts for the test picture, at one time step of each TaR/TaA group."""
    scale = config.scales[0]
    groups = math.lcm(config.network.tar_groups, config.network.taa_groups)
    side = max(WINDOW, config.network.multiple_of)
    around = side + 2 * detail_radius(scale, config.diffusion)
    picture = synthetic_picture().resize((around, around), Image.Resampling.BICUBIC)
    up = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, around, around, 3) / 255
    condition = condition_of(up.permute(0, 3, 1, 2), scale, config.diffusion)
    generator = torch.Generator().manual_seed(0)
    predictions = []
    with torch.inference_mode(), runtime.threads_bound():
        for group in range(groups):
            t = config.diffusion.total_steps * (group + 1) // groups - 1
            noise = torch.randn(1, 3, side, side, generator=generator)
            predictions.append(network(noise, condition, torch.tensor([t]), t).float())
    return torch.stack(predictions)


def _snr(expected: Tensor, found: Tensor) -> float:
    """The least signal-to-noise ratio over the groups, dB."""
    over = tuple(range(1, expected.dim()))
    noise = (expected - found).square().mean(over)
    return float(10 * torch.log10(expected.square().mean(over) / noise.clamp_min(1e-20)).min())


def _read_back(data: bytes) -> Checkpoint:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        path.write_bytes(data)
        return read_checkpoint(path)


class DefaultModel:
    """The default model, and what it makes of the picture.

    Raises:
        ModelError: there is no whole default model.
    """

    def __init__(self) -> None:
        self.checkpoint = load_checkpoint(default_model())
        self.runtime = choose_runtime(device="cpu", threads=1, **self.checkpoint.runtime_facts)
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
