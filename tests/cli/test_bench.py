"""`bidiffsr bench` runs with its smallest settings, says its conditions, and works without the native engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bidiffsr_cli.benchmarks import layers, picture
from bidiffsr_cli.benchmarks.layers import BinaryLayer
from bidiffsr_cli.ops import native

from .support import Run, is_one_sentence

ROW = {
    "kind",
    "name",
    "what",
    "dtype",
    "isa",
    "threads",
    "repeats",
    "median",
    "min",
    "ratio",
    "ratio_upstream_style",
    "part",
    "macs",
    "mac_per_cycle",
    "port_share",
    "peak_memory_bytes",
}


@pytest.fixture
def bench(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`bidiffsr bench` with a tiny model, tiny layers, a tiny picture and one measurement."""
    monkeypatch.setattr(picture, "SIZE", 32)
    monkeypatch.setattr(layers, "LAYERS", (BinaryLayer(3, 32, 8), BinaryLayer(1, 32, 8)))

    def bench(*args: object) -> Any:
        return run("bench", "--model", model, "--network", "model", "--repeats", "1", *args)

    return bench


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_load", lambda: (None, "it was taken away"))


@pytest.mark.slow
def test_everything_as_json(bench: Run) -> None:
    finished = bench("--json", "--against-upstream-style")
    assert finished.code == 0, finished.err
    assert finished.err == ""
    result = finished.json
    assert set(result) == {"schema", "conditions", "rows"} and result["schema"] == "bidiffsr-bench/1"
    conditions = result["conditions"]
    for name in ("started", "device", "threads", "torch_threads", "isas", "repeats", "environment"):
        assert conditions[name] is not None
    assert all(set(row) == ROW and row["median"] >= row["min"] > 0 and row["repeats"] == 1 for row in result["rows"])
    kinds = {row["kind"] for row in result["rows"]}
    expected = {"layer", "step", "profile", "picture"}
    assert kinds == (expected if conditions["native_missing"] is None else expected - {"profile"})
    steps = [row for row in result["rows"] if row["kind"] == "step"]
    assert [row["what"] for row in steps][-2:] == ["reference", "upstream-style"]
    assert all(row["ratio_upstream_style"] > 0 for row in steps)
    assert all(row["peak_memory_bytes"] > 0 for row in result["rows"] if row["kind"] == "picture")


def test_tables(bench: Run) -> None:
    finished = bench("--only", "steps")
    assert finished.code == 0 and finished.err == ""
    for said in (
        "Conditions",
        "processor",
        "threads",
        "torch",
        "One step of the network",
        "tiny 32x32",
        "reference fp32",
    ):
        assert said in finished.answer


def test_markdown(bench: Run) -> None:
    finished = bench("--only", "layers", "--markdown")
    assert finished.code == 0 and finished.err == ""
    text = finished.out.decode()
    assert "| 3x3, 32 ch, 8x8 | " in text and "\n- processor: " in text


@pytest.mark.usefixtures("no_engine")
def test_without_the_native_engine(bench: Run) -> None:
    finished = bench("--json", "--only", "steps")
    assert finished.code == 0, finished.err
    conditions = finished.json["conditions"]
    assert conditions["native_missing"] == "it was taken away" and conditions["isas"] == []
    assert [(row["kind"], row["what"]) for row in finished.json["rows"]] == [("step", "reference")]
    shown = bench("--only", "layers")
    assert shown.code == 0 and "it was taken away" in shown.answer and "3x3, 32 ch" in shown.answer


@pytest.mark.usefixtures("no_engine")
def test_a_native_engine_that_is_asked_for_must_be_there(bench: Run) -> None:
    finished = bench("--backend", "native")
    assert finished.code == 6 and is_one_sentence(finished.err)


@pytest.mark.slow
def test_the_reference_alone(bench: Run) -> None:
    finished = bench("--backend", "reference", "--only", "picture", "--threads", "1", "--json")
    assert finished.code == 0, finished.err
    alone, two = finished.json["rows"]
    assert (alone["what"], alone["threads"], alone["ratio"]) == ("reference", 1, 1.0)
    assert alone["name"] == "tiny 32x32 -> 64x64"
    assert (two["name"], two["what"], two["ratio"]) == ("two at once: tiny", "reference", None)


@pytest.mark.slow
def test_quiet(bench: Run) -> None:
    finished = bench("--only", "layers", "--quiet")
    assert (finished.code, finished.out, finished.err) == (0, b"", "")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--only", "kernels"], 2),
        (["--network", "sr3"], 2),
        (["--repeats", "0"], 2),
        (["--threads", "0"], 2),
        (["--json", "--markdown"], 2),
        (["--only", "picture", "--against-upstream-style"], 2),
        (["--precision", "fp16", "--backend", "native"], 2),
        (["--model", "missing"], 5),
        (["--device", "cuda:9"], 6),
    ],
)
def test_what_cannot_be_measured(run: Run, args: list[str], code: int) -> None:
    finished = run("bench", *args)
    assert finished.code == code and is_one_sentence(finished.err)
