"""Enlarging pictures from Python: what is written, what comes back, and what is heard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cli.support import decoded, picture
from PIL import Image

import bidiffsr_cli
from bidiffsr_cli import UpscaleOptions, Writing
from bidiffsr_cli.errors import InputError, OutputError, UsageError
from bidiffsr_cli.tasks.upscale import UpscaleRequest, run

from .conftest import Notes, keeps_the_contract

ONE_STEP = UpscaleOptions(steps=1)


def test_from_file_to_file(folder: Path, model: str, notes: Notes) -> None:
    request = UpscaleRequest(folder / "photos" / "a.png", folder / "big.png", options=ONE_STEP, model=model)
    summary = run(request, notes)
    (image,) = summary.images
    assert keeps_the_contract(summary.to_dict()) and summary.to_dict() is image and not summary.failed
    assert image["status"] == "done" and image["output"] == str(folder / "big.png")
    assert decoded(folder / "big.png").size == image["output_size"] == (48, 32)
    words = [word for word, _ in notes.said]
    assert words == ["progress", "progress", "found", "found"] and notes.shares[-1] == 1
    assert notes.said[1] == ("progress", "a.png: windows") and notes.parts[1] is summary
    assert notes.parts[0].to_dict() == image
    with pytest.raises(OutputError, match="exists"):
        run(request)


def test_the_same_pixels_as_the_model_alone_gives(folder: Path, model: str) -> None:
    bidiffsr_cli.upscale(folder / "photos" / "a.png", folder / "big.png", options=ONE_STEP, model=model)
    alone = bidiffsr_cli.SuperResolver.from_pretrained(model).upscale(folder / "photos" / "a.png", ONE_STEP).image
    assert isinstance(alone, Image.Image) and decoded(folder / "big.png").tobytes() == alone.tobytes()


def test_the_time_is_the_sum_of_its_phases(folder: Path, model: str) -> None:
    summary = bidiffsr_cli.upscale(
        [folder / "photos" / "a.png", folder / "photos" / "b.jpg"], None, options=ONE_STEP, model=model
    )
    loaded = []
    for image in summary.images:
        seconds = image["seconds"]
        phases = [seconds[phase] for phase in ("load_model", "decode", "sample", "encode")]
        assert seconds["total"] == pytest.approx(sum(phases)) and all(value > 0 for value in phases[1:])
        loaded.append(seconds["load_model"] > 0)
    assert loaded == [True, False]
    assert Path(summary.images[1]["output"]) == folder / "photos" / "b_x2.png"


def test_from_stream_to_stream(folder: Path, model: str) -> None:
    source, target = io.BytesIO((folder / "photos" / "b.jpg").read_bytes()), io.BytesIO()
    summary = bidiffsr_cli.upscale(source, target, options=ONE_STEP, model=model, writing=Writing("webp"))
    assert decoded(target.getvalue()).format == "WEBP" and decoded(target.getvalue()).size == (80, 60)
    assert (summary.images[0]["input"], summary.images[0]["output"]) == ("-", "-")
    with pytest.raises(UsageError, match="A stream needs an output"):
        bidiffsr_cli.upscale(source, None, options=ONE_STEP, model=model)
    with pytest.raises(InputError, match="The stream"):
        bidiffsr_cli.upscale(io.BytesIO(b"nothing"), io.BytesIO(), options=ONE_STEP, model=model)
    with pytest.raises(UsageError, match="The stream cannot be one of several"):
        bidiffsr_cli.upscale([source, folder / "photos" / "a.png"], folder, options=ONE_STEP, model=model)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "source",
    [Image.new("L", (8, 8)), None, iter(["a.png"]), io.StringIO("text")],
    ids=["picture", "None", "generator", "text"],
)
def test_what_is_no_file_is_refused_before_a_model_is_had(folder: Path, source: Any, several: bool) -> None:
    inputs = [folder / "photos" / "a.png", source] if several else source
    with pytest.raises(InputError, match=type(source).__name__) as refused:
        bidiffsr_cli.upscale(inputs, folder / "big", model="no such model")
    assert "SuperResolver.upscale" in refused.value.hint


def test_of_several_one_fails_and_alone_it_raises(folder: Path, model: str, notes: Notes) -> None:
    names = sorted((folder / "photos").iterdir())
    report = folder / "run.json"
    summary = run(UpscaleRequest(names, folder / "new", options=ONE_STEP, model=model, report=report), notes)
    assert [image["status"] for image in summary.images] == ["done", "done", "failed"]
    assert summary.failed == [str(folder / "photos" / "broken.png")]
    assert summary.to_dict()["counts"] == {"done": 2, "failed": 1, "left": 0} and keeps_the_contract(summary.to_dict())
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["a_x2.png", "b_x2.png"]
    assert ("traceback", "InputError") in notes.said and [word for word, _ in notes.said[-2:]] == ["warning", "found"]
    assert json.loads(report.read_text())["images"][2] == summary.images[2]
    with pytest.raises(InputError, match=r"broken\.png"):
        bidiffsr_cli.upscale(names[2], folder / "new" / "c.png", options=ONE_STEP, model=model)


def test_what_no_picture_of_several_could_have_is_told_before_any_is_read(folder: Path, model: str) -> None:
    names = [folder / "photos" / name for name in ("broken.png", "a.png")]
    for name in (model, "auto"):
        for options in (UpscaleOptions(scale=3, steps=1), UpscaleOptions(steps=1, tile=99)):
            with pytest.raises(UsageError):
                bidiffsr_cli.upscale(names, folder / "new", options=options, model=name)
    assert not (folder / "new").exists()


def test_a_dry_run(folder: Path, model: str) -> None:
    summary = bidiffsr_cli.upscale(
        folder / "photos" / "a.png", None, options=ONE_STEP, model=model, writing=Writing(long_side=30), dry_run=True
    )
    (plan,) = summary.plans
    assert plan.format == "PNG" and plan.seconds > 0 and plan.memory > 0
    assert summary.images == [plan.to_dict()] and summary.images[0]["output_size"] == (30, 20)
    assert keeps_the_contract(summary.to_dict()) and not (folder / "photos" / "a_x2.png").exists()


def test_an_odd_name(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python "-" is a file of that name: streams are given as such."""
    monkeypatch.chdir(folder)
    picture().save("-", "PNG")
    summary = bidiffsr_cli.upscale("-", "big.png", options=ONE_STEP, model=model)
    assert summary.images[0]["status"] == "done" and decoded(Path("big.png")).size == (48, 32)


def test_bytes_and_nothing(folder: Path, model: str) -> None:
    data = (folder / "photos" / "a.png").read_bytes()
    bidiffsr_cli.upscale(data, folder / "big.png", options=ONE_STEP, model=model)
    assert decoded(folder / "big.png").size == (48, 32)
    with pytest.raises(UsageError, match="no picture"):
        bidiffsr_cli.upscale([], folder / "other.png")
