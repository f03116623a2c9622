"""A page that compares pictures, from Python: what is written, what comes back, and what is heard."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cli.contract import mistakes
from PIL import Image

import bidiffsr_cli
from bidiffsr_cli.errors import InputError, OutputError, UsageError
from bidiffsr_cli.tasks import compare as task
from bidiffsr_cli.tasks.compare import ComparedPicture, CompareRequest, run

from .conftest import Notes


@pytest.fixture
def sets(tmp_path: Path, pictures: Path) -> Path:
    """A folder with originals/ in it, and nearest/ and bicubic/: the same made small and large again."""
    for name in ("parrot", "houses"):
        with Image.open(pictures / f"{name}.png") as image:
            original = image.convert("RGB").crop((0, 0, 64, 48))
        small = original.resize((32, 24), Image.Resampling.BICUBIC)
        versions = {
            kind.name.lower(): small.resize((64, 48), kind)
            for kind in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
        }
        for folder, version in {"originals": original, **versions}.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            version.save(tmp_path / folder / f"{name}.png")
    return tmp_path


def test_folders_against_originals(sets: Path, notes: Notes) -> None:
    page = sets / "page.html"
    request = CompareRequest(
        [sets / "nearest", sets / "originals"], page, reference=sets / "originals", labels=["N", "O"], border=2
    )
    comparison = run(request, notes)
    assert (comparison.output, comparison.versions) == (str(page), ["N", "O"])
    assert [(image.name, image.size) for image in comparison.images] == [("houses", (64, 48)), ("parrot", (64, 48))]
    scores = comparison.images[0].scores
    assert scores is not None and 15 < scores[0]["psnr_y"] < 40
    assert scores[1] == {"psnr_y": math.inf, "ssim_y": pytest.approx(1), "lpips_alex": 0}
    found = comparison.to_dict()
    assert not mistakes(found) and found["images"][0]["scores"][1]["psnr_y"] is None
    html = page.read_text(encoding="utf-8")
    assert "Means of 2 pictures" in html and f"{scores[0]['psnr_y']:.2f}" in html
    ((word, said),) = notes.said
    assert word == "message" and said.startswith(f"{page}: 2 pictures in 2 versions, ")


def test_two_files(sets: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    monkeypatch.chdir(sets)
    comparison = bidiffsr_cli.compare(["nearest/parrot.png", "bicubic/houses.png"], "page.html")
    assert comparison.versions == ["parrot", "houses"]
    assert comparison.images == [ComparedPicture("parrot.png", (64, 48), None)]
    monkeypatch.setattr(task, "LARGE", 1000)
    run(CompareRequest(["nearest/parrot.png", "bicubic/parrot.png"], "large.html"), notes)
    assert [word for word, _ in notes.said] == ["warning", "message"] and "large" in notes.said[0][1]


def test_what_is_refused(sets: Path) -> None:
    one, folder, page = sets / "nearest" / "parrot.png", sets / "bicubic", sets / "page.html"
    page.write_text("mine")
    for sources, changes, error in (
        ([one], {}, UsageError),
        ([one, one], {"output": sets / "page.png"}, UsageError),
        ([one, folder], {}, UsageError),
        ([one, one], {"labels": ["one"]}, UsageError),
        ([one, one], {}, OutputError),
        ([one, sets / "missing.png"], {"overwrite": True}, InputError),
        ([folder, sets], {"overwrite": True}, InputError),
    ):
        with pytest.raises(error):
            bidiffsr_cli.compare(sources, **{"output": page} | changes)  # type: ignore[arg-type]
    assert page.read_text() == "mine"
