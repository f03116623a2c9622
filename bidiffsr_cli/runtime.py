"""Where and how the network runs: device, precision, backend, threads, memory. Chooses, explains, and prepares.

On a CPU torch computes every operation with one thread. Threads share the windows; where there are more threads than
windows, the native engine lets several work on one, in bands of rows whose number changes no value. So the number of
threads and the memory change the speed of a run and never a byte of its result.

The native engine needs no torch, whose import takes a second and 200 MB: here it is imported by what needs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import math
import os
import platform
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import __version__, cgroups
from .checkpoints.files import Checkpoint
from .configs import UNetConfig
from .errors import DeviceError, UsageError, is_out_of_memory, out_of_memory
from .networks.native import Engine, native_network
from .ops import native
from .ops.threads import using_threads

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .networks.unet import UNet

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What users say -> what torch calls it."""
LARGEST_BATCH = 64
LEAST_PSNR = 50.0
"""How near to float32's a picture in reduced precision must be for --precision auto, dB."""
KERNELS = 80_000_000
"""Bytes that torch's libraries, where it is in use, take when the first window is computed (measured: 60 to 100 MB)."""
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
    backend: str
    isa: str | None
    threads: int

    @property
    def kind(self) -> str:
        """Of the device, without its number."""
        return self.device.partition(":")[0]

    @property
    def precision(self) -> str:
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

        from .networks.graphs import GraphedUNet
        from .networks.packed import freeze

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
            with self.inference(), using_threads(threads), out_of_memory_explained():
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
                yield from _in_threads(tasks, concurrent)

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
        needed = resident_memory() + (KERNELS if "torch" in sys.modules else 0) + fixed
        if self.kind != "cpu":
            require_memory(needed, limit)
            return max(1, min(windows, LARGEST_BATCH, device_free_memory(self.device) // (2 * window))), needed
        most = require_memory(needed + window, limit)
        concurrent = min(windows, self.threads)
        if most < math.inf:
            concurrent = min(concurrent, int(most - needed) // window)
        return concurrent, needed + concurrent * window


def choose_runtime(
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    bf16_psnr: float | None = None,
    why_not_packed: str = "",
) -> Runtime:
    """Turn the user's words into a `Runtime`; nothing falls back silently.

    Args:
        device: auto, cpu, cuda, cuda:N, mps or xpu. auto takes the first of cuda, xpu, mps and cpu that is there.
        precision: auto, fp32, bf16 or fp16. auto is bf16 where the native engine runs on a CPU that multiplies it, and
            the model is known to bear it; else fp32.
        backend: auto, native or reference. auto is native on a CPU, if it is there.
        threads: of the CPU; None takes all that the process may use.
        bf16_psnr: how near the model's pictures in bf16 are to those in fp32, dB, as far as that is known.
        why_not_packed: what of the model the native engine cannot compute (`UNetConfig.why_not_packed`).

    Raises:
        UsageError: a word is unknown, or words do not go together.
        DeviceError: the device or the backend is not there.
    """
    if backend not in ("auto", "native", "reference"):
        raise UsageError(f"{backend!r} is no backend.", "Choose auto, native or reference.")
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"{precision!r} is no precision.", f"Choose auto, {', '.join(PRECISIONS)}.")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads are not possible.", "Choose 1 or more.")
    chosen = _choose_device(device)
    if why_not_packed and backend == "native":
        raise UsageError(f"The native engine cannot run this model: {why_not_packed}.", "Leave --backend out.")
    isa = _choose_isa("reference" if why_not_packed else backend, chosen, precision)
    if precision != "auto":
        dtype = PRECISIONS[precision]
    elif isa and native.multiplies_bfloat16(isa) and (bf16_psnr or 0.0) >= LEAST_PSNR:
        dtype = "bfloat16"
    else:
        dtype = "float32"
    return Runtime(chosen, dtype, "native" if isa else "reference", isa, threads or default_threads())


def _choose_isa(backend: str, device: str, precision: str) -> str | None:
    """The instruction set of the native backend, None for the reference backend."""
    if backend == "reference" or (backend == "auto" and (device != "cpu" or precision == "fp16")):
        return None
    if device != "cpu":
        raise DeviceError(f"The native engine runs on the CPU, not on {device}.", "Add --device cpu.")
    if precision == "fp16":
        raise UsageError("The native engine has no fp16.", "Choose --precision bf16 or fp32.")
    why = native.why_unavailable()
    if why is None:
        return native.choose_isa()
    if backend == "native":
        raise DeviceError(f"The native engine is not here: {why}.", "Use --backend reference, or leave it out.")
    return None


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether torch multiplies bfloat16 at once on a device; else it is several times slower than float32 there.

    On a CPU ONEDNN_MAX_CPU_ISA can keep it from that.
    """
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or native.why_unavailable() is not None:
        return False
    return native.has_bfloat16() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def usable_cores() -> int:
    """Cores that this process may run on, and has the time of: a container's quota may be less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroups.processors()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def default_threads() -> int:
    """OMP_NUM_THREADS, by which clusters say how many cores are meant for a process, else all usable cores."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(stated) if stated.isdecimal() and int(stated) > 0 else usable_cores()


def devices() -> dict[str, str]:
    """The devices that are there: name -> what it is. torch is asked where it could know of another than the CPU."""
    found = {"cpu": cpu_name()}
    if not _may_have_accelerator():
        return found
    import torch

    found |= {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    if torch.xpu.is_available():
        found |= {f"xpu:{index}": torch.xpu.get_device_name(index) for index in range(torch.xpu.device_count())}
    return found


def _may_have_accelerator() -> bool:
    """Whether torch was built for a device whose driver is here, as far as can be told without its import."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    stated = _torch_version()
    if stated.get("hip"):  # brings its libraries along, and nobody installs it by accident
        return True
    drivers = {"cuda": ("libcuda.so.1", "nvcuda.dll"), "xpu": ("libze_loader.so.1", "ze_loader.dll")}
    return any(stated.get(kind) and any(map(_is_library, names)) for kind, names in drivers.items())


def _is_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


@functools.cache
def _torch_version() -> dict[str, str]:
    """What torch's version.py states, read without importing torch: its version, and the devices that it is built for.

    Where it has another form than today, everything is stated, and torch itself will be asked.
    """
    spec = importlib.util.find_spec("torch")
    text = ""
    with contextlib.suppress(OSError, ValueError):
        text = Path(spec.origin or "").with_name("version.py").read_text() if spec is not None else ""
    found = re.findall(r"^(\w+)\s*(?::[^=]+)?=\s*(?:'([^']*)'|None)\s*$", text, re.MULTILINE)
    return dict(found) if found else {"cuda": "?", "xpu": "?"}


def environment() -> dict[str, str]:
    """What a measurement depends on: versions, platform, processor."""
    return {
        "bidiffsr": __version__,
        "torch": _torch_version().get("__version__") or "unknown",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
    }


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """The most memory this process ever had resident, bytes; None where the system does not tell."""
    with contextlib.suppress(OSError):  # on Linux getrusage would begin with the peak of the process that started this
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_peak_memory(device: str) -> int | None:
    """The most memory torch ever had allocated on the device; None on a CPU and where it is not counted."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


def resident_memory() -> int:
    """Memory this process has resident now, bytes; an upper bound where only the peak is known."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory() or 0


def device_free_memory(device: str) -> int:
    """Memory that is free on the device, bytes; a careful 1 GB where it does not tell."""
    if not device.startswith("cuda"):
        return 10**9
    import torch

    return torch.cuda.mem_get_info(device)[0]


def available_memory() -> int | None:
    """Memory that can still be taken on the host, bytes; None where the system does not tell.

    In a container or a job of a cluster, what its limit leaves.
    """
    free: list[int] = []
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        free += [int(found[1]) * 1024] if found else []
    limited = cgroups.free_memory()
    free += [] if limited is None else [limited]
    return min(free, default=None)


BYTES_TO_DECODE = 24
"""For each pixel; measured: 7 in colour, 14 of 16-bit grey, 43 where colours outside sRGB are kept."""


def require_memory(needed: int, limit: int | None) -> float:
    """The bytes that the process may have resident on the host: `limit`, and what is free.

    Raises:
        DeviceError: `needed` is more.
    """
    free = available_memory()
    most = min(math.inf if limit is None else limit, math.inf if free is None else resident_memory() + free)
    if needed > most:
        raise DeviceError(
            f"This needs about {needed / 1e6:,.0f} MB of memory; {most / 1e6:,.0f} MB may be used.",
            "Raise --max-memory, give a smaller --tile, or a smaller picture.",
        )
    return most


def keep_freed_memory() -> None:
    """Let glibc keep freed feature maps for the next ones; else each is fetched from the system page by page.

    Without it 5 to 10 % of a step of the native engine went there. Canvases, which are larger, do come and go. It holds
    for the whole process, so the commands call it and the library does not.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: larger pieces are mapped anew every time
        libc.mallopt(-1, 256 * 2**20)  # M_TRIM_THRESHOLD: more free memory than this at the end is returned
        libc.mallopt(-8, 1)  # M_ARENA_MAX: the threads share what is kept


def return_freed_memory() -> None:
    """Give freed memory back to the system; glibc else keeps it (after loading a model, a third of the process)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turn every form of running out of memory into a DeviceError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory() from None


def _choose_device(name: str) -> str:
    if name == "cpu":
        return name
    there = devices()
    kinds = {device.partition(":")[0] for device in there}
    if name == "auto":
        return next(kind for kind in ("cuda", "xpu", "mps", "cpu") if kind in kinds)
    if name not in there and name not in kinds:
        if not re.fullmatch(r"(cpu|mps|(cuda|xpu)(:\d+)?)", name):
            raise UsageError(f"{name!r} is no device.", "Choose auto, cpu, cuda, cuda:N, mps or xpu.")
        raise DeviceError(f"There is no device {name} here.", f"Here are: {', '.join(there)}.")
    return name


class _OneTorchThread:
    """Counts who needs torch to use one thread per operation, for the setting is one of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users, self._before = 0, 1

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        torch: Any = sys.modules.get("torch")
        if torch is None:  # nobody computes with it
            yield
            return
        with self._lock:
            if not self._users:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    torch.set_num_threads(self._before)


one_torch_thread = _OneTorchThread()
"""A context in which torch uses one thread for each operation, if it is there already; contexts may overlap."""


def bind_torch() -> None:
    """Keep torch, if it is there, to one thread for each operation of the calling thread: it is a setting of each."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute every operation with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shares(threads: int, windows: int) -> list[int]:
    """The threads of each of so many windows, or pictures, that are computed at once."""
    return [max(1, threads // windows + (index < threads % windows)) for index in range(windows)]


def _in_threads(
    tasks: Iterable[Callable[[], list[tuple[Item, Tensor]]]], workers: int
) -> Iterator[tuple[Item, Tensor]]:
    """Run tasks in threads; at most two per worker are waiting or finished at any time."""
    remaining = iter(tasks)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="window")
    try:
        pending: set[Future[list[tuple[Item, Tensor]]]] = {pool.submit(task) for task in islice(remaining, 2 * workers)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(task) for task in islice(remaining, len(done))}
            for future in done:
                yield from future.result()
    finally:  # also on Ctrl-C: start nothing more, and let the windows in flight end
        pool.shutdown(cancel_futures=True)


def _batched(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch
