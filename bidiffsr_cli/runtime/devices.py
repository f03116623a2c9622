"""Which devices are there, which is meant, and how tensors go there.

torch is imported only where it could know of more than the CPU.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import DeviceError, UsageError
from ..ops import native
from .facts import cpu_name, torch_version

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Devices:
    """The devices that are there, by name, such as cpu, cuda:0, mps; the fastest kind of them comes first.

    Attributes:
        usable: what each is.
        unusable: why torch cannot compute on it.
    """

    usable: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def find_devices() -> Devices:
    """Look for devices. torch is asked where it could know of another than the CPU."""
    found = Devices()
    if _may_have_accelerator():
        import torch

        for kind in ("cuda", "xpu", "mps"):
            for index in range(torch.get_device_module(kind).device_count()):  # by NVML, where a driver may be too old
                name = kind if kind == "mps" else f"{kind}:{index}"
                try:
                    found.usable[name] = _described(name)
                except Exception as error:  # a broken driver has many ways to say so
                    found.unusable[name] = re.split(r"\.\s|\n|\.$", str(error), maxsplit=1)[0]
    found.usable["cpu"] = cpu_name()
    return found


def choose_device(name: str) -> str:
    """The device that a word means, with its number if the word has one; auto is the fastest kind that is there.

    Where auto is the CPU because other devices cannot be used, a warning says so, once.

    Raises:
        UsageError: it is no device's name.
        DeviceError: there is no such device here, or it cannot be used.
    """
    if name == "cpu":
        return name
    here = find_devices()
    if name == "auto":
        chosen = next(iter(here.usable))
        if chosen == "cpu" and here.unusable:
            _warn("The CPU computes, for {} cannot be used: {}.".format(*next(iter(here.unusable.items()))))
        return chosen.removesuffix(":0")
    for device in (name, f"{name}:0"):
        if device in here.usable:
            return name
        if device in here.unusable:
            hint = f"Install a newer driver, or a torch that suits it. Of use here: {', '.join(here.usable)}."
            raise DeviceError(f"{device} cannot be used: {here.unusable[device]}.", hint)
    if not re.fullmatch(r"(cpu|mps|(cuda|xpu)(:\d+)?)", name):
        raise UsageError(f"{name!r} is not a device.", "Choose auto, cpu, cuda, cuda:N, mps or xpu.")
    raise DeviceError(f"There is no device {name} here.", f"Here are: {', '.join(here.usable)}.")


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether code for some architectures runs on an NVIDIA card; see "GPU Compatibility" in NVIDIA's guide of nvcc.

    Args:
        capability: of the card, such as (8, 6).
        architectures: as `torch.cuda.get_arch_list` names them. sm_80 is binary code, for 8.0 and later ones of its
            major version; compute_80 is PTX, for all later ones; sm_90a is for 9.0 alone, sm_100f for its family.
    """
    card = 10 * capability[0] + capability[1]
    for form, number, suffix in re.findall(r"\b(sm|compute)_(\d+)([af]?)\b", " ".join(architectures)):
        code, is_ptx = int(number), form == "compute" and not suffix
        if code == card or (code < card and suffix != "a" and (is_ptx or code // 10 == card // 10)):
            return True
    return False


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


def sent(x: Tensor, device: torch.device) -> Tensor:
    """x on a device; from the CPU it goes to CUDA out of pinned memory, so that nobody waits for it."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def _described(name: str) -> str:
    """What a device is.

    Raises:
        RuntimeError: it cannot be used; torch raises others too.
    """
    import torch

    if name == "mps":
        return "Apple GPU"
    what = torch.get_device_module(name).get_device_name(name)
    built_for = torch.cuda.get_arch_list() if torch.version.cuda and name.startswith("cuda") else []
    capability = torch.cuda.get_device_capability(name) if built_for else (0, 0)
    if built_for and not has_code_for(capability, built_for):
        version = ".".join(map(str, capability))
        raise RuntimeError(f"{what} is of version {version}, and this torch was built for {', '.join(built_for)}")
    return what


@functools.cache
def _warn(text: str) -> None:
    """Once in a process, however often a device is chosen."""
    logging.getLogger("bidiffsr").warning(text)


def _may_have_accelerator() -> bool:
    """Whether torch was built for a device whose driver is here, as far as can be told without its import."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    stated = torch_version()
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
