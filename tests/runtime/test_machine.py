"""From what is asked of a machine to the runtime that does it; nothing falls back silently."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import needs_native

from bidiffsr_cli.errors import DeviceError, UsageError
from bidiffsr_cli.ops import native
from bidiffsr_cli.runtime import Machine, choose_runtime, machine


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"device": "tpu"}, UsageError),
        ({"device": "cuda:99"}, DeviceError),
        ({"backend": "native", "precision": "fp16", "device": "cpu"}, UsageError),
        ({"backend": "fpga"}, UsageError),
        ({"precision": "fp8"}, UsageError),
        ({"threads": 0}, UsageError),
    ],
)
def test_runtimes_that_are_not_there(request_, kind):
    with pytest.raises(kind) as caught:
        choose_runtime(Machine(**request_))
    assert caught.value.hint


def test_without_the_engine_auto_is_plain_torch_and_native_says_why(monkeypatch):
    monkeypatch.setattr(native, "_load", lambda: (None, "it was not built"))
    runtime = choose_runtime(Machine("cpu"), bf16_psnr=99.0)
    assert (runtime.backend, runtime.isa, runtime.dtype) == ("reference", None, "float32")
    with pytest.raises(DeviceError, match="it was not built") as caught:
        choose_runtime(Machine("cpu", backend="native"))
    assert "--backend reference" in caught.value.hint


@needs_native
@pytest.mark.parametrize(("psnr", "multiplies", "dtype"), [(60, 1, "bfloat16"), (49, 1, "float32"), (60, 0, "float32")])
def test_bf16_is_chosen_where_the_processor_and_the_model_bear_it(psnr, multiplies, dtype, monkeypatch):
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda isa: bool(multiplies))
    assert choose_runtime(Machine("cpu"), bf16_psnr=psnr).dtype == dtype
    assert choose_runtime(Machine("cpu"), bf16_psnr=None).dtype == "float32"
    assert choose_runtime(Machine("cpu", backend="reference"), bf16_psnr=psnr).dtype == "float32"


@pytest.mark.parametrize(
    ("psnr", "capability", "dtype"),
    [(57, (7, 0), "float16"), (57, (6, 1), "float32"), (49, (9, 0), "float32"), (None, (9, 0), "float32")],
)
def test_fp16_is_chosen_where_there_are_tensor_cores_and_the_model_bears_it(psnr, capability, dtype, monkeypatch):
    monkeypatch.setattr(machine, "choose_device", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_runtime(Machine("cuda:1"), bf16_psnr=60, fp16_psnr=psnr).dtype == dtype
    assert choose_runtime(Machine("cuda:1", "fp32"), fp16_psnr=psnr).dtype == "float32"
    assert choose_runtime(Machine("mps"), fp16_psnr=psnr).dtype == "float32"


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "SSE41"])
def test_torch_is_not_asked_for_bf16_where_it_is_kept_from_it(isa):
    code = (
        "import torch; from bidiffsr_cli.runtime import multiplies_bfloat16; "
        "assert not multiplies_bfloat16(torch.device('cpu'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa}, cwd="/")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bf16_by_word_is_taken_everywhere(backend):
    assert choose_runtime(Machine("cpu", "bf16", backend)).dtype == "bfloat16"


@needs_native
def test_the_environment_chooses_the_instruction_set(monkeypatch):
    for isa in native.supported_isas():
        monkeypatch.setenv("BIDIFFSR_CPU_ISA", isa)
        assert choose_runtime(Machine("cpu")).isa == isa
    monkeypatch.setenv("BIDIFFSR_CPU_ISA", "mmx")
    with pytest.raises(UsageError, match="mmx"):
        choose_runtime(Machine("cpu"))
