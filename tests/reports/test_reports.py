"""Report files: JSON, CSV and Markdown of one or more pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bidiffsr_cli.errors import OutputError, UsageError
from bidiffsr_cli.reports import check_report, check_suffix, write_report
from bidiffsr_cli.reports.files import COLUMNS
from bidiffsr_cli.reports.terminal import duration, phases, summary
from bidiffsr_cli.results import ModelInfo, PeakMemory, Seconds, TileInfo, UpscaleResult


def result(**changes: Any) -> UpscaleResult:
    fields: dict[str, Any] = {
        "input_size": (640, 480),
        "output_size": (1280, 960),
        "scale": 2,
        "model": ModelInfo("fast", "1", "ab" * 32),
        "steps": 5,
        "sampler": "ddim",
        "eta": 0.0,
        "temperature": 1.0,
        "seed": 7,
        "device": "cpu",
        "dtype": "float32",
        "backend": "reference",
        "isa": None,
        "threads": 2,
        "tiles": TileInfo((512, 512), 48, 12, 2),
        "environment": {"bidiffsr": "0.1", "torch": "2.13", "python": "3.11", "platform": "Linux", "cpu": "A|B"},
        "seconds": Seconds(0.25, 0.1, 2.5, 0.4, 0.5),
        "peak_memory_bytes": PeakMemory(410_000_000),
        "input": "a/photo.jpg",
        "output": "photo_x2.png",
    }
    return UpscaleResult(**fields | changes)


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Where the single values of a nested object lie."""
    if isinstance(value, dict):
        return set().union(*(leaves(item, (*place, key)) for key, item in value.items()))
    if isinstance(value, tuple):
        return set().union(*(leaves(item, (*place, index)) for index, item in enumerate(value)))
    return {place}


def test_columns_cover_the_whole_object() -> None:
    assert leaves(result().to_dict()) - set(COLUMNS.values()) == {("schema",)}


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_report([result().to_dict(), result(seed=8).to_dict()], path)
    report = json.loads(path.read_text())
    assert report["schema"] == "bidiffsr-batch/1"
    assert [image["seed"] for image in report["images"]] == [7, 8]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "run.CSV"
    name = 'odd, "name"\n.png'
    write_report([result(input=name, warnings=["one.", "two."]).to_dict(), result().to_dict()], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["input"] == name and rows[0]["warnings"] == "one.; two."
    assert (rows[1]["output_width"], rows[1]["isa"], rows[1]["seconds_sample"]) == ("1280", "", "2.5")


def test_markdown(tmp_path: Path) -> None:
    path = tmp_path / "run.md"
    write_report([result(input="a|b.png", warnings=["No."]).to_dict(), result().to_dict()], path)
    text = path.read_text()
    assert "| a\\|b.png | 640x480 | 1280x960 | fast@1 | 5 | 12 | 3.25 | 0.500 | 410 MB |" in text
    assert text.count("sha256 abababababab") == 1  # conditions that are the same are said once
    assert "- a\\|b.png: No." in text


def test_html(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write_report([result(input="a|b<c.png").to_dict()], path)
    text = path.read_text()
    assert "a|b&lt;c.png" in text and "A|B" in text and "\\|" not in text  # Markdown's escapes are not HTML's
    assert "fast@1" in text and "410 MB" in text


def test_undecodable_names_are_written(tmp_path: Path) -> None:
    for suffix in (".json", ".csv", ".md", ".html"):
        write_report([result(input="\udcff.png").to_dict()], tmp_path / f"run{suffix}")


@pytest.mark.parametrize("name", ["run.txt", "run", ".csv"])
def test_unknown_suffixes(name: str) -> None:
    with pytest.raises(UsageError):
        check_suffix(Path(name))


def test_an_existing_report_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.md"
    path.write_text("old")
    for attempt in (lambda: check_report(path, overwrite=False), lambda: write_report([result().to_dict()], path)):
        with pytest.raises(OutputError):
            attempt()
    assert path.read_text() == "old"
    write_report([result().to_dict()], path, overwrite=True)
    assert path.read_text() != "old" and list(tmp_path.iterdir()) == [path]


def test_summary() -> None:
    line = "photo.jpg 640x480 -> photo_x2.png 1280x960 in 3.2 s (fast, 5 steps, 12 windows, 410 MB)"
    assert summary(result(seconds=Seconds(0.2, 0, 3))) == line
    assert "seed 7," in summary(result(), with_seed=True)
    piped = result(input="-", output="-", steps=1, tiles=TileInfo((64, 64), 8, 1, 1), peak_memory_bytes=PeakMemory())
    assert summary(piped) == "stdin 640x480 -> stdout 1280x960 in 3.2 s (fast, 1 step, 1 window)"


def test_phases() -> None:
    rows = dict(phases(result(device="cuda:0", peak_memory_bytes=PeakMemory(1, 5_000_000))))
    assert rows["sample"] == "2.5 s, 0.500 s per step" and rows["device memory"] == "5 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0154, "0.015 s"), (3.24, "3.2 s"), (59.99, "60.0 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
