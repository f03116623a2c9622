"""The binary layers of a benchmark, each with all that is fused with it: native against plain torch.

A 3x3 layer is the first half of a ResBlock (GroupNorm, Swish, TaR, sign, convolution, TaA, shortcut, time embedding), a
1x1 layer a whole CS-Fusion. Both run in one thread, which is how the reference backend computes a window; the native
engine is measured with all threads too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..configs import UNetConfig
from ..networks import blueprint
from ..networks.binary_conv import convs_of
from ..networks.blocks import Fusion, ResBlock
from ..networks.packed import freeze, pack
from ..networks.program import Writer
from ..networks.time_aware import TimestepContext
from ..networks.unet import TimeEmbedding
from ..ops import Array, BinaryBlock, Operation, Program, native
from ..ops.threads import threads, using_threads
from ..runtime import Runtime, torch_threads
from .measuring import NATIVE, REFERENCE, Candidate, Row, best_clock_rate, time_candidates

CONFIG = UNetConfig()
CONTEXT_STEP = 900


@dataclass(frozen=True)
class BinaryLayer:
    """A binary layer at one size.

    Attributes:
        kernel: 3 is half a ResBlock, 1 a CS-Fusion.
        channels: C.
        size: height and width of its input.
    """

    kernel: int
    channels: int
    size: int

    @property
    def name(self) -> str:
        """Such as 3x3, 64 ch, 256x256."""
        return f"{self.kernel}x{self.kernel}, {self.channels} ch, {self.size}x{self.size}"

    @property
    def macs(self) -> int:
        """Binary multiply-adds; a CS-Fusion has two convolutions."""
        per_pixel = self.kernel**2 * self.channels**2 * (2 if self.kernel == 1 else 1)
        return per_pixel * self.size**2


LAYERS = tuple(
    BinaryLayer(*shape)
    for shape in ((3, 32, 256), (3, 64, 256), (3, 128, 128), (3, 256, 64), (3, 512, 32), (1, 512, 32))
)
"""The sizes of the published network and, first, that of the bundled one."""


def measure_layers(runtime: Runtime, repeats: int, limit: float | None = None) -> list[Row]:
    """Rows of all layers, on a CPU: of the reference, and of a native runtime in one thread and in all.

    Args:
        runtime: instruction set and threads.
        repeats: measurements of each.
        limit: binary multiply-adds in a cycle that a core can do at most.
    """
    return [row for layer in LAYERS for row in measure_layer(layer, runtime, repeats, limit)]


def measure_layer(layer: BinaryLayer, runtime: Runtime, repeats: int, limit: float | None = None) -> list[Row]:
    """Likewise of one layer."""
    candidates = [Candidate(REFERENCE, "float32", None, 1, torch_threads(1)(reference_run(layer)))]
    if runtime.isa is None:
        return time_candidates("layer", layer.name, candidates, repeats, macs=layer.macs)
    run = torch_threads(1)(native_run(layer, runtime.isa))
    for count in sorted({1, runtime.threads}):
        candidates.append(Candidate(NATIVE, "float32", runtime.isa, count, using_threads(count)(run)))
    clock = best_clock_rate()
    rows = time_candidates("layer", layer.name, candidates, repeats, macs=layer.macs)
    clock = (clock + best_clock_rate()) / 2  # it may change meanwhile
    return [_with_rates(row, layer.macs, clock, limit) for row in rows]


def reference_run(layer: BinaryLayer) -> Callable[[], Tensor]:
    """The layer in plain torch, channels last: one call computes it."""
    block, maps, ctx = _subject(layer)
    block = freeze(block).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> Tensor:
        if layer.kernel == 1:
            return block(*maps, ctx)
        h = block.conv1(F.silu(block.norm1(maps[0])), ctx)
        h += block.time(ctx.embedding)[:, :, None, None]
        return h

    return run


def native_run(layer: BinaryLayer, isa: str) -> Callable[[], Tensor]:
    """The layer on the native engine, on the threads of the calling context.

    With a norm, the sums that it needs are taken in a pass of their own; in a network the operation before does that.
    """
    block, maps, ctx = _subject(layer)
    modules = {"block": pack(block), "time_embedding": time_embedding()}
    tensors = nn.ModuleDict(modules).state_dict()
    writer = Writer(CONFIG, {name: Array.of(tensor) for name, tensor in tensors.items()})
    plan = _plan(layer)
    operation: Operation
    if isinstance(plan, blueprint.Fusion):
        operation = writer.fusion(plan, 0, 1)
    else:
        norm, time = writer.norm(plan.norm1), writer.linear(plan.time)
        operation = BinaryBlock((0,), (writer.binary_conv(plan.conv1),), norm=norm, time=time)
    whole = blueprint.blueprint(CONFIG)
    embedding = ops.TimeEmbedding(writer.linear(whole.linear1), writer.linear(whole.linear2), swish=True)
    channels = (layer.channels,) * len(maps)
    network = native.NativeProgram(isa, Program(channels, (operation,), ctx.total_steps, embedding))

    @torch.inference_mode()
    def run() -> Tensor:
        return network(maps, [ctx.t], ctx.t, threads())

    return run


def _subject(layer: BinaryLayer) -> tuple[Any, list[Tensor], TimestepContext]:
    """(the block in its trained form, its inputs, a time step): the same for every way to compute it."""
    conv, plan = convs_of(CONFIG), _plan(layer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = Fusion(plan, conv) if isinstance(plan, blueprint.Fusion) else ResBlock(plan, conv)
        shape = 1, layer.channels, layer.size, layer.size
        maps = [torch.randn(shape) for _ in range(2 if layer.kernel == 1 else 1)]
    with torch.inference_mode():
        embedding = F.silu(time_embedding()(torch.tensor([CONTEXT_STEP])))
    ctx = TimestepContext(embedding, CONTEXT_STEP, CONFIG.total_steps)
    return block, [x.contiguous(memory_format=torch.channels_last) for x in maps], ctx


def _plan(layer: BinaryLayer) -> blueprint.Fusion | blueprint.ResBlock:
    """The plan of the block that the layer belongs to, named `block`."""
    draw, channels = blueprint.Draftsman(CONFIG), layer.channels
    if layer.kernel == 1:
        return draw.fusion("block", channels, channels, level=0)
    return draw.res_block("block", channels, channels, level=0)


def time_embedding() -> TimeEmbedding:
    """The module that embeds the time step for the layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TimeEmbedding(CONFIG.inner_channel)


def _with_rates(row: Row, macs: int, clock: float, limit: float | None) -> Row:
    """The row with multiply-adds per cycle and core; for the native engine also as a part of the limit."""
    rate = macs / (row.median * clock * row.threads)
    return replace(row, mac_per_cycle=rate, port_share=rate / limit if limit and row.what == NATIVE else None)
