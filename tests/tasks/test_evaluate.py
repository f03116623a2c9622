"""Measuring quality from Python: scores, reports, what is heard, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli.contract import mistakes
from cli.support import decoded
from PIL import Image

import bidiffsr_cli
from bidiffsr_cli import Degradation, UpscaleOptions
from bidiffsr_cli.errors import InputError, OutputError, UsageError
from bidiffsr_cli.evaluation.metrics import psnr_y
from bidiffsr_cli.images.pixels import to_levels
from bidiffsr_cli.tasks.evaluate import EvaluateRequest, run

from .conftest import Notes

PSNR = ("psnr_y",)


@pytest.fixture
def originals(tmp_path: Path, pictures: Path) -> Path:
    """Set5/HR, with two small photographs in it; one is transparent."""
    folder = tmp_path / "Set5" / "HR"
    folder.mkdir(parents=True)
    for name in ("parrot", "houses"):
        with Image.open(pictures / f"{name}.png") as image:
            crop = image.convert("RGB").crop((8, 8, 72, 56))
        if name == "houses":
            crop.putalpha(200)
        crop.save(folder / f"{name}.png")
    return folder


def test_scores_pictures_and_reports(originals: Path, model: str, notes: Notes, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    request = EvaluateRequest(originals, models=[model], steps=(1, 2), paper_row=True, output=kept)
    evaluation = run(request, notes)
    assert [summary.label for summary in evaluation.summaries] == ["bicubic", "tiny, 1 step", "tiny, 2 steps"]
    assert (evaluation.dataset, evaluation.paper, evaluation.count, len(evaluation.scores)) == ("Set5", "Set5", 2, 6)
    found = evaluation.to_dict()
    assert not mistakes(found) and found["mean"] == evaluation.summaries[1].mean
    written = json.loads((kept / "results.json").read_text())
    assert written == {name: value for name, value in json.loads(json.dumps(found)).items() if name != "warnings"}
    assert sorted(path.name for path in kept.glob("results.*")) == [
        f"results.{suffix}" for suffix in ("csv", "html", "json", "md")
    ]
    saved = evaluation.scores[1].saved
    assert saved is not None and decoded(kept / saved).size == (64, 48)
    white = "houses.png: It is transparent: it was laid on white."
    assert found["warnings"] == [white]
    assert notes.said == [
        ("progress", f"{model}: bytes"),
        ("progress", "Set5: scores"),
        ("warning", white),
        ("found", "Evaluation"),
    ]
    assert notes.shares[-1] == 1

    again = run(request)
    assert again.to_dict()["images"] == found["images"] and not again.warnings  # nothing was computed again


def test_the_command_and_the_function_agree_on_defaults(originals: Path, model: str) -> None:
    evaluation = bidiffsr_cli.evaluate(originals, models=[model])
    assert [summary.label for summary in evaluation.summaries] == ["bicubic", "tiny, 2 steps"]
    assert list(evaluation.summaries[0].mean) == ["psnr_y", "ssim_y", "lpips_alex", "lr_psnr"]
    assert (evaluation.rule.name, evaluation.rule.crop, evaluation.lr_given) == ("paper", 2, False)


def test_options_scale_and_degradation_count(originals: Path, model: str) -> None:
    def psnr(**changes: object) -> list[float]:
        values = {"models": [model], "steps": [2], "metrics": PSNR} | changes
        return [summary.mean["psnr_y"] for summary in bidiffsr_cli.evaluate(originals, **values).summaries]  # type: ignore[arg-type]

    bicubic, enlarged = psnr()
    other = psnr(options=UpscaleOptions(steps=1, seed=1))  # steps of their own come first
    assert other[0] == bicubic and other[1] != enlarged
    assert psnr(steps=None, options=UpscaleOptions(preset="best"))[1] != enlarged
    assert psnr(options=UpscaleOptions(scale=4))[0] < bicubic and psnr(degradation=Degradation(noise=20.0))[0] < bicubic
    assert psnr(protocol="full")[0] != bicubic and psnr(limit=1)[0] != bicubic
    assert psnr(models=["bicubic"]) == [bicubic]


def test_kept_pictures_belong_to_their_scores(originals: Path, tmp_path: Path) -> None:
    """Also where one folder keeps several scales and sets, whose pictures have the same names and sizes."""
    shutil.copytree(originals, tmp_path / "other" / "HR")
    with Image.open(originals / "parrot.png") as image:
        image.rotate(180).save(tmp_path / "other" / "HR" / "parrot.png")
    for name in ("small", "rotated"):
        (tmp_path / name).mkdir()
        for path in originals.iterdir():
            with Image.open(path) as image:
                turned = image.rotate(180 if name == "rotated" else 0)
                turned.resize((32, 24)).save(tmp_path / name / path.name)
    runs = [
        *({"hr": originals, "options": UpscaleOptions(scale=scale)} for scale in (2, 4)),
        {"hr": tmp_path / "other" / "HR"},
        *({"hr": originals, "lr": tmp_path / name} for name in ("small", "rotated")),
    ]
    kept = tmp_path / "kept"
    first = [bidiffsr_cli.evaluate(models="bicubic", metrics=PSNR, output=kept, **one) for one in runs]  # type: ignore[arg-type]
    files = {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")}
    for one, before in zip(runs, first, strict=True):
        again = bidiffsr_cli.evaluate(models="bicubic", metrics=PSNR, output=kept, **one)  # type: ignore[arg-type]
        assert again.scores == before.scores
        score = again.scores[1]
        assert score.image == "parrot" and score.saved is not None
        truth = decoded(Path(one["hr"]) / "parrot.png")  # type: ignore[arg-type]
        of_file = psnr_y(to_levels(decoded(kept / score.saved)), to_levels(truth), again.rule.scale)
        assert of_file == score.values["psnr_y"]
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")} == files  # nothing was enlarged again


def test_a_page_of_a_scale_after_another(pictures: Path, tmp_path: Path) -> None:
    """The sizes of an original that is no multiple of four, cut for each scale, differ."""
    (tmp_path / "hr").mkdir()
    with Image.open(pictures / "parrot.png") as image:
        image.convert("RGB").crop((0, 0, 67, 51)).save(tmp_path / "hr" / "a.png")
    for scale in (2, 4, 2):
        options = UpscaleOptions(scale=scale)
        bidiffsr_cli.evaluate(
            tmp_path / "hr", models="bicubic", metrics=PSNR, options=options, output=tmp_path / "kept"
        )


def test_a_page_alone(originals: Path, model: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    bidiffsr_cli.evaluate(str(originals), models=[model], steps=[1], metrics=PSNR, report=str(page), pictures=1)
    html = page.read_text(encoding="utf-8")
    assert html.count("<h3") == 1 and "tiny, 1 step" in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Set5", "page.html"]  # nothing else is kept
    with pytest.raises(OutputError, match="exists"):
        bidiffsr_cli.evaluate(originals, models=[model], report=page)


def test_finished_pictures(originals: Path) -> None:
    evaluation = bidiffsr_cli.evaluate(originals, sr=originals, label="perfect", metrics=["psnr_y", "ssim_rgb"])
    assert evaluation.summaries[1].label == "perfect"
    assert evaluation.summaries[1].mean == {"psnr_y": 100.0, "ssim_rgb": pytest.approx(1)}


def test_finished_pictures_are_called_as_their_folder(originals: Path, tmp_path: Path) -> None:
    shutil.copytree(originals, tmp_path / "tool.v2")
    evaluation = bidiffsr_cli.evaluate(originals, sr=f"{tmp_path}/tool.v2/", metrics=PSNR)
    assert evaluation.summaries[1].label == "tool.v2"


def test_the_papers_row_of_a_part_is_warned_of(originals: Path, notes: Notes) -> None:
    run(EvaluateRequest(originals, models=["bicubic"], metrics=PSNR, limit=1, paper_row=True), notes)
    assert notes.said[0][0] == "warning" and "not comparable" in notes.said[0][1]


def test_what_is_refused(originals: Path, model: str, tmp_path: Path) -> None:
    for changes, error in (
        ({"sr": originals, "models": [model]}, UsageError),
        ({"sr": originals, "degradation": Degradation(jpeg=50)}, UsageError),
        ({"lr": originals, "degradation": Degradation(kernel="area")}, UsageError),
        ({"label": "x"}, UsageError),
        ({"models": ["bicubic", "auto"]}, UsageError),
        ({"metrics": ["beauty"]}, UsageError),
        ({"protocol": "mine"}, UsageError),
        ({"options": UpscaleOptions(scale=3), "paper_row": True}, UsageError),
        ({"report": "report.txt"}, UsageError),
        ({"output": originals}, OutputError),
        ({"output": originals / "parrot.png" / "x"}, OutputError),
        ({"lr": tmp_path / "none"}, InputError),
    ):
        with pytest.raises(error):
            bidiffsr_cli.evaluate(originals, **changes)  # type: ignore[arg-type]
