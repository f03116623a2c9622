"""Whole folders from Python, and what goes wrong around them: reports, files of others, versions with other pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.support import picture

import bidiffsr_cli
from bidiffsr_cli import Selection, UpscaleOptions
from bidiffsr_cli.errors import OutputError
from bidiffsr_cli.options import PIXELS
from bidiffsr_cli.tasks.batch import BatchRequest, BatchResult, run
from bidiffsr_cli.tasks.evaluate import EvaluateRequest
from bidiffsr_cli.tasks.evaluate import run as evaluate

from .conftest import Notes

ONE_STEP = UpscaleOptions(steps=1)


class InTheWay(Notes):
    """Puts a file where the report is to go, once all is done."""

    def __init__(self, report: Path) -> None:
        super().__init__()
        self.report = report

    def found(self, part: object) -> None:
        super().found(part)
        self.report.write_text("another's")


def test_a_report_that_cannot_be_written_takes_nothing_with_it(folder: Path, model: str) -> None:
    report = folder / "run.json"
    listener = InTheWay(report)
    with pytest.raises(OutputError, match="exists"):
        run(BatchRequest(folder / "photos", folder / "big", options=ONE_STEP, model=model, report=report), listener)
    (result,) = listener.parts
    assert isinstance(result, BatchResult) and result.failed == [str(folder / "photos" / "broken.png")]

    (folder / "photos" / "broken.png").unlink()
    page = InTheWay(folder / "page.csv")
    with pytest.raises(OutputError, match="exists"):
        evaluate(EvaluateRequest(folder / "photos", models="bicubic", metrics="psnr_y", report=page.report), page)
    assert page.parts[0].count == 2


def test_pictures_of_two_folders_that_failed_are_told_apart(folder: Path, model: str) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "broken.png").write_bytes(b"nothing")
    done = bidiffsr_cli.batch([folder / "photos", folder / "more"], folder / "big", options=ONE_STEP, model=model)
    assert done.failed == [str(folder / name / "broken.png") for name in ("photos", "more")]


def test_what_is_refused_leaves_nothing_behind(folder: Path, model: str) -> None:
    (folder / "big").mkdir()
    picture().save(folder / "big" / "a.png")  # not made here
    with pytest.raises(OutputError, match="not made here"):
        bidiffsr_cli.batch(folder / "photos", folder / "big", options=ONE_STEP, model=model)
    assert [path.name for path in (folder / "big").iterdir()] == ["a.png"]


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS - 1, None])
def test_pixels_of_another_version_are_made_anew(folder: Path, model: str, notes: Notes, pixels: int | None) -> None:
    """The first version noted none."""
    request = BatchRequest(
        folder / "photos", folder / "big", options=ONE_STEP, model=model, selection=Selection(exclude=["broken.png"])
    )
    assert run(request).counts["done"] == 2
    journal = folder / "big" / ".bidiffsr" / "done-1-of-1.jsonl"
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [entry["value"].pop("pixels") for entry in entries] == [PIXELS, PIXELS]
    for entry in entries if pixels else ():
        entry["value"]["pixels"] = pixels
    journal.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))

    again = run(request, notes)
    told = [text for _, text in notes.said if "other pixels" in text]
    if pixels == PIXELS:
        assert again.counts["skipped"] == 2 and not told
    else:
        assert again.counts["done"] == 2 and told == [
            "Done anew, as this version gives other pixels than the one before: 2 pictures."
        ]
    assert run(request).counts["skipped"] == 2
