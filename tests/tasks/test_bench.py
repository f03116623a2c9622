"""`bench` from plain Python: rows come as they are measured, and the result has all of them."""

from __future__ import annotations

import pytest
from cli.support import Pretended

import bidiffsr_cli
from bidiffsr_cli import Machine
from bidiffsr_cli.benchmarks import picture
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.runtime import memory
from bidiffsr_cli.tasks import bench

from .conftest import Notes, keeps_the_contract


def test_steps_of_a_model(model: str, notes: Notes) -> None:
    request = bench.BenchRequest(
        only="steps",
        network="model",
        repeats=1,
        model=model,
        machine=Machine("cpu", threads=1),
    )
    result = bench.run(request, notes)
    seen = [len(part.rows) for part in notes.parts]
    assert seen[0] == 0 and sum(seen) == len(result.rows) and min(seen[1:]) > 0
    assert {row.kind for row in result.rows} <= {"step", "profile"} and result.rows[0].name == "tiny 32x32"
    assert result.conditions.threads == 1 and keeps_the_contract(result.to_dict())
    assert [text for word, text in notes.said if word != "found"] == [f"{model}: bytes"]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another device, which is the one that is measured; and small pictures."""
    runtimes = [Pretended("cpu", dtype, "reference", None, 1) for dtype in ("float16", "float32")]
    monkeypatch.setattr(bench, "choose_runtimes", lambda *_: runtimes)
    monkeypatch.setattr(memory, "device_free_memory", lambda device: 10**9)
    monkeypatch.setattr(picture, "SIZE", 32)


@pytest.mark.usefixtures("device")
def test_another_device_is_measured_on_several_windows(model: str, notes: Notes) -> None:
    result = bench.run(bench.BenchRequest(only="steps", network="model", repeats=1, model=model), notes)
    steps = [(row.name, row.dtype) for row in result.rows if row.kind == "step"]
    sizes = ("", " x2", " x4", " x8", " x16")
    assert steps == [(f"tiny 32x32{size}", dtype) for size in sizes for dtype in ("float16", "float32")]
    assert {row.kind for row in result.rows} == {"step"} and keeps_the_contract(result.to_dict())


@pytest.mark.slow
@pytest.mark.usefixtures("device")
def test_pictures_on_another_device(model: str, notes: Notes) -> None:
    result = bench.run(bench.BenchRequest(only="picture", repeats=1, model=model), notes)
    pictures = [(row.name, row.dtype) for row in result.rows if row.name.endswith(", warm")]
    assert pictures == [("tiny 32x32 -> 64x64, warm", dtype) for dtype in ("float16", "float32")]
    assert {row.kind for row in result.rows} == {"picture"} and keeps_the_contract(result.to_dict())


def test_what_does_not_go_together(model: str) -> None:
    with pytest.raises(UsageError, match="upstream style"):
        bidiffsr_cli.bench(only="picture", against_upstream_style=True, model=model)
