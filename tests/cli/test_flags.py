"""Every option changes something that can be seen; one that does not is a promise that is not kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

from bidiffsr_cli import runtime
from bidiffsr_cli.cli.app import app

from .support import Finished, Run, decoded, picture

# option: the arguments without it, and with it; the pixels must differ
CHANGES_PIXELS: dict[str, tuple[list[str], list[str]]] = {
    "--steps": ([], ["--steps", "3"]),
    "--preset": ([], ["--preset", "best"]),
    "--sampler": (["--steps", "3"], ["--steps", "3", "--sampler", "dpmpp-2m"]),
    "--eta": (["--steps", "3"], ["--steps", "3", "--eta", "1"]),
    "--temperature": ([], ["--temperature", "0.2"]),
    "--seed": ([], ["--seed", "1"]),
    "--scale": ([], ["--scale", "4"]),
    "--tile": ([], ["--tile", "off"]),
    "--tile-overlap": ([], ["--tile-overlap", "0"]),
    "--alpha": ([], ["--alpha", "model"]),
    "--color-fix": ([], ["--color-fix", "lowfreq"]),
    "--width": ([], ["--width", "50"]),
    "--height": ([], ["--height", "50"]),
    "--long-side": ([], ["--long-side", "50"]),
    "--model": ([], ["--model", "other.safetensors"]),
}

# option: the arguments, the key of the JSON object, and what stands there
CHANGES_RECORD: dict[str, tuple[list[str], str, Any]] = {
    "--device": (["--device", "cpu"], "device", "cpu"),
    "--precision": (["--precision", "fp16"], "dtype", "float16"),
    "--backend": (["--backend", "reference"], "backend", "reference"),
    "--threads": (["--threads", "1"], "threads", 1),
}

# option: the test elsewhere, or below, that shows what it does
SHOWN_BELOW = {
    "--format",
    "--quality",
    "--strip-metadata",
    "--max-memory",
    "--overwrite",
    "--no-overwrite",
    "--provenance",
    "--no-provenance",
    "--dry-run",
    "--output",
    "--report",
    "--json",
    "--quiet",
    "--verbose",
    "--no-progress",
    "--debug",
}
NOTHING_YET = {"--offline"}  # accepted, and kept: the bundled models need no network


def test_no_option_is_forgotten() -> None:
    command = typer.main.get_command(app).commands["upscale"]  # type: ignore[attr-defined]
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts) if name[:2] == "--"}
    assert options == {*CHANGES_PIXELS, *CHANGES_RECORD, *SHOWN_BELOW, *NOTHING_YET}


@pytest.mark.parametrize("option", CHANGES_PIXELS)
def test_changes_the_pixels(folder: Path, upscale: Run, model: Path, option: str) -> None:
    picture("RGBA").save("clear.png")
    Path("other.safetensors").write_bytes(with_other_weights(model.read_bytes()))
    without, with_it = CHANGES_PIXELS[option]
    images = [pixels(upscale("clear.png", "-", *args)) for args in (without, with_it)]
    assert images[0] != images[1]


@pytest.mark.parametrize("option", CHANGES_RECORD)
def test_changes_the_record(folder: Path, upscale: Run, option: str) -> None:
    args, key, value = CHANGES_RECORD[option]
    assert upscale("photo.png", *args, "--json").json[key] == value


@pytest.mark.parametrize("option", ["--device", "--precision", "--backend", "--threads"])
def test_is_looked_at(folder: Path, upscale: Run, option: str) -> None:
    """What is the default on this machine changes nothing when given, but nonsense does."""
    assert upscale("photo.png", option, "-1").code == 2


@pytest.mark.parametrize(("format", "name"), [("jpg", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF"), ("tiff", "TIFF")])
def test_format(folder: Path, upscale: Run, format: str, name: str) -> None:
    assert decoded(upscale("photo.png", "-", "-f", format).out).format == name


def test_quality(folder: Path, upscale: Run) -> None:
    sizes = [len(upscale("photo.png", "-", "-f", "jpg", "--quality", quality).out) for quality in (10, 95)]
    assert sizes[0] < sizes[1]


def test_alpha_drop(folder: Path, upscale: Run) -> None:
    picture("RGBA").save("clear.png")
    assert decoded(upscale("clear.png", "-", "--alpha", "drop").out).mode == "RGB"


def test_strip_metadata(folder: Path, upscale: Run) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Somebody"  # Artist
    picture().save("named.jpg", exif=exif, dpi=(300, 300))
    kept, stripped = (decoded(upscale("named.jpg", "-", *args).out) for args in ([], ["--strip-metadata"]))
    assert kept.getexif()[0x013B] == "Somebody" and "dpi" in kept.info
    assert 0x013B not in stripped.getexif() and "dpi" not in stripped.info


def test_max_memory(folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lowers what runs at once, and never changes a pixel."""
    monkeypatch.setattr(runtime.memory, "resident_memory", lambda: 0)  # that of the other tests is none of its business
    picture(size=(200, 150)).save("large.png")
    args = ["large.png", "-", "--threads", "16", "--tile", "64"]
    plan = upscale(*args, "--dry-run", "--json").json
    assert plan["tiles"]["concurrent"] == 16
    memory = f"{plan['estimate']['memory_bytes'] - 12_000_000}B"  # of about 30 MB that 16 windows take
    assert 1 <= upscale(*args, "--dry-run", "--json", "--max-memory", memory).json["tiles"]["concurrent"] < 16
    assert pixels(upscale(*args)) == pixels(upscale(*args, "--max-memory", memory))


def test_quiet_says_nothing(folder: Path, upscale: Run) -> None:
    picture("RGBA").save("clear.png")
    finished = upscale("clear.png", "big.jpg", "--quiet")
    assert (finished.code, finished.out, finished.err) == (0, b"", "")


def test_quiet_still_says_what_is_wrong(folder: Path, upscale: Run) -> None:
    assert upscale("missing.png", "-q").err.startswith("Error: ")


def test_verbose_shows_the_phases(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "--verbose")
    for phase in ("load model", "decode", "sample", "encode", "total", "device", "windows"):
        assert f"\n  {phase} " in finished.err


def test_debug_shows_where(folder: Path, upscale: Run) -> None:
    assert "Traceback" not in upscale("text.png").err
    Path("text.png").write_text("hello")
    finished = upscale("text.png", "--debug")
    assert finished.code == 4 and "Traceback" in finished.err and "Error: " in finished.err


def test_offline_is_accepted(folder: Path, upscale: Run) -> None:
    assert upscale("photo.png", "--offline").code == 0


def pixels(finished: Finished) -> tuple[tuple[int, int], bytes]:
    """Size and pixels of a picture on stdout."""
    assert finished.code == 0, finished.err
    image = decoded(finished.out)
    return image.size, image.tobytes()


def with_other_weights(data: bytes) -> bytes:
    """The same checkpoint with other values in its first convolution, which is stored as float16."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    start, end = next(entry["data_offsets"] for name, entry in header.items() if "stem" in name)
    start, end = 8 + length + start, 8 + length + end
    values = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float16)
    return data[:start] + bytes((values * 3).view(torch.uint8).tolist()) + data[end:]
