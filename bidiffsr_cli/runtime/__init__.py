"""Where and how a network runs: device, precision, backend, threads, memory. Chooses, explains, and prepares.

`Machine` is what the user asks for; `choose_runtime` turns it into a `Runtime`, which prepares a network and runs it.

On a CPU torch computes every operation with one thread. Threads share the windows; where there are more threads than
windows, the native engine lets several work on one, in bands of rows whose number changes no value. So the number of
threads and the memory change the speed of a run and never a byte of its result.

The native engine needs no torch, whose import takes a second and 200 MB: here it is imported by what needs it.
"""

from .devices import Devices, find_devices, multiplies_bfloat16, sent
from .facts import cpu_name, environment
from .machine import LEAST_PSNR, Machine, choose_runtime
from .memory import (
    BYTES_TO_DECODE,
    TORCH_KERNELS,
    available_memory,
    device_free_memory,
    device_peak_memory,
    keep_freed_memory,
    out_of_memory_explained,
    peak_memory,
    require_memory,
    resident_memory,
    return_freed_memory,
)
from .runtime import PRECISIONS, Backend, Precision, Runtime
from .threads import (
    bind_torch,
    default_threads,
    one_torch_thread,
    shares,
    shares_in_rounds,
    torch_threads,
    usable_cores,
)

__all__ = [
    "BYTES_TO_DECODE",
    "LEAST_PSNR",
    "PRECISIONS",
    "TORCH_KERNELS",
    "Backend",
    "Devices",
    "Machine",
    "Precision",
    "Runtime",
    "available_memory",
    "bind_torch",
    "choose_runtime",
    "cpu_name",
    "default_threads",
    "device_free_memory",
    "device_peak_memory",
    "environment",
    "find_devices",
    "keep_freed_memory",
    "multiplies_bfloat16",
    "one_torch_thread",
    "out_of_memory_explained",
    "peak_memory",
    "require_memory",
    "resident_memory",
    "return_freed_memory",
    "sent",
    "shares",
    "shares_in_rounds",
    "torch_threads",
    "usable_cores",
]
