"""How a benchmark measures: what runs when, which figures come of it, and that its candidates do the same work."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from conftest import needs_native
from networks.test_native import parts_of
from networks.test_unet import TINY, randomized

from bidiffsr_cli.benchmarks import layers, measuring, picture, steps
from bidiffsr_cli.benchmarks.layers import LAYERS, BinaryLayer
from bidiffsr_cli.benchmarks.measuring import Candidate, Conditions, choose_runtimes, look_at_conditions, with_ratios
from bidiffsr_cli.checkpoints.files import Checkpoint
from bidiffsr_cli.errors import BidiffsrError, UsageError
from bidiffsr_cli.ops import native
from bidiffsr_cli.ops.threads import using_threads
from bidiffsr_cli.reports.bench import as_markdown, tables
from bidiffsr_cli.runtime import Machine, Runtime, devices, one_torch_thread

REFERENCE = Runtime("cpu", "float32", "reference", None, 1)
SMALL = [BinaryLayer(3, 32, 8), BinaryLayer(1, 32, 8)]


def candidate(name: str, log: list[str], **more) -> Candidate:
    return Candidate(name, "float32", None, 1, lambda: log.append(name), **more)


def row(what: str, median: float, **changes) -> measuring.Row:
    fields = {"kind": "step", "name": "a", "dtype": "float32", "isa": None, "threads": 2, "repeats": 1}
    return measuring.Row(what=what, median=median, min=median, **fields | changes)


def workload() -> steps.Workload:
    config, arrays = parts_of(randomized(TINY, condition_channels=6))
    return steps.Workload("tiny 16x16", Checkpoint(config, arrays, "", "", "packed"), 16)


def test_candidates_alternate_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(measuring, "SHORTEST", 0.0)
    log: list[str] = []
    times = measuring.alternate([candidate("a", log), candidate("b", log, most_repeats=2), candidate("c", log)], 3)
    assert "".join(log) == "aabbcc" + "abc" + "abc" + "ac"
    assert [len(seconds) for seconds in times] == [3, 2, 3]


def test_what_is_quick_is_called_often():
    log: list[str] = []
    measuring.alternate([candidate("a", log)], 1)
    assert len(log) > 10


def test_garbage_is_left_alone_and_collected_again_afterwards(monkeypatch):
    monkeypatch.setattr(measuring, "SHORTEST", 0.0)
    seen = []

    def fail() -> None:
        seen.append(gc.isenabled())
        if len(seen) == 3:
            raise ValueError("three")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="three"):
        measuring.alternate([Candidate("a", "float32", None, 1, fail)], 5)
    assert seen == [True, False, False] and gc.isenabled()  # the first call is not timed


def test_ratios_are_to_the_reference_with_as_many_threads():
    rows = [
        row("native", 1.0),
        row("native", 0.5, threads=4),
        row("reference", 4.0),
        row("reference", 3.0, dtype="float16"),
        row("upstream-style", 12.0, threads=4),
    ]
    compared = with_ratios(rows)
    assert [found.ratio for found in compared] == [4.0, None, 1.0, pytest.approx(4 / 3), None]
    assert [found.ratio_upstream_style for found in compared] == [12.0, 24.0, 3.0, 4.0, 1.0]
    assert {found.ratio_upstream_style for found in with_ratios(rows[:4])} == {None}


def test_multiply_adds_of_the_layers():
    macs = {layer.name: layer.macs for layer in LAYERS}
    assert macs["3x3, 64 ch, 256x256"] == 64 * 64 * 9 * 256 * 256
    assert macs["1x1, 512 ch, 32x32"] == 2 * 512 * 512 * 32 * 32


@needs_native
@pytest.mark.parametrize("layer", SMALL, ids=lambda layer: layer.name)
@pytest.mark.parametrize("isa", native.supported_isas())
def test_both_ways_compute_the_same_layer(layer, isa):
    with using_threads(2), one_torch_thread():
        result, expected = layers.native_run(layer, isa)(), layers.reference_run(layer)()
    different = (result - expected).abs() > 1e-4  # where a value before a sign is almost zero
    assert different.float().mean() < 0.02


@needs_native
def test_rows_of_a_layer():
    runtime = Runtime("cpu", "float32", "native", native.choose_isa(), 2)
    reference, one, two = layers.measure_layer(SMALL[0], runtime, 1, limit=100.0)
    assert (reference.what, reference.threads, reference.ratio) == ("reference", 1, 1.0)
    assert (one.what, one.threads, two.threads) == ("native", 1, 2)
    assert one.ratio == pytest.approx(reference.median / one.median) and two.ratio is None
    assert one.port_share == pytest.approx(one.mac_per_cycle / 100) and reference.port_share is None


def test_rows_of_a_layer_without_the_native_engine():
    (reference,) = layers.measure_layer(SMALL[0], REFERENCE, 1)
    assert reference.what == "reference" and reference.mac_per_cycle is None


@needs_native
def test_rows_of_steps(monkeypatch):
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda isa: True)
    runtimes = choose_runtimes(Machine("cpu", threads=2))
    rows = steps.measure_steps(workload(), runtimes, 5, against_upstream_style=True)
    assert [(found.what, found.dtype) for found in rows] == [
        ("native", "float32"),
        ("native", "bfloat16"),
        ("reference", "float32"),
        ("upstream-style", "float32"),
    ]
    assert [found.repeats for found in rows] == [5, 5, 5, 3]
    assert all(found.ratio_upstream_style > 0 and found.min <= found.median for found in rows)


def test_rows_of_steps_on_several_windows_with_graphs_and_without():
    rows = steps.measure_steps(workload(), [REFERENCE], 1, batches=(1, 2), eager=True, against_upstream_style=True)
    names = ["tiny 16x16"] * 3 + ["tiny 16x16 x2"] * 3
    assert [found.name for found in rows] == names
    assert [found.what for found in rows] == ["reference", "eager", "upstream-style"] * 2
    assert all(found.ratio > 0 for found in rows if found.what == "eager")
    assert "eager is that without CUDA graphs" in as_markdown(look_at_conditions([REFERENCE], "reference", 1), rows)


def test_more_windows_than_memory_suffices_for_are_left_out(monkeypatch):
    inputs = steps.Workload.inputs

    def most(self, device: str, windows: int = 1):
        if windows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inputs(self, device, windows)

    monkeypatch.setattr(steps.Workload, "inputs", most)
    rows = steps.measure_steps(workload(), [REFERENCE], 1, batches=(1, 2, 4, 8))
    assert [found.name for found in rows] == ["tiny 16x16", "tiny 16x16 x2"]
    with pytest.raises(torch.OutOfMemoryError):
        steps.measure_steps(workload(), [REFERENCE], 1, batches=(4,))


def test_the_upstream_style_has_torchs_own_precision(monkeypatch):
    seen = []
    monkeypatch.setattr(steps.UpstreamStyleUNet, "forward", lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # as a runtime leaves it
    try:
        steps.upstream_step(workload(), "cpu")(1).run()
        assert seen == [True] and not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_step_leaves_torch_its_threads():
    before = torch.get_num_threads()
    with steps.running(dataclasses.replace(REFERENCE, threads=3)):
        assert torch.get_num_threads() == 3 and torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == before


@needs_native
def test_a_profile_counts_every_kind_of_work_once():
    runtime = choose_runtimes(Machine("cpu", "fp32", "native", 1))[0]
    rows = steps.profile_step(workload(), runtime, 2)
    parts = [found.part for found in rows]
    assert parts == list(steps.KINDS_OF_WORK)


def test_there_is_no_profile_of_the_reference():
    assert steps.profile_step(workload(), REFERENCE, 1) == []


def test_runtimes_end_with_the_reference():
    for precision in ("auto", "fp32", "bf16"):
        *others, last = choose_runtimes(Machine("cpu", precision, threads=1))
        assert (last.backend, last.dtype) == ("reference", "float32")
        assert all(runtime.backend == "native" for runtime in others) or native.why_unavailable()
    assert len(choose_runtimes(Machine("cpu", "fp32", "reference", 1))) == 1
    assert len(choose_runtimes(Machine("cpu", "bf16", "reference", 1))) == 2
    with pytest.raises(UsageError):
        choose_runtimes(Machine("cpu", "fp16", "native", 1))


def test_another_device_is_measured_in_fp16_and_fp32(monkeypatch):
    monkeypatch.setattr(devices, "find_devices", lambda: devices.Devices({"xpu:0": "GPU", "cpu": "CPU"}))
    for precision, dtypes in (
        ("auto", ["float16", "float32"]),
        ("bf16", ["bfloat16", "float32"]),
        ("fp32", ["float32"]),
    ):
        runtimes = choose_runtimes(Machine("xpu", precision))
        assert [runtime.dtype for runtime in runtimes] == dtypes
        assert {(runtime.device, runtime.backend) for runtime in runtimes} == {("xpu", "reference")}


def test_the_picture_is_the_same_everywhere():
    made = picture.benchmark_picture(64)
    assert (made.size, made.mode) == ((64, 64), "RGB")
    assert made.getpixel((63, 63)) == (255, 128, 255) and made.getpixel((0, 63)) == (0, 128, 128)


def test_a_picture_that_was_enlarged_before(fast, monkeypatch):
    monkeypatch.setattr(picture, "SIZE", 16)
    graphed, eager = picture.measure_warm_picture(fast, [REFERENCE], 1, eager=True)
    assert graphed.name == eager.name == "fast 16x16 -> 32x32, warm"
    assert (graphed.what, eager.what) == ("reference", "eager") and eager.ratio > 0
    (table,) = tables([graphed, eager])
    assert "a process that has enlarged it before" in table.note


@needs_native
def test_a_picture_in_processes_of_its_own(fast, monkeypatch):
    monkeypatch.setattr(picture, "SIZE", 16)
    engine = Runtime("cpu", "float32", "native", native.supported_isas()[-1], 1)
    alone, two = picture.measure_picture(fast, "fast", [engine], "fp32", 1)
    assert (alone.name, two.name) == (f"{fast.name} 16x16 -> 32x32", f"two at once: {fast.name}")
    assert {(one.kind, one.what, one.threads, one.repeats) for one in (alone, two)} == {("picture", "native", 1, 1)}
    assert alone.median > 0 and min(alone.peak_memory_bytes, two.peak_memory_bytes) > 10**7


def test_a_picture_that_fails_is_told(fast, monkeypatch):
    monkeypatch.setattr(picture, "SIZE", 16)
    with pytest.raises(BidiffsrError, match="no model or checkpoint file 'missing'"):
        picture.measure_picture(fast, "missing", [REFERENCE], "fp32", 1)


def test_tables_fit_80_columns_and_say_their_conditions():
    conditions = look_at_conditions([REFERENCE], "reference", 3)
    assert isinstance(conditions, Conditions) and conditions.native_missing
    layer = {"kind": "layer", "name": "3x3, 512 ch, 256x256", "macs": 10**9}
    whole = {"kind": "picture", "name": "fast 512x512 -> 1024x1024", "peak_memory_bytes": 390_000_000}
    rows = [
        row("reference", 0.123456, **layer, threads=1),
        row("native", 0.01, **layer, threads=1, mac_per_cycle=321.5, port_share=0.5),
        row("native", 1.0, name="published 256x256", ratio=1.25, ratio_upstream_style=0.5),
        row("upstream-style", 2.0, name="published 256x256"),
        row("native", 1.0, kind="profile", part="full-precision blocks"),
        row("native", 5.5, **whole),
    ]
    for table in tables(rows):
        widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
        assert sum(widths) + 2 * len(widths) <= 80
    text = as_markdown(conditions, rows)
    for said in (
        "322",
        "50%",
        "1.2x",
        "0.50x",
        "upstream-style fp32",
        "390",
        "5.50",
        "1000",
        conditions.environment["cpu"],
    ):
        assert said in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_steps_on_cuda():
    runtimes = choose_runtimes(Machine("cuda"))
    rows = steps.measure_steps(workload(), runtimes, 1, batches=(1, 4), eager=True, against_upstream_style=True)
    assert [(found.what, found.dtype) for found in rows] == 2 * [
        ("reference", "float16"),
        ("eager", "float16"),
        ("reference", "float32"),
        ("eager", "float32"),
        ("upstream-style", "float32"),
    ]
