"""Which devices are there, and which is meant. torch is imported only where it could know of more than the CPU."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from typing import TYPE_CHECKING

from ..errors import DeviceError, UsageError
from ..ops import native
from .facts import cpu_name, torch_version

if TYPE_CHECKING:
    import torch


def find_devices() -> dict[str, str]:
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


def choose_device(name: str) -> str:
    """The device that a word means, with its number if the word has one; auto is the fastest kind that is there.

    Raises:
        UsageError: it is no device's name.
        DeviceError: there is no such device here.
    """
    if name == "cpu":
        return name
    there = find_devices()
    kinds = {device.partition(":")[0] for device in there}
    if name == "auto":
        return next(kind for kind in ("cuda", "xpu", "mps", "cpu") if kind in kinds)
    if name not in there and name not in kinds:
        if not re.fullmatch(r"(cpu|mps|(cuda|xpu)(:\d+)?)", name):
            raise UsageError(f"{name!r} is not a device.", "Choose auto, cpu, cuda, cuda:N, mps or xpu.")
        raise DeviceError(f"There is no device {name} here.", f"Here are: {', '.join(there)}.")
    return name


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
