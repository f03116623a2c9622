"""From what the user asks of a machine to the `Runtime` that does it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DeviceError, UsageError
from ..fields import take_plain
from ..ops import native
from .devices import choose_device
from .runtime import PRECISIONS, Backend, Precision, Runtime
from .threads import default_threads

LEAST_PSNR = 50.0
"""How near to float32's a picture in reduced precision must be for --precision auto, dB."""


@dataclass(frozen=True)
class Machine:
    """What the user asks for.

    Attributes:
        device: auto, cpu, cuda, cuda:N, mps or xpu. auto takes the first of cuda, xpu, mps and cpu that is there.
        precision: auto, fp32, bf16 or fp16. auto is bf16 where the native engine runs on a CPU that multiplies it, and
            fp16 on NVIDIA's tensor cores, both where the model is known to bear it; else fp32.
        backend: auto, native or reference. auto is native on a CPU, if it is there.
        threads: How many of the CPU; None takes OMP_NUM_THREADS, or all cores that the process may use.
    """

    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        take_plain(self)


def choose_runtime(
    machine: Machine, *, bf16_psnr: float | None = None, fp16_psnr: float | None = None, why_not_packed: str = ""
) -> Runtime:
    """Turn what is asked for into a `Runtime`; nothing falls back silently.

    Args:
        machine: what is asked for.
        bf16_psnr, fp16_psnr: how near the model's pictures in these are to those in fp32, dB, as far as that is known.
        why_not_packed: what of the model the native engine cannot compute (`UNetConfig.why_not_packed`).

    Raises:
        UsageError: a word is unknown, or words do not go together.
        DeviceError: the device or the backend is not there.
    """
    if machine.backend not in ("auto", "native", "reference"):
        raise UsageError(f"{machine.backend!r} is not a backend.", "Choose auto, native or reference.")
    if machine.precision not in ("auto", *PRECISIONS):
        raise UsageError(f"{machine.precision!r} is not a precision.", f"Choose auto, {', '.join(PRECISIONS)}.")
    if machine.threads is not None and machine.threads < 1:
        raise UsageError(f"{machine.threads} threads are not possible.", "Choose 1 or more.")
    chosen = choose_device(machine.device)
    if why_not_packed and machine.backend == "native":
        raise UsageError(f"The native engine cannot run this model: {why_not_packed}.", "Leave --backend out.")
    isa = _choose_isa("reference" if why_not_packed else machine.backend, chosen, machine.precision)
    if machine.precision != "auto":
        dtype = PRECISIONS[machine.precision]
    elif isa and native.multiplies_bfloat16(isa) and (bf16_psnr or 0.0) >= LEAST_PSNR:
        dtype = "bfloat16"
    elif chosen.startswith("cuda") and (fp16_psnr or 0.0) >= LEAST_PSNR and _has_tensor_cores(chosen):
        dtype = "float16"
    else:
        dtype = "float32"
    return Runtime(chosen, dtype, "native" if isa else "reference", isa, machine.threads or default_threads())


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


def _has_tensor_cores(device: str) -> bool:
    import torch

    return torch.cuda.get_device_capability(device) >= (7, 0)
