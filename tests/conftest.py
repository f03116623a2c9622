"""What several rooms' tests share: golden files, pictures, and the bundled model loaded once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import Tensor

from bidiffsr_cli.checkpoints.catalog import load_checkpoint
from bidiffsr_cli.checkpoints.files import Checkpoint
from bidiffsr_cli.ops import native
from bidiffsr_cli.pipeline import SuperResolver

HERE = Path(__file__).parent

if os.environ.get("BIDIFFSR_REQUIRE_NATIVE", "0") not in ("0", "") and native.why_unavailable():
    raise RuntimeError(f"BIDIFFSR_REQUIRE_NATIVE is set, and the native engine is not here: {native.why_unavailable()}")

needs_native = pytest.mark.skipif(
    native.why_unavailable() is not None, reason=f"the native engine is not here: {native.why_unavailable()}"
)

settings.register_profile("bidiffsr", deadline=None)  # the machine may be busy
settings.load_profile("bidiffsr")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden files."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder of test pictures."""
    return HERE / "pictures"


@pytest.fixture(scope="session")
def fast() -> Checkpoint:
    """The bundled model's checkpoint."""
    return load_checkpoint("fast")


@pytest.fixture(scope="session")
def resolver() -> SuperResolver:
    """The bundled model, ready to run on the CPU."""
    return SuperResolver.from_pretrained("fast", device="cpu")


@pytest.fixture
def small(pictures: Path) -> Image.Image:
    """A photograph of 48x40 pixels."""
    with Image.open(pictures / "parrot.png") as image:
        return image.crop((40, 60, 136, 140)).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test draws the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio of two tensors in [0, 1], dB."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-12)))


def to_tensor(image: Image.Image) -> Tensor:
    """C×H×W in [0, 1] of an 8-bit picture."""
    octets = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return octets.view(image.height, image.width, -1).permute(2, 0, 1) / 255
