"""Whole folders from Python: what is done, what is skipped, what fails, and what is heard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.support import decoded, tiny_checkpoint

import bidiffsr_cli
from bidiffsr_cli import Machine, Selection, UpscaleOptions, Writing
from bidiffsr_cli.errors import InputError, OutputError, UsageError
from bidiffsr_cli.folders.work import Work
from bidiffsr_cli.tasks.batch import BatchRequest, run

from .conftest import Notes, keeps_the_contract

ONE_STEP = UpscaleOptions(steps=1)


def test_a_folder_and_again(folder: Path, model: str, notes: Notes) -> None:
    request = BatchRequest(
        [folder / "photos"], folder / "big", options=ONE_STEP, model=model, report=folder / "run.csv"
    )
    first = run(request, notes)
    assert (
        first.status == "failed"
        and first.failed == [str(folder / "photos" / "broken.png")]
        and keeps_the_contract(first.to_dict())
    )
    assert first.counts == {"done": 2, "skipped": 0, "failed": 1, "left": 0}
    assert decoded(folder / "big" / "b.png").size == (80, 60)
    assert len((folder / "run.csv").read_text().splitlines()) == 4
    words = [word for word, _ in notes.said]
    assert words[:3] == ["progress", "message", "progress"] and sorted(words[3:6]) == ["progressed"] * 2 + ["warning"]
    assert notes.said[1][1] == f"3 pictures -> {folder / 'big'}"
    assert notes.said[-2][1].startswith("2 done, 1 failed in ") and notes.parts == [first]
    assert notes.shares[-1] == 1 and notes.shares == sorted(notes.shares)

    (folder / "photos" / "broken.png").unlink()
    again = bidiffsr_cli.batch([folder / "photos"], folder / "big", options=ONE_STEP, model=model)
    assert again.status == "done" and again.counts["skipped"] == 2 and again.pictures_per_second is None
    assert [image["seconds"] for image in again.images] == [image["seconds"] for image in first.images[:2]]


def test_the_same_bytes_and_the_same_clock_as_upscale(folder: Path, model: str) -> None:
    options = UpscaleOptions(steps=1, scale=4, seed=3)
    done = bidiffsr_cli.batch(
        [folder / "photos"], folder / "big", options=options, model=model, selection=Selection(include=["a.*"])
    )
    one = bidiffsr_cli.upscale(folder / "photos" / "a.png", folder / "one.png", options=options, model=model)
    assert (folder / "big" / "a.png").read_bytes() == (folder / "one.png").read_bytes()
    for image in (*done.images, *one.images):
        seconds = image["seconds"]
        phases = [seconds[phase] for phase in ("load_model", "decode", "sample", "encode")]
        assert seconds["total"] == pytest.approx(sum(phases)) and all(value > 0 for value in phases[1:])


def test_a_dry_run_writes_nothing(folder: Path, model: str) -> None:
    planned = bidiffsr_cli.batch([folder / "photos"], None, options=ONE_STEP, model=model, dry_run=True)
    assert (planned.status, planned.left) == ("planned", ["a.png", "b.jpg", "broken.png"])
    assert planned.folders == [f"3 pictures -> {folder / 'photos_x2'}"] and keeps_the_contract(planned.to_dict())
    assert not (folder / "photos_x2").exists()


def test_what_is_refused(folder: Path, model: str) -> None:
    photos = [folder / "photos"]
    for changes, error in (
        ({"engine": "slurm"}, UsageError),
        ({"options": UpscaleOptions(scale=3)}, UsageError),
        ({"options": UpscaleOptions(tile=99)}, UsageError),
        ({"ray_address": "auto"}, UsageError),
        ({"machine": Machine("cpu,cpu")}, UsageError),
        ({"jobs": 0}, UsageError),
        ({"output": folder / "photos"}, OutputError),
        ({"folders": [folder / "none"]}, InputError),
        ({"selection": Selection(include=["*.gif"])}, InputError),
    ):
        wanted = {"folders": photos, "output": folder / "big", "options": ONE_STEP, "model": model} | changes
        with pytest.raises(error):
            run(BatchRequest(**wanted))
    assert not (folder / "big").exists()


def test_journals_of_earlier_versions_are_understood() -> None:
    """A result is skipped if all that it depends on is noted as it was: a change here does every picture anew."""
    writing = Writing("tiff", quality=9, width=4)
    settings = Work("fast", Machine("cuda:1", "bf16", "native", 3), UpscaleOptions(steps=2), writing).settings("ab+cd")
    assert json.loads(json.dumps(settings, sort_keys=True)) == {
        "sha256": "ab+cd", "scale": 2, "steps": 2, "preset": None, "sampler": "ddim", "eta": 0.0, "temperature": None,
        "seed": 0, "tile": "auto", "tile_overlap": None, "alpha": "lanczos", "color_fix": "none",
        "format": "TIFF", "quality": 9, "strip_metadata": False, "provenance": True, "resampling": [4, None, None],
        "device": "cuda", "precision": "bf16", "backend": "native",
    }  # fmt: skip
    assert Work("fast", Machine(), ONE_STEP, Writing("same")).settings("")["format"] == "same"
    assert Work("fast", Machine(), ONE_STEP, Writing()).settings("")["format"] == "PNG"


def test_one_folder_needs_no_list_and_a_model_is_read_anew(folder: Path) -> None:
    """A file that has changed between two runs is another model, which the ledger must not mistake for the first."""
    file, photos = folder / "mine.safetensors", folder / "photos"
    pictures = []
    for seed in (0, 1):
        file.write_bytes(tiny_checkpoint(seed=seed))
        done = bidiffsr_cli.batch(
            photos, folder / "big", options=ONE_STEP, model=str(file), selection=Selection(include=["a.*"])
        )
        assert done.counts["done"] == 1
        pictures.append(decoded(folder / "big" / "a.png").tobytes())
    assert pictures[0] != pictures[1]


def test_warnings_are_logged(folder: Path, model: str, caplog: pytest.LogCaptureFixture) -> None:
    bidiffsr_cli.batch(folder / "photos", folder / "big", options=ONE_STEP, model=model)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("bidiffsr", "WARNING") and "broken.png" in record.getMessage()
