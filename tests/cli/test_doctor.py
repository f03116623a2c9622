"""`bidiffsr doctor` looks at everything, gets to the end, and exits with the code of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bidiffsr_cli import runtime
from bidiffsr_cli.checkpoints import catalog as catalogs
from bidiffsr_cli.cli import doctor
from bidiffsr_cli.networks import fused
from bidiffsr_cli.runtime import Machine, Runtime
from bidiffsr_cli.tasks import selftest

from .support import Pretended, Run, is_one_sentence


def test_all_is_well(run: Run) -> None:
    finished = run("doctor")
    assert finished.code == 0, finished.err
    assert finished.err == "" and finished.answer.endswith("All is well.\n")
    for said in ("torch", "cpu", "backend reference", "free memory", "as in the catalog", "threads give the same"):
        assert said in finished.answer


def test_json(run: Run) -> None:
    finished = run("doctor", "--json")
    assert finished.code == 0 and finished.err == ""
    result = finished.json
    assert (result["schema"], result["status"]) == ("bidiffsr-doctor/1", "ok")
    assert set(result) == {"schema", "status", "versions", "machine", "models", "self_test"}
    assert all(check["ok"] for section in list(result.values())[2:] for check in section.values())


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder of bundled weights, to be damaged."""
    for file in catalogs.weights_folder().iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(catalogs, "weights_folder", lambda: tmp_path)
    catalogs.catalog.cache_clear()
    yield tmp_path
    catalogs.catalog.cache_clear()


@pytest.mark.parametrize("damage", ["other bytes", "no file", "no catalog"])
def test_a_damaged_model(run: Run, weights: Path, damage: str) -> None:
    file = catalogs.catalog()[0].bundled
    if damage == "other bytes":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    elif damage == "no file":
        file.unlink()
    else:
        catalogs.catalog.cache_clear()
        (weights / "catalog.json").unlink()
    finished = run("doctor")
    assert finished.code == 5 and "! " in finished.answer and "Something is wrong" in finished.answer
    assert "Traceback" not in finished.answer + finished.err


def test_forms_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_psnr", lambda a, b: 31.4)
    form, threads = doctor.self_test()
    assert form.exit_code == 1 and "31.4 dB" in form.found
    assert threads.ok


class Failing(Pretended):
    """It has no code for what is to be computed."""

    def in_torch(self, network: Any, *, graphs: bool = True) -> Any:
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nCompile")


class Wrong(Pretended):
    """It computes something else."""

    def in_torch(self, network: Any, *, graphs: bool = True) -> Any:
        return lambda x_t, *_: torch.zeros_like(x_t)


@pytest.mark.parametrize(
    ("kind", "exit_code", "found"),
    [(Pretended, 0, " dB to the CPU"), (Wrong, 1, " dB to those from the CPU"), (Failing, 6, "no kernel image")],
)
def test_the_default_device_is_tried(
    monkeypatch: pytest.MonkeyPatch, kind: type[Runtime], exit_code: int, found: str
) -> None:
    choose = runtime.choose_runtime

    def chosen(machine: Machine, **facts: Any) -> Runtime:
        return choose(machine, **facts) if machine.device == "cpu" else kind("cpu", "float32", "reference", None, 1)

    monkeypatch.setattr(runtime, "choose_runtime", chosen)
    monkeypatch.setattr(runtime.memory, "device_free_memory", lambda device: 10**9)
    *on_the_cpu, device = doctor.self_test()
    assert all(check.ok for check in on_the_cpu)
    assert device.exit_code == exit_code and found in device.found and "\n" not in device.found


def test_a_device_tells_what_tritons_pair_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    test = selftest.SelfTest()
    found = {fused.Size(torch.device("cuda:0"), channels, 8, 64): fused.Choice(True, "") for channels in (64, 32)}
    monkeypatch.setattr(fused, "choices", found)
    assert test.device(test.runtime).endswith(" dB to the CPU, Triton's pair in blocks of 32, 64 channels")


def test_a_device_that_cannot_be_used(run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path) -> None:
    """The CPU computes, and a sentence says so, once; who asks for the device is refused."""

    def name(device: str) -> str:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12040). Please update it.")

    monkeypatch.setattr(runtime.devices, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    why = "cuda:0 cannot be used: The NVIDIA driver on your system is too old (found version 12040)."
    for command in (("doctor",), ("upscale", "photo.png", "-m", model)):
        runtime.devices._warn.cache_clear()
        finished = run(*command)
        assert finished.code == 0 and finished.err.splitlines()[0] == f"Warning: The CPU computes, for {why}"
        assert finished.err.count("Warning") == 1
    finished = run("upscale", "photo.png", "again.png", "-m", model, "--device", "cuda")
    assert finished.code == 6 and is_one_sentence(finished.err) and why in finished.err
    runtime.devices._warn.cache_clear()
    assert run("upscale", "photo.png", "quiet.png", "-m", model, "--quiet").err == ""


def test_the_test_picture_is_the_same_everywhere() -> None:
    assert selftest.built_in_picture().getpixel((47, 31)) == (249, 247, 40)
