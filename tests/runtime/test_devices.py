"""Devices that are there and cannot be used: what is chosen and said. torch is made to answer as it does there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bidiffsr_cli.errors import DeviceError
from bidiffsr_cli.runtime import Machine, choose_runtime, devices, find_devices

CARDS = {"NVIDIA H100": (9, 0), "NVIDIA GeForce GTX 1060": (6, 1)}
BUILT_FOR = ["sm_75", "sm_80", "sm_90", "compute_90"]
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: "
    "https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver."
)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the machine devices: CUDA cards or XPUs by name; an exception is what asking for the name raises."""

    def has(*named: str | Exception, kind: str = "cuda") -> None:
        def name(device: str) -> str:
            found = named[int(device.partition(":")[2])]
            if isinstance(found, Exception):
                raise found
            return found

        answers: dict[str, Any] = {"device_count": lambda: len(named), "get_device_name": name}
        if kind == "cuda":
            answers["get_device_capability"] = lambda device: CARDS[name(device)]
            answers["get_arch_list"] = lambda: BUILT_FOR
        for function, answer in answers.items():
            monkeypatch.setattr(torch.get_device_module(kind), function, answer)

    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    devices._warn.cache_clear()
    return has


BROKEN = [
    (RuntimeError(OLD_DRIVER), "cuda", "too old (found version 12040)"),
    (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment."), "cuda", "incorrectly"),
    (
        torch.cuda.DeferredCudaCallError("CUDA call failed lazily\n\nCUDA call was originally\n"),
        "cuda",
        "failed lazily",
    ),
    ("NVIDIA GeForce GTX 1060", "cuda", "GTX 1060 is of version 6.1, and this torch was built for sm_75, sm_80, sm_90"),
    (RuntimeError("Native API failed. Native API returns: 2147483646"), "xpu", "Native API failed"),
]


@pytest.mark.parametrize(("named", "kind", "why"), BROKEN, ids=lambda value: str(value)[:20])
def test_a_device_that_cannot_be_used(
    has: Callable[..., None], caplog: pytest.LogCaptureFixture, named: str | Exception, kind: str, why: str
) -> None:
    has(named, kind=kind)
    found = find_devices()
    assert list(found.usable) == ["cpu"] and why in found.unusable[f"{kind}:0"]
    with caplog.at_level(logging.WARNING, "bidiffsr"):
        assert [choose_runtime(Machine()).device for _ in range(2)] == ["cpu", "cpu"]
    (said,) = caplog.messages
    assert said.startswith(f"The CPU computes, for {kind}:0 cannot be used: ") and why in said
    assert said.count("\n") == 0 and said.endswith(".") and not said.endswith("..")
    for word in (kind, f"{kind}:0"):
        with pytest.raises(DeviceError) as caught:
            choose_runtime(Machine(word))
        assert why in caught.value.message and caught.value.message.startswith(f"{kind}:0 cannot be used: ")
        assert caught.value.exit_code == 6 and caught.value.hint.endswith("Of use here: cpu.")
    with pytest.raises(DeviceError, match=f"no device {kind}:1"):
        choose_runtime(Machine(f"{kind}:1"))


def test_of_several_the_first_that_can_be_used_is_taken(
    has: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    has("NVIDIA GeForce GTX 1060", "NVIDIA H100")
    assert choose_runtime(Machine()).device == "cuda:1" and not caplog.messages
    assert choose_runtime(Machine("cuda:1")).device == "cuda:1"
    with pytest.raises(DeviceError, match=r"cuda:0 cannot be used"):
        choose_runtime(Machine("cuda"))


def test_devices_that_can_be_used(has: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime(Machine()).device == "cpu"
    monkeypatch.setattr(torch.mps, "device_count", lambda: 1)
    assert find_devices().usable["mps"] == "Apple GPU"
    assert choose_runtime(Machine()).device == choose_runtime(Machine("mps")).device == "mps"
    has("Intel Arc B580", kind="xpu")
    assert choose_runtime(Machine()).device == choose_runtime(Machine("xpu")).device == "xpu"
    has("NVIDIA H100")
    assert choose_runtime(Machine()).device == choose_runtime(Machine("cuda")).device == "cuda"
    assert list(find_devices().usable) == ["cuda:0", "xpu:0", "mps", "cpu"]


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 6), ["sm_80"], True),  # binary code: the same major version, from its minor one on
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((7, 5), ["sm_80", "compute_80"], False),  # PTX: all later ones
        ((12, 0), ["sm_80", "compute_80"], True),
        ((10, 3), ["compute_90"], True),
        ((9, 0), ["sm_90a"], True),  # one alone
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),  # a family
        ((12, 0), ["sm_100f", "compute_100f"], False),
        ((5, 0), ["sm_75", "sm_120", "compute_120"], False),
    ],
)
def test_code_for_a_card(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert devices.has_code_for(capability, architectures) is runs
