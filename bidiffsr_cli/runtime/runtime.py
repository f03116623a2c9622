"""Where a network runs: a `Runtime` prepares it, shares out memory, and evaluates windows, several at once."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar

from ..checkpoints.files import Checkpoint
from ..configs import UNetConfig
from ..networks.native import native_network
from ..networks.program import Engine
from ..ops.threads import using_threads
from . import memory
from .threads import in_threads, one_torch_thread, shares

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks.unet import UNet
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Backend = Literal["auto", "native", "reference"]
PRECISIONS: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What users say -> what torch calls it."""
LARGEST_BATCH = 64
Item = TypeVar("Item")


@dataclass(frozen=True)
class Runtime:
    """A choice of where to run.

    Attributes:
        device: Where the network's arithmetic happens: cpu, cuda, cuda:1, mps, xpu.
        dtype: Of the full-precision layers, by torch's name; signs stay signs.
        backend: What computes the network: "native" is the 1-bit engine, "reference" is plain torch.
        isa: The instruction set of the native backend, None elsewhere.
        threads: How many may compute on a CPU.
    """

    device: str
    dtype: str
    backend: Backend
    isa: str | None
    threads: int

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
            return native_network(checkpoint.config, checkpoint.packed_arrays(), Engine(self.isa, self.dtype))

    def in_torch(self, network: UNet) -> Callable[..., Tensor]:
        """A network, packed or not, in the form that torch runs here; the given one is used up."""
        import torch

        from ..networks.graphs import GraphedUNet
        from ..networks.packed import freeze

        if self.kind == "cuda" and self.dtype == "float32":
            torch.backends.cudnn.allow_tf32 = False  # else fp32 convolutions would keep 10 bits of each scale
        half = self.kind == "cuda" and self.dtype != "float32"  # tensor cores add up in float32
        network = freeze(network, torch.float16 if half else torch.float32)
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return GraphedUNet(network) if self.kind == "cuda" else network

    def threads_bound(self) -> contextlib.AbstractContextManager[None]:
        """Keep torch to one thread in each of ours, where the CPU computes the windows."""
        return one_torch_thread() if self.kind == "cpu" else contextlib.nullcontext()

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Gradients off and precision set, for the calling thread; the native engine knows its own."""
        import torch

        reduced = self.dtype != "float32" and self.isa is None
        with torch.inference_mode(), torch.autocast(self.kind, getattr(torch, self.dtype), enabled=reduced):
            yield

    def run(
        self, evaluate: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], concurrent: int
    ) -> Generator[tuple[Item, Tensor]]:
        """Evaluate items, several at once: threads on a CPU, batches elsewhere.

        Close the generator when it is left early: that ends the threads.

        Args:
            evaluate: items -> one result for each, stacked; called within `inference()`.
            items: what to evaluate.
            concurrent: how many at once.

        Yields:
            (item, result), in the order in which they are finished.

        Raises:
            DeviceError: memory ran out.
        """

        def task(batch: Sequence[Item], threads: int = 1) -> list[tuple[Item, Tensor]]:
            with self.inference(), using_threads(threads), memory.out_of_memory_explained():
                return list(zip(batch, evaluate(batch), strict=True))

        if self.kind != "cpu":
            for batch in _batched(items, concurrent):
                yield from task(batch)
            return
        last_round = len(items) % concurrent or concurrent  # fewer windows, for each of which there are more threads
        full_rounds = (len(items) - last_round) // concurrent
        each = shares(self.threads, concurrent) * full_rounds + shares(self.threads, last_round)
        tasks = [partial(task, (item,), share) for item, share in zip(items, each, strict=True)]
        with self.threads_bound():
            if concurrent == 1:
                for one in tasks:
                    yield from one()
            else:
                yield from in_threads(tasks, concurrent)

    def window_memory(self, config: UNetConfig, height: int, width: int) -> int:
        """About how many bytes one forward pass of a window takes.

        In feature maps of full resolution; what the allocator holds on to is in it (measured at 512x512 with 64
        channels and unshuffling by 2: 125 MB on the native engine and 355 MB in plain torch; of SR3's network 540 and
        405 MB).
        """
        maps = {"bi_diffsr": (8, 20), "sr3": (33, 25)}[config.type][self.isa is None]
        return maps * 4 * config.inner_channel * height * width // config.pixel_unshuffle**2

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
        needed = fixed + (memory.KERNELS if "torch" in sys.modules else 0)
        if self.kind != "cpu":
            memory.require_memory(needed, limit)
            free = memory.device_free_memory(self.device)
            return max(1, min(windows, LARGEST_BATCH, free // (2 * window))), memory.resident_memory() + needed
        most = memory.require_memory(needed + window, limit)
        concurrent = min(windows, self.threads)
        if most < math.inf:
            concurrent = min(concurrent, int(most - needed) // window)
        return concurrent, memory.resident_memory() + needed + concurrent * window


def _batched(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch
