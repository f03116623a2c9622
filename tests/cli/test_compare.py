"""`bidiffsr compare`: pairing, scores, what it refuses, and the page it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, open_browser
from PIL import Image

from bidiffsr_cli.evaluation.metrics import load_lpips, psnr_y, ssim_y
from bidiffsr_cli.images.pixels import to_levels

from .support import Run, is_one_sentence, picture

NAMES = ("parrot", "houses", "lighthouse")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or the test is skipped."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def sets(folder: Path, pictures: Path) -> Path:
    """Three folders: originals, and those made small and large again in two ways."""
    for name in NAMES:
        with Image.open(pictures / f"{name}.png") as image:
            original = image.convert("RGB").crop((0, 0, 96, 64))
        small = original.resize((48, 32), Image.Resampling.BICUBIC)
        for kind in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC):
            Path(kind.name.lower()).mkdir(exist_ok=True)
            small.resize(original.size, kind).save(f"{kind.name.lower()}/{name}.png")
        Path("originals").mkdir(exist_ok=True)
        original.save(f"originals/{name}.webp", lossless=True)
    return folder


def test_two_pictures(sets: Path, run: Run) -> None:
    finished = run("compare", "nearest/parrot.png", "bicubic/houses.png", "-o", "page.html")
    assert finished.code == 0 and finished.out == b""
    assert re.fullmatch(r"page\.html: 1 picture in 2 versions, 0\.\d MB\n", finished.err)
    html = Path("page.html").read_text(encoding="utf-8")
    assert "<title>parrot · houses</title>" in html
    assert html.count('<figure class="view">') == 2 and "<caption>" not in html


def test_folders_with_originals(sets: Path, run: Run) -> None:
    args = ["nearest", "bicubic/", "--reference", "originals", "--label", "N", "--label", "B", "-s", "2"]
    result = run("compare", *args, "-o", "page.html", "--json").json
    assert result["versions"] == ["N", "B"] and result["output"] == "page.html"
    assert [image["name"] for image in result["images"]] == sorted(NAMES)
    html = Path("page.html").read_text(encoding="utf-8")
    assert "Means of 3 pictures" in html
    assert html.count("<option selected>N</option>") == html.count("<option selected>B</option>") == 3
    assert html.count("<figcaption>original</figcaption>") >= 3
    first = result["images"][0]
    levels = [to_levels(Image.open(file)) for file in ("nearest/houses.png", "originals/houses.webp")]
    assert first["size"] == [96, 64]
    assert first["scores"][0] == {
        "psnr_y": pytest.approx(psnr_y(*levels, 2)),
        "ssim_y": pytest.approx(ssim_y(*levels, 2)),
        "lpips_alex": pytest.approx(float(load_lpips()(*(x[None] / 255 for x in levels))[0])),
    }
    assert f"{first['scores'][0]['psnr_y']:.2f}" in html
    whole = run("compare", *args[:-2], "-o", "page.html", "--json", "--overwrite").json
    assert whole["images"][0]["scores"][0]["psnr_y"] != first["scores"][0]["psnr_y"]


def test_equal_pictures_have_no_psnr(sets: Path, run: Run) -> None:
    file = "originals/parrot.webp"
    result = run("compare", file, "bicubic/parrot.png", "--reference", file, "-o", "page.html", "--json").json
    assert result["images"][0]["scores"][0] == {"psnr_y": None, "ssim_y": pytest.approx(1), "lpips_alex": 0}
    assert "<b>∞</b>" in Path("page.html").read_text(encoding="utf-8")


def test_kinds_of_pictures(folder: Path, run: Run) -> None:
    """Grey, transparent, 16 bits, turned by EXIF: all become RGB of what is seen."""
    picture("L").save("grey.png")
    Image.new("RGBA", (24, 16), (255, 0, 0, 0)).save("clear.png")
    Image.new("I;16", (24, 16), 40_000).save("deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation
    picture(size=(16, 24)).save("turned.jpg", exif=exif)
    finished = run("compare", "photo.png", "grey.png", "clear.png", "deep.png", "turned.jpg", "-o", "page.html", "-q")
    assert (finished.code, finished.err) == (0, "")
    html = Path("page.html").read_text(encoding="utf-8")
    assert html.count('<figure class="view">') == 5 and "24 × 16 pixels" in html


def test_names_that_are_equal_become_paths(sets: Path, run: Run) -> None:
    assert run("compare", "nearest/parrot.png", "bicubic/parrot.png", "-o", "page.html").code == 0
    assert "nearest/parrot.png · bicubic/parrot.png" in Path("page.html").read_text(encoding="utf-8")


def test_an_existing_page_is_kept(sets: Path, run: Run) -> None:
    Path("page.html").write_text("old")
    args = ["compare", "nearest", "bicubic", "-o", "page.html"]
    assert run(*args).code == 2 and Path("page.html").read_text() == "old"
    assert run(*args, "--overwrite").code == 0 and Path("page.html").read_text() != "old"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["photo.png"], 2, "One picture cannot be compared."),
        (["photo.png", "photo.png", "-o", "page.png"], 2, "does not end in .html"),
        (["photo.png", "nearest"], 2, "Pictures and folders"),
        (["nearest", "bicubic", "--reference", "photo.png"], 2, "Pictures and folders"),
        (["photo.png", "photo.png", "--label", "one"], 2, "--label is given 1 time for 2 versions."),
        (["photo.png", "photo.png", "--scale", "-1"], 2, "--scale"),
        (["photo.png", "missing.png"], 4, "'missing.png' does not exist."),
        (["nearest", "bicubic", "--reference", "missing"], 4, "'missing' does not exist."),
        (["photo.png", "text.png"], 4, "'text.png'"),
        (["nearest", "empty"], 4, "'empty' holds no pictures."),
        (["photo.png", "bicubic/parrot.png"], 4, "'photo.png' has 24×16 pixels and 'bicubic/parrot.png' 96×64"),
        (
            ["photo.png", "photo.png", "--reference", "photo.png"],
            4,
            "photo.png: A picture of 24×16 is too small for LPIPS",
        ),
        (["photo.png", "photo.png", "-o", "missing/page.html"], 2, "The folder 'missing' does not exist."),
    ],
)
def test_refusals(sets: Path, run: Run, args: list[str], code: int, said: str) -> None:
    Path("text.png").write_text("hello")
    Path("empty").mkdir()
    before = sorted(sets.rglob("*"))
    finished = run("compare", *args, *([] if "-o" in args else ["-o", "page.html"]))
    assert finished.code == code and said in finished.err and finished.out == b""
    assert is_one_sentence(finished.err) and sorted(sets.rglob("*")) == before


def test_the_output_is_required(sets: Path, run: Run) -> None:
    finished = run("compare", "nearest", "bicubic")
    assert finished.code == 2 and "--output" in finished.err and is_one_sentence(finished.err)


def test_pictures_without_partner_are_listed(sets: Path, run: Run) -> None:
    Path("bicubic/houses.png").unlink()
    picture().save("nearest/more.png")
    finished = run("compare", "nearest", "bicubic", "--reference", "originals", "-o", "page.html")
    assert finished.code == 4 and "2 of 4 pictures are not in every folder: houses, more." in finished.err
    picture().save("bicubic/parrot.jpg")
    finished = run("compare", "nearest", "bicubic", "-o", "page.html")
    assert finished.code == 4 and "'bicubic' holds several pictures of one name: parrot.jpg." in finished.err


def test_the_page_is_not_written_over_a_picture(folder: Path, run: Run) -> None:
    Path("photo.png").rename("photo.html")
    picture().save("b.png")
    data = Path("photo.html").read_bytes()
    finished = run("compare", "photo.html", "b.png", "-o", "photo.html", "--overwrite")
    assert finished.code == 2 and "is the input itself" in finished.err and Path("photo.html").read_bytes() == data


def test_in_a_browser(sets: Path, run: Run, browser: Browser) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    Path("bicubic/parrot.png").rename(f"bicubic/{name}")
    assert run("compare", "nearest/parrot.png", f"bicubic/{name}", "-o", "page.html").code == 0
    page = sets / "page.html"
    browser.open(page)
    assert browser.messages() == [] and browser.requests() == [page.as_uri()]
    assert browser.find(".stage .right figcaption").text == "<img src=x onerror=alert(1)>"
    assert browser.find(".divider").get_attribute("aria-valuenow") == "50"
