"""What several rooms' tests share: golden files, pictures, and the bundled model loaded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Hub, serve
from hypothesis import settings
from PIL import Image
from torch import Tensor

from bidiffsr_cli.checkpoints.files import Checkpoint
from bidiffsr_cli.checkpoints.models import load_checkpoint
from bidiffsr_cli.ops import native
from bidiffsr_cli.pipeline import SuperResolver

HERE = Path(__file__).parent

torch.set_num_threads(1)  # several spin while they wait, which makes a busy machine twelve times slower

if os.environ.get("BIDIFFSR_REQUIRE_NATIVE", "0") not in ("0", "") and native.why_unavailable():
    raise RuntimeError(f"BIDIFFSR_REQUIRE_NATIVE is set, and the native engine is not here: {native.why_unavailable()}")

needs_native = pytest.mark.skipif(
    native.why_unavailable() is not None, reason=f"the native engine is not here: {native.why_unavailable()}"
)


def pytest_configure(config: pytest.Config) -> None:
    """No deadlines, as the machine may be busy; and the quick run draws a quarter of the examples."""
    quick = "not slow" in config.option.markexpr
    settings.register_profile("bidiffsr", deadline=None, max_examples=25 if quick else 100)
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on loopback with an empty cache, for the client in this process and for commands in others."""
    from huggingface_hub import constants

    with serve() as server:
        home = tmp_path / "hf"
        for name, value in {
            "HF_ENDPOINT": server.endpoint,
            "HF_HOME": str(home),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": "1",  # uploads go through plain HTTP, which this Hub speaks
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        # what the library made of the environment when it was imported
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    server_of = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_of.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket there, for this process and for commands in others."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, value)
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    s3fs.S3FileSystem().mkdir(name)
    return name
