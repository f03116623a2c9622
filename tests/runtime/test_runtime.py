"""What is known of a machine without importing torch, and what the runtime does with torch once it is there."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import needs_native

from bidiffsr_cli import runtime


@pytest.fixture
def stated(monkeypatch):
    """Sets what torch's version.py states, and which libraries are here."""

    def state(version: dict[str, str], libraries: set[str]) -> None:
        monkeypatch.setattr(runtime.devices, "torch_version", lambda: version)
        monkeypatch.setattr(runtime.devices, "_is_library", libraries.__contains__)
        monkeypatch.setattr(runtime.devices.sys, "platform", "linux")

    return state


@pytest.mark.parametrize(
    ("version", "libraries", "may"),
    [
        ({"__version__": "2.13.0+cpu", "cuda": ""}, {"libcuda.so.1"}, False),
        ({"cuda": "13.0"}, {"libcuda.so.1"}, True),
        ({"cuda": "13.0"}, {"nvcuda.dll"}, True),
        ({"cuda": "13.0"}, {"libze_loader.so.1"}, False),
        ({"xpu": "20250302"}, {"libze_loader.so.1"}, True),
        ({"hip": "7.0"}, set(), True),
        ({"cuda": "?", "xpu": "?"}, set(), False),
    ],
)
def test_torch_is_asked_where_it_could_know_of_a_device(stated, version, libraries, may):
    stated(version, libraries)
    assert runtime.devices._may_have_accelerator() is may


def test_the_version_is_torchs_own():
    assert runtime.environment()["torch"] == torch.__version__


@pytest.mark.parametrize("text", ["", "# another form\n__version__ = some()\n"])
def test_a_torch_that_states_nothing_is_asked(text, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(text)
    program = "from bidiffsr_cli import runtime; print(runtime.facts.torch_version(), runtime.environment()['torch'])"
    source = "import sys; sys.path.insert(0, sys.argv[1]); " + program
    command = [sys.executable, "-c", source, tmp_path]
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "{'cuda': '?', 'xpu': '?'} unknown"


@pytest.mark.slow
def test_torch_is_bound_to_one_thread_while_a_model_is_prepared(tmp_path):
    """Also by the process that imports it for that."""
    program = """
from bidiffsr_cli import runtime
from bidiffsr_cli.checkpoints.models import load_checkpoint
chosen = runtime.choose_runtime(runtime.Machine("cpu", backend="reference", threads=2))
prepared = runtime.Runtime.in_torch
def look(self, network):
    import torch
    print(torch.get_num_threads())
    return prepared(self, network)
runtime.Runtime.in_torch = look
chosen.prepare(load_checkpoint("fast"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize(("pixels", "place"), [(10**7, "cuda:1"), (3 * 10**7, "cpu")])
def test_a_canvas_lies_on_a_device_that_has_four_times_the_memory_for_it(pixels, place, monkeypatch):
    properties = SimpleNamespace(total_memory=8 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert runtime.Runtime("cuda:1", "float32", "reference", None, 1).canvas_device(pixels) == place
    for device in ("cpu", "mps"):
        assert runtime.Runtime(device, "float32", "reference", None, 1).canvas_device(pixels) == "cpu"


@needs_native
def test_a_window_is_timed_at_any_scale(fast):
    """Also at one that does not divide the window."""
    from dataclasses import replace

    from bidiffsr_cli import SuperResolver, UpscaleOptions
    from bidiffsr_cli.images import read_picture

    diffusion = replace(fast.config.diffusion, residual_scale={"3": 0.05}, diagonal_gain=None, first_step="network")
    network = replace(fast.config.network, upsampler=None)
    odd = replace(fast, config=replace(fast.config, scales=(3,), network=network, diffusion=diffusion))
    resolver = SuperResolver(odd, runtime.choose_runtime(runtime.Machine("cpu", threads=2)))
    picture = read_picture(torch.rand(3, 20, 70))
    plan = resolver.planner.plan(picture, UpscaleOptions(scale=3, steps=1, tile=64), resolver.runtime)
    assert plan.concurrent == 2 and resolver.estimate(plan) > 0
