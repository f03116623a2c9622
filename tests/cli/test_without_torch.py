"""On the native engine commands do without torch, whose import takes a second and 200 MB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_native
from PIL import Image, ImageCms

PICTURES = Path(__file__).parents[1] / "pictures"
PROGRAM = """
import sys
from pathlib import Path
from bidiffsr_cli import runtime
from bidiffsr_cli.cli.app import main
runtime.devices._may_have_accelerator = lambda: False  # on a machine that has one, torch is asked which
code = main()
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def run(*words, folder) -> str:
    """Run a command as its user does; its standard output."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    *said, imported = done.stderr.splitlines()
    assert done.returncode == 0, said
    assert imported == "False", f"{words} imported torch"
    return done.stdout


@pytest.fixture
def pictures(tmp_path):
    """Pictures of every kind that has a way of its own."""
    with Image.open(PICTURES / "parrot.png") as image:
        small = image.convert("RGB").resize((40, 28))
    small.save(tmp_path / "photo.jpg", quality=60, exif=Image.Exif())
    small.convert("L").save(tmp_path / "grey.png")
    Image.linear_gradient("L").resize((30, 20)).convert("I").point(lambda v: v * 257).convert("I;16").save(
        tmp_path / "sixteen.png"
    )
    small.putalpha(Image.linear_gradient("L").resize(small.size).point(lambda v: max(0, v - 99)))
    small.save(tmp_path / "clear.png")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    small.convert("RGB").save(tmp_path / "tagged.tiff", icc_profile=lab.tobytes())
    return tmp_path


@needs_native
@pytest.mark.parametrize(
    "words",
    [
        ("photo.jpg", "out.png"),
        ("photo.jpg", "out.webp", "--scale", 4, "--color-fix", "lowfreq", "--model", "auto"),
        ("grey.png", "out.jpg", "--sampler", "dpmpp-2m", "--steps", 3),
        ("sixteen.png", "out.png", "--precision", "fp32"),
        ("clear.png", "out.png"),
        ("clear.png", "out.png", "--alpha", "model", "--tile", 32, "--long-side", 90),
        ("tagged.tiff", "out.tiff", "--report", "report.json", "--json"),
        ("photo.jpg", "--dry-run"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_upscale(words, pictures):
    run("upscale", *words, folder=pictures)


@needs_native
def test_batch(pictures):
    told = run("batch", ".", "--json", folder=pictures)
    assert json.loads(told)["counts"]["done"] == 5


@needs_native
@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("upscale", "--help"),
        ("doctor",),
        ("cost",),
        ("cost", "--all"),
        ("cost", "mine.toml"),
        ("models", "list"),
        ("models", "show", "fast"),
        ("models", "verify"),
    ],
    ids=" ".join,
)
def test_what_computes_little(words, tmp_path):
    (tmp_path / "mine.toml").write_text('preset = "fast"')
    run(*words, folder=tmp_path)
