"""Packing a model, and the test that its packed form predicts what the trained one does."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.files import EXACT, NORMS, Checkpoint, read_checkpoint, serialize_packed
from ..configs import ModelConfig
from ..diffusion.conditioning import condition_of, detail_radius
from ..errors import CheckpointError
from ..networks.packed import unpack
from ..runtime import Runtime, choose_runtime
from ._selftest import WINDOW, synthetic_picture

LEAST_SNR, GOOD_SNR = 40.0, 45.0


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
        packed = runtime.prepare(_read_back(data))
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
