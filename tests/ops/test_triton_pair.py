"""Triton's pair: its cases in Triton's interpreter, or compiled where there is a GPU; and that it compiles for GPUs."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
MISSING = [name for name in ("triton", "numpy") if not getattr(find_spec(name), "origin", None)]  # a folder is none
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed: no test looks at Triton's pair"),
]


def python(*words, **environment):
    """Run Python in a fresh process, and show what it printed if it fails."""
    place = {"PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))}
    done = subprocess.run([sys.executable, *words], env={**os.environ, **place, **environment}, capture_output=True)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-4000:]
    return done.stdout.decode()


def test_its_cases(tmp_path):
    how = {"TRITON_INTERPRET": "0" if torch.cuda.is_available() else "1", "TRITON_CACHE_DIR": str(tmp_path)}
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "ops/pair_cases.py"), **how)
    assert " passed" in said and "skipped" not in said


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bidiffsr_cli.ops.triton_pair import OPTIONS, _finish, _prepare
TYPES = {"eps": "fp32", "pixels": "i32", "C": "i32", "groups": "i32", "signs": "*fp16", "sums": "*fp16"}
for capability in (75, 80, 90, 100):
    for kernel, absent in ((_prepare, None), (_finish, "residual"), (_finish, "time")):
        types = {name: "constexpr" if name == absent else TYPES.get(name, "*fp32") for name in kernel.arg_names}
        aligned = [index for index, (name, type) in enumerate(types.items()) if type[0] == "*" or name == "C"]
        constants = {(kernel.arg_names.index(absent),): None} if absent else {}
        source = ASTSource(kernel, types, constants, {(index,): [["tt.divisibility", 16]] for index in aligned})
        made = compile(source, GPUTarget("cuda", capability, 32), OPTIONS)
        print(capability, len(made.asm["cubin"]) > 0, "ld.global.v4" in made.asm["ptx"])
"""


def test_its_kernels_compile_for_gpus_and_read_four_values_at_once(tmp_path):
    """No GPU is needed for that."""
    lines = python("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0").splitlines()
    assert len(lines) == 12 and all(line.endswith("True True") for line in lines), lines
