"""Memory of the host and of devices: what is taken, what is free, what may be taken, and what is given back."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import DeviceError, is_out_of_memory, out_of_memory
from . import cgroups

TORCH_KERNELS = 80_000_000
"""Bytes that torch's libraries, where it is in use, take when the first window is computed (measured: 60 to 100 MB)."""
BYTES_TO_DECODE = 24
"""For each pixel; measured: 7 in colour, 14 of 16-bit grey, 43 where colours outside sRGB are kept."""


def resident_memory() -> int:
    """Memory this process has resident now, bytes; an upper bound where only the peak is known."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_memory() or 0


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


def require_memory(needed: int, limit: int | None) -> float:
    """The bytes that the process may take on the host beside what it has resident already.

    Args:
        needed: how many it will take, at least.
        limit: how many it may have resident in all; None for what is free.

    Raises:
        DeviceError: `needed` is more than that.
    """
    free, resident = available_memory(), resident_memory()
    most = min(math.inf if limit is None else limit, math.inf if free is None else resident + free)
    if resident + needed > most:
        raise DeviceError(
            f"This needs about {(resident + needed) / 1e6:,.0f} MB of memory; {most / 1e6:,.0f} MB may be used.",
            "Raise --max-memory, give a smaller --tile, or a smaller picture.",
        )
    return most - resident


def device_free_memory(device: str) -> int:
    """Memory that torch can still take on a device, bytes; a careful 1 GB where the device does not tell.

    What torch holds in its cache for later is free too. Of an Apple GPU, what Metal recommends at most counts.
    """
    import torch

    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    kind = torch.get_device_module(device)
    try:
        free, _ = kind.mem_get_info(device)
    except RuntimeError:  # some GPUs of Intel
        return 10**9
    return free + kind.memory_reserved(device) - kind.memory_allocated(device)


def device_peak_memory(device: str) -> int | None:
    """The most memory torch ever had allocated on the device; None on a CPU and where it is not counted."""
    if device.partition(":")[0] not in ("cuda", "xpu"):
        return None
    import torch

    return torch.get_device_module(device).max_memory_allocated(device)


def empty_device_cache(device: str) -> None:
    """Give what torch keeps of the device's memory for later back to the driver, which others take theirs from."""
    import torch

    torch.get_device_module(device).empty_cache()


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
