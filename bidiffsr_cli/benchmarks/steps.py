"""One step of a network: native, reference and, where asked for, in the style of the authors' code.

On a CPU it computes one window. Native and reference may use all threads of the runtime on that, the upstream style all
that torch takes by itself, as its users get them. A profile says where the time of a native step goes. On another
device a step computes one window or several, and the reference also runs without CUDA graphs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.files import Checkpoint
from ..configs import DiffusionConfig, ModelConfig, TileConfig, UNetConfig
from ..errors import is_out_of_memory
from ..networks.graphs import WORTH_A_GRAPH
from ..networks.native_unet import NativeUNet
from ..networks.packed import pack
from ..networks.unet import UNet
from ..ops.threads import using_threads
from ..runtime import Runtime, torch_threads
from .measuring import EAGER, NATIVE, REFERENCE, UPSTREAM_STYLE, Candidate, Row, row_of, time_candidates
from .upstream_style import UpstreamStyleUNet

UPSTREAM_REPEATS = 3
STEP = 900
BATCHES = (1, 2, 4, 8, 16)
"""Windows in a call, on another device than the CPU."""
Way = Callable[[int], Candidate]
"""What computes a step on so many windows."""

KINDS_OF_WORK = (
    "stem",
    "binary blocks",
    "full-precision blocks",
    "attention",
    "fusions",
    "resampling",
    "head",
    "rest",
)
"""The kinds of work in a step on the native engine."""


@dataclass(frozen=True)
class Workload:
    """A network and a window of its input.

    Attributes:
        name: of both.
        checkpoint: the network's; its upsamplers take no part in a step.
        size: height and width of the window, pixels.
        step: the time step.
    """

    name: str
    checkpoint: Checkpoint
    size: int
    step: int = STEP

    def inputs(self, device: str, windows: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """(x_t, condition, t) of so many windows."""
        generator, channels = torch.Generator().manual_seed(0), (3, self.checkpoint.config.condition_channels)
        maps = (torch.randn(windows, c, self.size, self.size, generator=generator) for c in channels)
        x_t, condition = (drawn.to(device) for drawn in maps)
        return x_t, condition, torch.full((windows,), self.step, device=device)


def published() -> Workload:
    """The network of the paper, with random weights: 98.65 G binary multiply-adds and 33.6 G others."""
    config = ModelConfig(UNetConfig(), DiffusionConfig(), (2,), TileConfig(256, 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = pack(UNet(config.network)).state_dict()
    return of_model(Checkpoint.of_tensors(config, state, "", "", storage="packed", name="published"))


def of_model(checkpoint: Checkpoint) -> Workload:
    """A model's network and window."""
    size, step = checkpoint.config.tile.size, min(STEP, checkpoint.config.diffusion.total_steps - 1)
    return Workload(f"{checkpoint.name} {size}x{size}", checkpoint, size, step)


def measure_steps(
    workload: Workload,
    runtimes: Sequence[Runtime],
    repeats: int,
    *,
    against_upstream_style: bool = False,
    batches: Sequence[int] = (1,),
    eager: bool = False,
) -> list[Row]:
    """Rows of one step on every runtime, and in the upstream style.

    Args:
        workload: network and window.
        runtimes: where.
        repeats: measurements of each.
        against_upstream_style: whether that is measured.
        batches: numbers of windows in a step, from the least on; left out from where memory does not suffice.
        eager: whether each runtime is also measured without CUDA graphs, which the others use.

    Raises:
        UsageError: the network has no upstream style.
    """
    kinds = (True, False) if eager else (True,)
    ways = [step_on(runtime, workload, graphs=graphs) for runtime in runtimes for graphs in kinds]
    if against_upstream_style:
        ways.append(upstream_step(workload, runtimes[0].device))
    rows: list[Row] = []
    for windows in batches:
        name = workload.name if windows == 1 else f"{workload.name} x{windows}"
        try:
            rows += time_candidates("step", name, [way(windows) for way in ways], repeats)
        except (MemoryError, RuntimeError) as error:
            if not (rows and is_out_of_memory(error)):
                raise
            break
    return rows


def step_on(runtime: Runtime, workload: Workload, *, graphs: bool = True) -> Way:
    """A step on a runtime, by all of its threads."""
    model = workload.checkpoint
    prepared = runtime.prepare(model) if graphs else runtime.in_torch(model.build_packed(), graphs=False)
    what = NATIVE if runtime.isa else REFERENCE if graphs else EAGER

    def way(windows: int) -> Candidate:
        inputs = workload.inputs(runtime.device, windows)

        def run() -> None:
            with running(runtime):
                prepared(*inputs, workload.step)
                finish(runtime.device)

        for _ in range(WORTH_A_GRAPH if runtime.kind == "cuda" else 0):
            run()
        return Candidate(what, runtime.dtype, runtime.isa, runtime.threads, run)

    return way


def upstream_step(workload: Workload, device: str) -> Way:
    """A step as the authors' code computes it; on CUDA in TF32, which is torch's default.

    How the process allocates memory (`runtime.keep_freed_memory`) serves it too.

    Raises:
        UsageError: the network has no upstream style.
    """
    style = UpstreamStyleUNet(workload.checkpoint.build()).to(device)

    def way(windows: int) -> Candidate:
        inputs = workload.inputs(device, windows)

        def run() -> None:
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
                style(*inputs)
                finish(device)

        return Candidate(UPSTREAM_STYLE, "float32", None, torch.get_num_threads(), run, UPSTREAM_REPEATS)

    return way


def profile_step(workload: Workload, runtime: Runtime, repeats: int) -> list[Row]:
    """Rows of the kinds of work in one step on a native runtime; empty on any other."""
    network = runtime.prepare(workload.checkpoint)
    if not isinstance(network, NativeUNet):
        return []
    inputs = workload.inputs(runtime.device)
    runs = []
    with running(runtime):
        for _ in range(repeats + 2):
            started = time.perf_counter()
            parts = network.profile(*inputs)
            parts["rest"] = time.perf_counter() - started - sum(parts.values())
            runs.append(parts)
    candidate = Candidate(NATIVE, runtime.dtype, runtime.isa, runtime.threads, lambda: None)
    return [
        row_of("profile", workload.name, candidate, [parts[part] for parts in runs[2:]], part=part)
        for part in KINDS_OF_WORK
        if part in runs[0]
    ]


@contextmanager
def running(runtime: Runtime) -> Iterator[None]:
    """Gradients off, precision set, and all threads for one window: torch's own where it computes alone."""
    count = runtime.threads if runtime.isa is None else 1
    with torch.inference_mode(), using_threads(runtime.threads), torch_threads(count):
        yield


def finish(device: str) -> None:
    """Wait until the device has computed everything."""
    if device != "cpu":
        torch.accelerator.synchronize(device)
