"""Pack a model's weights into one small file, and test that its packed form predicts what the trained one does.

result = pack("run", "mine.safetensors", license="CC0-1.0")
result.bytes, result.snr
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..atomic import check_output, write_atomic
from ..checkpoints.files import EIGHT_BITS, EXACT, NORMS, Checkpoint, read_checkpoint, serialize_packed
from ..configs import ModelConfig
from ..diffusion.conditioning import condition
from ..diffusion.upsampling import bicubic
from ..errors import CheckpointError, UsageError
from ..images.pixels import to_float
from ..networks.packed import unpack
from ..runtime import Machine, Runtime, choose_runtime
from .listener import SILENT, Listener, as_function
from .selftest import WINDOW, built_in_picture

SCHEMA = "bidiffsr-pack/1"
OF_PREDICTIONS, OF_PICTURES = (40.0, 45.0), (45.0, 50.0)
"""How well two forms must agree at least, and from where on no more bits are spent, dB."""


@dataclass(frozen=True)
class PackRequest:
    """What `pack` is asked for.

    Attributes:
        source: folder of a training run, of which it takes the averaged weights, or the path of a checkpoint.
        output: path of the packed file.
        license: of the weights; None keeps the source's.
        origin: how the weights came about; None keeps the source's.
        overwrite: replace an existing file.
    """

    source: str | os.PathLike[str]
    output: str | os.PathLike[str]
    _: KW_ONLY
    license: str | None = None
    origin: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class PackResult:
    """What was packed.

    Attributes:
        source: the checkpoint that was read.
        output: the packed file.
        source_bytes, bytes: their sizes.
        snr: how well the predictions of both agree, dB; of residuals as what they are in a picture.
    """

    source: Path
    output: Path
    source_bytes: int
    bytes: int
    snr: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return {"schema": SCHEMA, "source": str(self.source), "output": str(self.output), "bytes": self.bytes}


def run(request: PackRequest, listener: Listener = SILENT) -> PackResult:
    """Pack a model, and write it if it predicts for a built-in picture what the source does.

    Raises:
        UsageError: the source is a folder without a checkpoint.
        OutputError: the output exists, or cannot be written.
        CheckpointError: the source is damaged or cannot be packed, or the packed weights predict something else.
    """
    path, output = Path(request.source), Path(request.output)
    if path.is_dir():
        path = path / "weights.safetensors"
        if not path.is_file():
            raise UsageError(
                f"'{request.source}' is not a finished or stopped training run.",
                "It has no weights.safetensors yet.",
            )
    check_output(output, overwrite=request.overwrite)
    checkpoint = read_checkpoint(path)
    checkpoint = replace(
        checkpoint,
        license=checkpoint.license if request.license is None else request.license,
        origin=checkpoint.origin if request.origin is None else request.origin,
    )
    data, snr = pack_and_test(checkpoint)
    write_atomic(data, output, overwrite=request.overwrite)
    return PackResult(path, output, path.stat().st_size, len(data), snr)


def pack_and_test(checkpoint: Checkpoint) -> tuple[bytes, float]:
    """Pack a checkpoint as small as it may be, and compare its predictions with those of the form that was trained.

    Rounding a value just before a sign may flip the sign: two forms of one network agree to 45 dB and more where few
    signs flip, and to 120 dB where none does. Upsamplers are stored in 8 bits and other numbers that no sign follows
    directly in 16; of those that one follows only as many are kept in 32 bits as it takes to agree well
    enough: in predictions, or in pictures where residuals are predicted, which are a small part of one.

    Returns:
        The bytes of the packed file, and how well the predictions agree, dB.

    Raises:
        CheckpointError: the packed weights predict something else, even with everything but signs in float32.
    """
    network = checkpoint.build() if checkpoint.storage == "float" else unpack(checkpoint.build_packed())
    trained = network.requires_grad_(False).eval()
    runtime = choose_runtime(Machine("cpu", "fp32"))
    by_scale = {int(scale): upsampler for scale, upsampler in trained.upsamplers.items()}
    expected = [*_predictions(checkpoint.config, trained, runtime), *_upsampled(by_scale)]
    in_pictures = checkpoint.config.diffusion.target == "residual"
    least, good = OF_PICTURES if in_pictures else OF_PREDICTIONS
    everything = {part for name in checkpoint.state for part in name.split(".")}
    for float32 in (NORMS, EXACT, everything):
        data = serialize_packed(checkpoint, float32, () if float32 is everything else EIGHT_BITS)
        read = _read_back(data)
        predictions = _predictions(checkpoint.config, runtime.prepare(read), runtime)
        found = [*predictions, *_upsampled(runtime.prepare_upsamplers(read))]
        snr = _snr(expected, found, in_pictures=in_pictures)
        if snr >= good:
            break
    if not snr >= least:
        raise CheckpointError(
            f"The packed weights predict something else than the float ones (they agree to {snr:.1f} dB).",
            f"At least {least:.0f} dB are right; nothing was written.",
        )
    return data, snr


def _predictions(config: ModelConfig, network: Callable[..., Tensor], runtime: Runtime) -> list[Tensor]:
    """What a network predicts for the test picture, at one time step of each TaR/TaA group; residuals as they count."""
    scale, unit = config.scales[0], max((config.diffusion.residual_scale or {"": 1.0}).values())
    groups = math.lcm(config.network.tar_groups, config.network.taa_groups)
    side = max(WINDOW, config.network.multiple_of)

    def picture(radius: int) -> Tensor:
        size = (side + 2 * radius,) * 2
        return to_float(built_in_picture().resize(size, Image.Resampling.BICUBIC))[None]

    seen = condition(picture, scale, config.diffusion)
    generator = torch.Generator().manual_seed(0)
    predictions = []
    with torch.inference_mode(), runtime.threads_bound():
        for group in range(groups):
            t = config.diffusion.total_steps * (group + 1) // groups - 1
            noise = torch.randn(1, 3, side, side, generator=generator)
            predictions.append(unit * network(noise, seen, torch.tensor([t]), t).float())
    return predictions


@torch.inference_mode()
def _upsampled(upsamplers: Mapping[int, Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """The test picture, enlarged by each upsampler."""
    picture = to_float(built_in_picture())[None]
    return [bicubic(picture, scale) + upsampler(picture) for scale, upsampler in sorted(upsamplers.items())]


def _snr(expected: Sequence[Tensor], found: Sequence[Tensor], *, in_pictures: bool) -> float:
    """The lowest signal-to-noise ratio, dB; in pictures with white as the signal (PSNR)."""
    ratios = []
    for right, other in zip(expected, found, strict=True):
        power, noise = right.square().mean(), (right - other).square().mean()
        ratios.append((torch.ones_like(power) if in_pictures else power) / noise.clamp_min(1e-20))
    return float(10 * torch.log10(torch.stack(ratios).min()))


def _read_back(data: bytes) -> Checkpoint:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        path.write_bytes(data)
        return read_checkpoint(path)


pack = as_function(PackRequest, run)
