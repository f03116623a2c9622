"""On the native engine commands do without torch, whose import takes a second and 200 MB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_native
from PIL import Image, ImageCms

from .support import environment, tiny_checkpoint

PICTURES = Path(__file__).parents[1] / "pictures"
PROGRAM = """
import json, sys
from bidiffsr_cli import runtime
from bidiffsr_cli.cli.app import main
runtime.devices._may_have_accelerator = lambda: False  # on a machine that has one, torch is asked which
unwanted, commands = json.loads(sys.argv[1])
for words, expected in commands:
    code, imported = main(words), sorted({*unwanted} & {*sys.modules})
    if code != expected or imported:
        sys.exit(f"{words}: exit code {code}, imported {imported}")
"""


def run(*lines, folder, unwanted=("torch",)) -> str:
    """Run commands as their user does, one after the other in one process; its standard output.

    Args:
        lines: what is typed behind `bidiffsr`, or that and the exit code.
        folder: where.
        unwanted: modules that are not to be imported.
    """
    pairs = [(line, 0) if isinstance(line, str) else line for line in lines]
    commands = [(line.split(), code) for line, code in pairs]
    command = [sys.executable, "-c", PROGRAM, json.dumps([unwanted, commands])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
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
def test_upscale(pictures):
    run(
        "upscale photo.jpg photo.png",
        "upscale photo.jpg photo.webp --scale 4 --color-fix lowfreq --model auto",
        "upscale grey.png grey.jpg --sampler dpmpp-2m --steps 3",
        "upscale sixteen.png deep.png --precision fp32",
        "upscale clear.png lanczos.png",
        "upscale clear.png model.png --alpha model --tile 32 --long-side 90",
        "upscale tagged.tiff big.tiff --report report.json --json",
        "upscale photo.jpg --dry-run",
        folder=pictures,
    )


@needs_native
@pytest.mark.parametrize("system", ["bnn", "reactnet", "b-add"])
def test_upscale_by_what_the_paper_compares(pictures, system):
    (pictures / "rival.safetensors").write_bytes(tiny_checkpoint(system=system))
    run("upscale photo.jpg photo.png --model rival.safetensors", "models show rival.safetensors", folder=pictures)


@needs_native
def test_batch(pictures):
    assert json.loads(run("batch . --json", folder=pictures))["counts"]["done"] == 5


@needs_native
def test_what_computes_little(tmp_path):
    (tmp_path / "mine.toml").write_text('preset = "fast"')
    commands = (
        "doctor",
        "cost",
        "cost --all",
        "cost mine.toml",
        "models show fast",
        "models verify",
        "train fast --show",
    )
    run(*commands, folder=tmp_path)


def test_what_computes_nothing_imports_nothing_large(tmp_path):
    run(
        "--help",
        "-h",
        "--version",
        "upscale --help",
        "doctor -h",
        "bench -h",
        "compare -h",
        "models list",
        "models path fast",
        ("", 2),
        ("upscale", 2),
        ("upscale photo.png --steps 0", 2),
        ("bench --json --markdown", 2),
        ("compare a.png b.png -o page.txt", 2),
        ("compare no-such-photo.png b.png -o page.html", 4),
        ("upscale there-is-no-such-file.png", 4),
        ("upscale no-such-photo.png --report run.txt", 4),
        folder=tmp_path,
        unwanted=("torch", "PIL", "safetensors", "numpy"),
    )
