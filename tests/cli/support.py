"""What the tests of the command line share: a small picture, a small model, and two ways to run a command."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bidiffsr_cli.checkpoints.files import Checkpoint, serialize_packed
from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, TileConfig, UNetConfig, UpsamplerConfig
from bidiffsr_cli.networks.systems import find_system
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.runtime import Runtime

from .contract import mistakes

COMMAND = [sys.executable, "-m", "bidiffsr_cli"]
WIDTH, HEIGHT = 24, 16


class Pretended(Runtime):
    """The CPU playing the part of another device."""

    @property
    def kind(self) -> str:
        return "xpu"

    def in_torch(self, network: Any, *, graphs: bool = True) -> Any:
        return Runtime("cpu", self.dtype, "reference", None, 1).in_torch(network)


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def answer(self) -> str:
        """stdout as text."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """stdout as the one JSON object that it must be, with the fields that are documented."""
        answer = json.loads(self.out)
        assert not mistakes(answer)
        return answer


Run = Callable[..., Finished]


def picture(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture made by arithmetic."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    width, height = size
    values = ((7 * x * (band + 1) + 11 * y) % 256 for y in range(height) for x in range(width) for band in range(bands))
    return Image.frombytes(mode, size, bytes(values))


def tiny_checkpoint(seed: int = 0, upsampler: UpsamplerConfig | None = None, system: str | None = None) -> bytes:
    """A packed checkpoint file that enlarges x2 and x4, with random weights; the first step is an upsampler's.

    `system` names a row of the paper's tables, whose network it then is.
    """
    network = UNetConfig(
        inner_channel=8,
        channel_mults=(1, 2),
        res_blocks=1,
        norm_groups=4,
        full_precision_levels=(0,),
        upsampler=upsampler,
    )
    network = find_system(system).applied_to(network) if system else network
    diffusion = DiffusionConfig(
        parameterization="v",
        target="residual",
        schedule="angle",
        condition=("low_res", "detail"),
        residual_scale={"2": 0.1, "4": 0.2},
        spacing="trailing",
        first_step="network" if upsampler is None else "mean",
        default_steps=2,
        presets={"fast": 1, "balanced": 2, "best": 3},
    )
    config = ModelConfig(network, diffusion, scales=(2, 4), tile=TileConfig(32, 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = UNet(network, config.condition_channels).state_dict()
        state = {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in state.items()}
    return serialize_packed(Checkpoint.of_tensors(config, state, license="CC0-1.0", origin="random numbers"))


def spawn(args: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """Start the real command in a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    command = [*COMMAND, *map(str, args)]
    return subprocess.Popen(command, env=environment(), preexec_fn=default_signals, **options)


def finish(process: subprocess.Popen[bytes], given: bytes | None = None, seconds: float = 60) -> Finished:
    """Wait for it."""
    out, err = process.communicate(given, seconds)
    return Finished(process.returncode, out or b"", (err or b"").decode())


def environment(**more: str) -> dict[str, str]:
    """Today's environment without what would change the looks of the output.

    One OpenMP thread: where tests share the cores with others, threads that wait for each other take seconds.
    """
    unwanted = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERM", "BIDIFFSR_MODEL", "BIDIFFSR_DEVICE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "OMP_NUM_THREADS": "1"} | more


def default_signals() -> None:
    """A background job inherits an ignored SIGINT; a terminal's foreground job does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def is_one_sentence(err: str) -> bool:
    """Whether stderr is `Error: one sentence.` and at most one line of advice."""
    lines = err.splitlines()
    return bool(re.fullmatch(r"Error: .+[.)]", lines[0])) and len(lines) <= 2 and "Traceback" not in err


def decoded(data: bytes | Path) -> Image.Image:
    """A picture, from the bytes of its file or from its path."""
    image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    image.load()
    return image
