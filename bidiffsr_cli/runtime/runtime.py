"""Where a network runs: a `Runtime` prepares it, shares out memory, and evaluates windows, several at once."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from ..checkpoints.files import Checkpoint
from ..configs import UNetConfig
from ..errors import DeviceError
from ..networks.blueprint import upsamplers
from ..networks.native_unet import NativeUNet, native_upsampler
from ..ops.threads import using_threads
from . import memory
from .threads import in_threads, one_torch_thread, shares_in_rounds

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.upsampling import Upsampler
    from ..networks.unet import UNet
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Backend = Literal["auto", "native", "reference"]
PRECISIONS: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What users say -> what torch calls it."""
LARGEST_BATCH = 64
CANVAS_BYTES = 100
"""For each pixel of a canvas that lies on a device: x_t, predictions, noise and conditions, and what makes them."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Runtime:
    """A choice of where to run.

    Attributes:
        device: Where the network's arithmetic happens: cpu, cuda, cuda:1, mps, xpu.
        dtype: Of the full-precision layers, by torch's name; signs stay signs. The native engine multiplies bfloat16 in
            convolutions of one tap alone.
        backend: What computes the network: "native" is the 1-bit engine, "reference" is plain torch.
        isa: The instruction set of the native backend, None elsewhere.
        threads: How many may compute on a CPU.
        fitting: Windows at once that were asked for -> how many a device turned out to have memory for.
    """

    device: str
    dtype: str
    backend: Backend
    isa: str | None
    threads: int
    fitting: dict[int, int] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __str__(self) -> str:
        """In words, such as "cpu, 2 threads, native AVX2, fp32"."""
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.kind == "cpu" else ""
        return f"{self.device}{threads}, {self.backend}{f' {self.isa}' if self.isa else ''}, {self.precision}"

    @property
    def kind(self) -> str:
        """Of the device, without its number."""
        return self.device.partition(":")[0]

    @property
    def precision(self) -> Precision:
        """Of the full-precision layers, as users say it."""
        return next(word for word, dtype in PRECISIONS.items() if dtype == self.dtype)

    @property
    def threads_here(self) -> int:
        """Threads of this process, wherever windows are computed."""
        return self.threads

    def prepare(self, checkpoint: Checkpoint) -> Callable[..., Tensor]:
        """A checkpoint's network in the form that runs here, called as `UNet.forward`."""
        if self.isa is None or checkpoint.storage != "packed":
            import torch  # noqa: F401 - so that it is bound to one thread below
        with one_torch_thread():  # hundreds of tiny operations, which several threads only slow down
            if self.isa is None:
                return self.in_torch(checkpoint.build_packed())
            return NativeUNet(checkpoint.config, checkpoint.packed_arrays(), self.isa, self.dtype)

    def prepare_upsamplers(self, checkpoint: Checkpoint) -> Mapping[int, Upsampler]:
        """A checkpoint's upsamplers in the form that runs here, by their scales; in float32 everywhere."""
        plans = upsamplers(checkpoint.config.network.upsampler)
        if self.isa is not None:
            return {plan.scale: native_upsampler(plan, checkpoint.arrays, self.isa) for plan in plans}
        if not plans:
            return {}
        from ..networks.upsampler import DeviceUpsampler

        return {plan.scale: DeviceUpsampler(plan, checkpoint.state, self.device) for plan in plans}

    def in_torch(self, network: UNet, *, graphs: bool = True) -> Callable[..., Tensor]:
        """A network, packed or not, in the form that torch runs here: as CUDA graphs on CUDA, but if `graphs` is false.

        On CUDA it is measured which blocks Triton's pair computes faster. The given one is used up.
        """
        import torch
        from torch import nn

        from ..networks.fused import fuse
        from ..networks.graphs import CudaGraphs, GraphedUNet
        from ..networks.packed import freeze
        from ..networks.precision import in_precision

        cuda = self.kind == "cuda"
        if cuda:
            torch.backends.cudnn.allow_tf32 = False  # else float32 convolutions would keep 10 bits of each number
        network.upsamplers = nn.ModuleDict()  # which `prepare_upsamplers` gives
        network = freeze(network, torch.float16 if cuda else torch.float32)  # its tensor cores add up in float32
        if self.kind != "cpu" or self.dtype != "float32":
            network = in_precision(network, getattr(torch, self.dtype))
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not cuda:
            return network
        network = fuse(network)
        return GraphedUNet(network, CudaGraphs(network.stem.weight.device)) if graphs else network

    def threads_bound(self) -> contextlib.AbstractContextManager[None]:
        """Keep torch to one thread in each of ours, where the CPU computes the windows."""
        return one_torch_thread() if self.kind == "cpu" else contextlib.nullcontext()

    def run(
        self, evaluate: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], concurrent: int
    ) -> Generator[tuple[Item, Tensor]]:
        """Evaluate items, several at once: threads on a CPU, batches elsewhere.

        Close the generator when it is left early: that ends the threads.

        Args:
            evaluate: items -> one result for each, stacked; called in torch's inference mode.
            items: what to evaluate.
            concurrent: how many at once.

        Yields:
            (item, result), in the order in which they are finished.

        Raises:
            DeviceError: memory ran out.
        """
        import torch

        def task(batch: Sequence[Item], threads: int = 1) -> list[tuple[Item, Tensor]]:
            with torch.inference_mode(), using_threads(threads), memory.out_of_memory_explained():
                return list(zip(batch, evaluate(batch), strict=True))

        if self.kind != "cpu":
            yield from self._in_batches(task, items, concurrent)
            return
        each = shares_in_rounds(self.threads, len(items), concurrent)
        tasks = [partial(task, (item,), share) for item, share in zip(items, each, strict=True)]
        with self.threads_bound():
            if concurrent == 1:
                for one in tasks:
                    yield from one()
            else:
                yield from in_threads(tasks, concurrent)

    def _in_batches(
        self, task: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], at_once: int
    ) -> Iterator[Result]:
        """What a task, which raises DeviceError where memory runs out, makes of all items, in their order.

        A batch that is too large is halved, and so are all later ones; it is an error for a single item.
        """
        done = 0
        while done < len(items):
            batch = items[done : done + self.fitting.get(at_once, at_once)]
            results: list[Result] = []
            try:
                results = task(batch)
            except DeviceError:
                if len(batch) == 1:
                    raise
            if not results:  # only here, where the error is gone: its frames held on to feature maps
                self.fitting[at_once] = len(batch) // 2
                memory.empty_device_cache(self.device)
            done += len(results)
            yield from results

    def window_memory(self, config: UNetConfig, height: int, width: int) -> int:
        """About how many bytes one forward pass of a window takes.

        In feature maps of full resolution; what the allocator holds on to is in it (measured at 512x512 with 64
        channels and unshuffling by 2: 125 MB on the native engine and 355 MB in plain torch; of SR3's network 195 and
        405 MB).
        """
        maps = {"bi_diffsr": (8, 20), "sr3": (12, 25)}[config.type][self.isa is None]
        return maps * 4 * config.inner_channel * height * width // config.pixel_unshuffle**2

    def canvas_device(self, pixels: int) -> str:
        """Where a canvas of so many pixels lies: on a CUDA device that has four times the memory for it, else the CPU.

        What is free at the moment does not count, so that it changes no pixel.
        """
        if self.kind != "cuda":
            return "cpu"
        import torch

        memory_there = torch.cuda.get_device_properties(self.device).total_memory
        return self.device if 4 * CANVAS_BYTES * pixels <= memory_there else "cpu"

    def share_memory(self, fixed: int, window: int, windows: int, limit: int | None) -> tuple[int, int]:
        """How many windows to compute at once.

        Args:
            fixed: bytes needed on the host beside what is resident already, whatever the number of windows.
            window: bytes that one window takes.
            windows: how many there are.
            limit: bytes that the process may have resident; None for what is free.

        Returns:
            (windows at once, about how many bytes the process will have resident on the host).

        Raises:
            DeviceError: not even one window fits.
        """
        needed = fixed + (memory.TORCH_KERNELS if "torch" in sys.modules else 0)
        if self.kind != "cpu":
            memory.require_memory(needed, limit)
            free = memory.device_free_memory(self.device)
            return max(1, min(windows, LARGEST_BATCH, free // (2 * window))), memory.resident_memory() + needed
        most = memory.require_memory(needed + window, limit)
        concurrent = min(windows, self.threads)
        if most < math.inf:
            concurrent = min(concurrent, int(most - needed) // window)
        return concurrent, memory.resident_memory() + needed + concurrent * window
