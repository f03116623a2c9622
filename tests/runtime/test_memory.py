"""A device's memory: what is free, how running out of it is told, and that fewer windows at once are tried then."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bidiffsr_cli import runtime
from bidiffsr_cli.errors import DeviceError, explained, is_out_of_memory
from bidiffsr_cli.runtime import Runtime

MESSAGES = [
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 7.92 GiB.",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call.",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "HIP out of memory. Tried to allocate 2.00 GiB.",
    "miopenStatusAllocFailed",
    "XPU out of memory. Tried to allocate 2.00 GiB.",
    "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "MPS backend out of memory (MPS allocated: 7.64 GiB, other allocations: 68.91 GiB, max allowed: 88.13 GiB).",
    "Invalid buffer size: 13.60 GiB",
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    "std::bad_alloc",
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[:24])
def test_every_way_of_running_out_of_memory_is_known(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message)) and not is_out_of_memory(ValueError(message))
    assert explained(RuntimeError(message)).message == "Memory ran out."


def test_the_kinds_of_running_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("Allocation on device")) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.AcceleratorError(MESSAGES[1]))
    for kind in (ImportError, OSError):
        assert is_out_of_memory(kind("libtorch_cpu.so: failed to map segment from shared object"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_device_that_fails_is_told_in_a_sentence() -> None:
    error = torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors")
    told = explained(error)
    assert isinstance(told, DeviceError) and told.hint
    assert told.message == "The device fails (CUDA error: all CUDA-capable devices are busy or unavailable)."


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that answer: 1000 bytes are free, torch holds 300 of which 200 are in use, 250 were at the most."""
    for kind in (torch.cuda, torch.xpu):
        monkeypatch.setattr(kind, "mem_get_info", lambda device: (1000, 8000))
        monkeypatch.setattr(kind, "memory_reserved", lambda device: 300)
        monkeypatch.setattr(kind, "memory_allocated", lambda device: 200)
        monkeypatch.setattr(kind, "max_memory_allocated", lambda device: 250)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 200)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("device", "free", "peak"),
    [("cuda", 1100, 250), ("cuda:0", 1100, 250), ("xpu", 1100, 250), ("xpu:0", 1100, 250), ("mps", 4800, None)],
)
def test_what_torch_keeps_for_later_is_free(device: str, free: int, peak: int | None) -> None:
    assert runtime.device_free_memory(device) == free
    assert runtime.device_peak_memory(device) == peak and runtime.device_peak_memory("cpu") is None


@pytest.mark.usefixtures("memory")
def test_a_gpu_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: str) -> tuple[int, int]:
        raise RuntimeError("The device (Intel(R) Graphics) doesn't support querying the available free memory.")

    monkeypatch.setattr(torch.xpu, "mem_get_info", refuse)
    assert runtime.device_free_memory("xpu") == 10**9


class Network:
    """Stands for one on a device with memory for so many windows, and remembers what it was given."""

    def __init__(self, most: int) -> None:
        self.most, self.batches = most, list[int]()
        self.maps: weakref.ref[Tensor] | None = None

    def __call__(self, windows: Sequence[int]) -> Tensor:
        assert self.maps is None or self.maps() is None, "the maps of the batch that failed are still there"
        self.batches.append(len(windows))
        maps = torch.tensor(windows)
        if len(windows) > self.most:
            self.maps = weakref.ref(maps)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return maps * 10


@pytest.mark.parametrize("device", ["cuda", "xpu:1", "mps"])
def test_a_batch_that_is_too_large_is_halved_for_good(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    module = torch.get_device_module(device)
    monkeypatch.setattr(module, "empty_cache", lambda: emptied.append(device))
    place, network = Runtime(device, "float32", "reference", None, 1), Network(most=3)
    expected = [(window, 10 * window) for window in range(10)]
    assert [(w, int(value)) for w, value in place.run(network, range(10), 8)] == expected
    assert network.batches == [8, 4, 2, 2, 2, 2, 2] and len(emptied) == 2
    network.batches.clear()
    assert [(w, int(value)) for w, value in place.run(network, range(10), 8)] == expected
    assert network.batches == [2] * 5  # it is not tried again
    network.batches.clear()
    assert len(list(place.run(network, range(3), 3))) == 3 and network.batches == [3]


def test_a_window_that_is_too_large_alone() -> None:
    place, network = Runtime("cuda", "float32", "reference", None, 1), Network(most=0)
    with pytest.raises(DeviceError, match="Memory ran out"):
        list(place.run(network, range(5), 5))
    assert network.batches == [5, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def fail(windows: Sequence[int]) -> Tensor:
        calls.append(windows)
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(Runtime("cuda", "float32", "reference", None, 1).run(fail, range(4), 4))
    assert len(calls) == 1
