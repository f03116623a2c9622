"""Test sets, scores and their means."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from cli.support import tiny_checkpoint
from PIL import Image

from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.errors import InputError, UsageError
from bidiffsr_cli.evaluation import metrics
from bidiffsr_cli.evaluation.artefacts import NAMES
from bidiffsr_cli.evaluation.paper import METRICS, SETS, guess_set, paper_rows
from bidiffsr_cli.evaluation.protocol import rules
from bidiffsr_cli.evaluation.scoring import score_all
from bidiffsr_cli.evaluation.subjects import AtSteps, Bicubic, Finished
from bidiffsr_cli.evaluation.summary import student_t, summarize
from bidiffsr_cli.evaluation.testset import open_test_set
from bidiffsr_cli.evaluation.validate import Validation
from bidiffsr_cli.images.pixels import to_image, to_levels
from bidiffsr_cli.images.resizing import downscale_bicubic
from bidiffsr_cli.journal import Journal
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.pipeline import SuperResolver
from bidiffsr_cli.runtime import Machine, choose_runtime


@pytest.fixture
def originals(tmp_path: Path, pictures: Path) -> Path:
    """A folder of two photographs, one of odd size."""
    folder = tmp_path / "HR"
    folder.mkdir()
    for name, box in (("parrot", (0, 0, 96, 80)), ("houses", (10, 10, 111, 99))):
        with Image.open(pictures / f"{name}.png") as image:
            image.convert("RGB").crop(box).save(folder / f"{name}.png")
    return folder


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path)


def test_bicubic_is_scored_as_by_hand(originals: Path) -> None:
    (houses, parrot) = open_test_set(originals, 2)
    scores = score_all([houses, parrot], [Bicubic()], rules("paper", 2), ["psnr_y", "ssim_y", "lpips_alex", "lr_psnr"])
    assert [score.image for score in scores] == ["houses", "parrot"] and scores[0].size == (100, 88)
    with Image.open(originals / "houses.png") as image:
        hr = to_levels(image)[:, :88, :100]
    lr = downscale_bicubic(hr, 2)
    sr, _ = Bicubic().enlarge(houses.load(2), 2)
    assert scores[0].values["psnr_y"] == metrics.psnr_y(sr, hr, 2)
    assert scores[0].values["ssim_y"] == metrics.ssim_y(sr, hr, 2)
    assert scores[0].values["lr_psnr"] == metrics.psnr(downscale_bicubic(sr, 2), lr, 0)
    (summary,) = summarize(scores)
    values = [score.values["psnr_y"] for score in scores]
    assert summary.mean["psnr_y"] == pytest.approx(statistics.fmean(values))
    assert summary.interval["psnr_y"] == pytest.approx(12.7062 * abs(values[0] - values[1]) / 2, rel=1e-4)
    assert not summary.seconds and not summary.memory and summary.count == 2


def test_artefacts_are_pooled_and_left_out_where_they_cannot_be_told(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    for name, texture, added in (("flat", 0, 4), ("rough", 30, 4), ("small", 0, 2)):
        side = 40 if name == "small" else 72
        hr = 128 + texture * torch.randn(3, side, side, generator=draw)
        sr = hr + added * (1 - 2 * (torch.arange(side) % 2))
        for folder, levels in (("HR", hr), ("SR", sr)):
            save(to_image(levels.clamp(0, 255).round().to(torch.uint8), "RGB"), tmp_path / folder / f"{name}.png")
    cases = open_test_set(tmp_path / "HR", 2, finished=tmp_path / "SR")
    wanted = ["psnr_y", *NAMES]
    with Journal(tmp_path / "scores.jsonl") as journal:
        scores = score_all(cases, [Finished("stripes")], rules("paper", 2), wanted, journal=journal)
        assert score_all(cases, [Finished("stripes")], rules("paper", 2), wanted, journal=journal) == scores
    flat, rough, small = (score.values for score in scores)
    assert list(flat) == wanted and list(rough) == ["psnr_y", "comb", "cross"] and list(small) == ["psnr_y"]
    assert flat["grain"] == pytest.approx(4)
    (summary,) = summarize(scores)
    assert summary.mean["grain"] == flat["grain"] and summary.mean["weave"] == flat["weave"]  # the only one
    assert summary.mean["psnr_y"] == pytest.approx(statistics.fmean(score.values["psnr_y"] for score in scores))
    assert list(summary.interval) == ["psnr_y"]
    assert summary.artefacts is not None and summary.mean["comb"] == max(summary.artefacts.comb)
    (alone,) = summarize(score_all(cases, [Finished("stripes")], rules("paper", 2), ["comb"]))
    assert alone.mean == {"comb": summary.mean["comb"]}
    (none,) = summarize(score_all(cases[2:], [Finished("stripes")], rules("paper", 2), ["grain"]))
    assert none.mean == {} == none.interval


def test_finished_pictures_that_equal_the_originals(originals: Path) -> None:
    cases = open_test_set(originals, 2, finished=originals)
    scores = score_all(cases, [Finished("same")], rules("full", 2), ["psnr_y", "ssim_rgb", "lpips_alex", "lr_psnr"])
    for score in scores:
        assert score.values == {"psnr_y": 100.0, "ssim_rgb": pytest.approx(1), "lpips_alex": 0.0, "lr_psnr": 100.0}


def test_what_training_validates_is_what_eval_says(tmp_path: Path, pictures: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(tiny_checkpoint())
    checkpoint, runtime = read_checkpoint(file), choose_runtime(Machine("cpu", threads=1))
    for name, size in (("parrot", (99, 81)), ("houses", (70, 90))):
        with Image.open(pictures / f"{name}.png") as image:
            save(image.convert("RGB").crop((0, 0, *size)), tmp_path / "HR" / f"{name}.png")
    found = Validation(tmp_path / "HR")(checkpoint, runtime)
    resolver = SuperResolver(checkpoint, runtime)
    assert list(found) == ["2", "4"]
    for scale in (2, 4):
        subjects = [AtSteps(resolver, UpscaleOptions(scale=scale, steps=steps)) for steps in (1, 2, 3)]
        cases = open_test_set(tmp_path / "HR", scale)
        summaries = summarize(score_all(cases, subjects, rules("paper", scale), ["psnr_y", "lpips_alex"]))
        for steps, summary in zip(("1", "2", "3"), summaries, strict=True):
            assert found[str(scale)][steps] == {
                "psnr_y": round(summary.mean["psnr_y"], 4),
                "lpips_alex": round(summary.mean["lpips_alex"], 5),
            }
    save(Image.new("RGB", (63, 90)), tmp_path / "HR" / "narrow.png")
    with pytest.raises(InputError, match=r"narrow\.png is smaller than 64 pixels"):
        Validation(tmp_path / "HR")


def test_rows_of_one_name_are_refused(originals: Path) -> None:
    cases = open_test_set(originals, 2, finished=originals)
    with pytest.raises(UsageError, match="Two rows would be called 'bicubic'"):
        score_all(cases, [Bicubic(), Finished("bicubic")], rules("paper", 2), ["psnr_y"])


def test_results_are_no_originals(originals: Path) -> None:
    save(Image.new("RGB", (50, 44)), originals / "report" / "x.png")
    assert len(open_test_set(originals, 2, without=originals / "report")) == 2
    assert len(open_test_set(originals, 2)) == 3


@pytest.mark.parametrize(
    "pattern", ["{}.png", "{}x2.png", "{}_x2.png", "{}_LRBI_x2.png", "{}_SRF_2_LR.png", "{}X2.PNG"]
)
def test_pairs_by_name(originals: Path, pattern: str) -> None:
    for path in originals.iterdir():
        with Image.open(path) as image:
            save(
                image.crop((0, 0, image.width // 2, image.height // 2)),
                originals.parent / "LR" / pattern.format(path.stem),
            )
    cases = open_test_set(originals, 2, lr=originals.parent / "LR")
    assert [case.lr.name for case in cases if case.lr] == [pattern.format(case.name) for case in cases]


def test_what_is_wrong_with_a_set_is_listed(originals: Path, tmp_path: Path) -> None:
    lr = tmp_path / "LR"
    save(Image.new("RGB", (48, 40)), lr / "parrot.png")
    with pytest.raises(InputError, match=r"1 originals have not one picture .*: houses\.png"):
        open_test_set(originals, 2, lr=lr)
    save(Image.new("RGB", (48, 40)), lr / "houses.png")
    with pytest.raises(InputError, match=r"houses\.png is 48x40, its original 101x89"):
        open_test_set(originals, 2, lr=lr)
    with pytest.raises(InputError, match="Sizes") as caught:
        open_test_set(originals, 4, lr=lr)
    assert "--scale" in caught.value.hint
    save(Image.new("RGB", (50, 44)), lr / "houses_x2.png")
    with pytest.raises(InputError, match=r"houses\.png"):  # two small ones
        open_test_set(originals, 2, lr=lr)
    save(Image.new("RGB", (50, 44)), originals / "houses.jpg")
    with pytest.raises(InputError, match="Several originals have one name: houses"):
        open_test_set(originals, 2)
    with pytest.raises(InputError, match="no folder"):
        open_test_set(tmp_path / "none", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        open_test_set(tmp_path / "empty", 2)


def test_grey_is_compared_as_three_equal_channels(originals: Path, tmp_path: Path) -> None:
    """Most tools write a grey picture of a set as colour."""
    for path in originals.iterdir():
        with Image.open(path) as image:
            save(image.convert("L"), tmp_path / "grey" / path.name)
            save(image.convert("L").convert("RGB"), tmp_path / "colour" / path.name)
    for hr, finished in (("grey", "grey"), ("grey", "colour"), ("colour", "grey")):
        (case, _) = open_test_set(tmp_path / hr, 2, finished=tmp_path / finished)
        pixels = case.load(2)
        assert pixels.finished is not None and not pixels.remarks
        assert torch.equal(pixels.hr[0], pixels.hr[2]) and torch.equal(pixels.hr, pixels.finished)


def test_what_nobody_sees_is_not_scored(tmp_path: Path) -> None:
    seen = Image.new("RGBA", (64, 64), (200, 100, 50, 255))
    for folder, hidden in (("hr", (255, 0, 0, 0)), ("sr", (0, 0, 255, 0))):
        image = seen.copy()
        image.paste(hidden, (0, 0, 32, 64))
        save(image, tmp_path / folder / "a.png")
    (case,) = open_test_set(tmp_path / "hr", 2, finished=tmp_path / "sr")
    pixels = case.load(2)
    assert pixels.finished is not None and torch.equal(pixels.hr, pixels.finished)
    assert pixels.hr[:, 0, 0].tolist() == [255, 255, 255] and pixels.hr[:, 0, 63].tolist() == [200, 100, 50]
    assert len(pixels.remarks) == 2 and all("a.png" in text and "white" in text for text in pixels.remarks)


@pytest.mark.parametrize(
    ("original", "small"),
    [
        ("img_001_SRF_2_HR", "img_001_SRF_2_LR"),
        ("img_001", "img_001_SRF_2_LR"),
        ("Canon_001_HR", "Canon_001_LR2"),
        ("Canon_001_HR", "Canon_001_LR"),
        ("baby", "babyx2"),
        ("baby", "baby_LRBI_x2"),
    ],
)
def test_names_of_public_sets(tmp_path: Path, original: str, small: str) -> None:
    save(Image.new("RGB", (64, 48)), tmp_path / "HR" / f"{original}.png")
    save(Image.new("RGB", (32, 24)), tmp_path / "LR" / f"{small}.png")
    (case,) = open_test_set(tmp_path / "HR", 2, lr=tmp_path / "LR")
    assert case.lr is not None and case.lr.stem == small


def test_a_damaged_picture_is_named(originals: Path) -> None:
    (originals / "houses.png").write_bytes((originals / "houses.png").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"houses\.png"):
        open_test_set(originals, 2)[0].load(2)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        *[(1, 12.7062047361747), (2, 4.30265272974946), (3, 3.18244630528371), (4, 2.77644510519779)],
        *[(9, 2.26215716279820), (23, 2.06865761041904), (99, 1.98421695158642), (1000, 1.96233908082641)],
    ],
)
def test_students_t(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=1e-12)


def test_the_papers_table() -> None:
    assert paper_rows("Set5", 2)["BI-DiffSR"] == {"psnr_y": 35.68, "ssim_y": 0.9414, "lpips_alex": 0.0277}
    assert paper_rows("manga109", 4)["BNN"]["lpips_alex"] == 1.0117
    assert paper_rows("Set14", 2) == {} and paper_rows("Set5", 3) == {}
    for name in SETS:
        for scale in (2, 4):
            rows = paper_rows(name, scale)
            assert len(rows) == 9 and all(set(row) == set(METRICS) for row in rows.values())
    assert guess_set("/data/set5/HR") == "Set5" and guess_set("/data/other") == ""
