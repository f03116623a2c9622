"""What cannot work is refused before the work: one clear sentence, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import Run, finish, is_one_sentence, picture, spawn


def truncated_jpeg() -> None:
    picture(size=(200, 100)).save("whole.jpg")
    data = Path("whole.jpg").read_bytes()
    Path("whole.jpg").unlink()
    Path("photo.jpg").write_bytes(data[: len(data) // 2])


def damaged_checkpoint(model: Path) -> None:
    data = bytearray(model.read_bytes())
    Path("cut.safetensors").write_bytes(data[: len(data) // 2])
    Path("text.safetensors").write_text("no checkpoint at all")


# name: what to prepare, the arguments, the exit code, and a word of the sentence
SHOWN_WHEN: dict[str, tuple[Callable[[], object], list[str], int, str]] = {
    "truncated JPEG": (truncated_jpeg, ["photo.jpg"], 4, "damaged or incomplete"),
    "text named .png": (lambda: Path("text.png").write_text("hello"), ["text.png"], 4, "not a picture"),
    "0 bytes": (lambda: Path("none.png").touch(), ["none.png"], 4, "empty"),
    "missing": (lambda: None, ["missing.png"], 4, "does not exist"),
    "folder": (lambda: Path("pictures").mkdir(), ["pictures"], 4, "no pictures"),
    "no such folder": (lambda: None, ["photo.png", "nowhere/big.png"], 2, "does not exist"),
    "a file as folder": (lambda: None, ["photo.png", "photo.png/big.png"], 2, "is a file"),
    "stdin to a folder": (lambda: Path("big.png").mkdir(), ["-", "big.png"], 2, "folder"),
    "scale 3": (lambda: None, ["photo.png", "--scale", "3"], 2, "does not enlarge x3"),
    "scale 100000": (lambda: None, ["photo.png", "--scale", "100000"], 2, "Scale 100000"),
    "scale 10**12": (lambda: None, ["photo.png", "--scale", "1000000000000"], 2, "Scale 1000000000000"),
    "scale 8 and memory": (lambda: None, ["photo.png", "-s8", "--max-memory", "1MB"], 2, "does not enlarge x8"),
    "empty output": (lambda: None, ["photo.png", ""], 2, "for 'inputs'"),
    "empty model": (lambda: None, ["photo.png", "--model", ""], 2, "for 'model'"),
    "0 steps": (lambda: None, ["photo.png", "--steps", "0"], 2, "0 steps"),
    "too many steps": (lambda: None, ["photo.png", "--steps", "2001"], 2, "2001 steps"),
    "unknown model": (lambda: None, ["photo.png", "--model", "best-ever"], 5, "best-ever"),
    "unknown suffix": (lambda: None, ["photo.png", "big.gif"], 2, ".gif"),
    "suffix and format": (lambda: None, ["photo.png", "big.jpg", "--format", "png"], 2, "jpg"),
    "output is input": (lambda: None, ["photo.png", "photo.png", "--overwrite"], 2, "is the input itself"),
    "too large for webp": (lambda: picture("L", (5000, 1)).save("long.png"), ["long.png", "l.webp", "-s4"], 2, "WEBP"),
    "report in txt": (lambda: None, ["photo.png", "--report", "run.txt"], 2, "run.txt"),
    "report nowhere": (lambda: None, ["photo.png", "--report", "nowhere/run.csv"], 2, "nowhere"),
    "report is output": (lambda: None, ["photo.png", "b.md", "-f", "png", "--report", "b.md"], 2, "report"),
    "both sizes": (lambda: None, ["photo.png", "--width", "9", "--long-side", "9"], 2, "long side"),
    "no width": (lambda: None, ["photo.png", "--width", "0"], 2, "--width"),
    "quality 0": (lambda: None, ["photo.png", "--quality", "0"], 2, "--quality"),
    "seed -1": (lambda: None, ["photo.png", "--seed", "-1"], 2, "-1"),
    "tile 0": (lambda: None, ["photo.png", "--tile", "0"], 2, "Tile"),
    "odd tile": (lambda: None, ["photo.png", "--tile", "33"], 2, "33"),
    "wide overlap": (lambda: None, ["photo.png", "--tile-overlap", "30"], 2, "30"),
    "eta 2": (lambda: None, ["photo.png", "--eta", "2"], 2, "2.0"),
    "temperature 2": (lambda: None, ["photo.png", "--temperature", "2"], 2, "2.0"),
    "0 threads": (lambda: None, ["photo.png", "--threads", "0"], 2, "threads"),
    "memory without unit": (lambda: None, ["photo.png", "--max-memory", "800"], 2, "800"),
    "too little memory": (lambda: None, ["photo.png", "--max-memory", "1MB"], 6, "memory"),
    "unknown device": (lambda: None, ["photo.png", "--device", "abacus"], 2, "abacus"),
    "absent device": (lambda: None, ["photo.png", "--device", "cuda:99"], 6, "cuda:99"),
    "native in fp16": (lambda: None, ["photo.png", "--backend", "native", "--precision", "fp16"], 2, "bf16"),
    "quiet and verbose": (lambda: None, ["photo.png", "-q", "-v"], 2, "--quiet"),
}


@pytest.mark.parametrize("case", SHOWN_WHEN)
def test_refused_with_one_sentence(folder: Path, upscale: Run, case: str) -> None:
    prepare, args, code, word = SHOWN_WHEN[case]
    prepare()
    before = contents(folder)
    finished = upscale(*args)
    assert finished.code == code, finished.err
    assert finished.out == b"" and word in finished.err
    assert is_one_sentence(finished.err), finished.err
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["big.png", "--width", "9999999999"], "Ask for a smaller picture."),
        (["big.tiff", "--width", "9999999999"], "Ask for a smaller picture."),
        (["big.jpg", "--width", "70000"], "Make it PNG, by the file's name or --format."),
        (["photo.png/big.png"], "Choose another folder."),
        (["photo.png/deep/big.png"], "Choose another folder."),
        (["nowhere/big.png"], "Create it: mkdir -p 'nowhere'"),
    ],
)
def test_what_is_advised_works(folder: Path, upscale: Run, args: list[str], hint: str) -> None:
    finished = upscale("photo.png", *args)
    assert finished.code == 2 and hint in finished.err


@pytest.mark.parametrize("file", ["cut.safetensors", "text.safetensors"])
def test_damaged_checkpoint(folder: Path, upscale: Run, model: Path, file: str) -> None:
    damaged_checkpoint(model)
    before = contents(folder)
    finished = upscale("photo.png", "--model", file)
    assert finished.code == 5 and file in finished.err and is_one_sentence(finished.err)
    assert contents(folder) == before


def test_write_protected_folder(folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")  # root may write everywhere
    finished = upscale("photo.png", "locked/big.png")
    assert finished.code == 2 and "write-protected" in finished.err and is_one_sentence(finished.err)
    assert contents(folder / "locked") == {}


@pytest.mark.parametrize("link", ["symlink", "hard link"])
def test_the_input_is_not_overwritten_through_a_link(folder: Path, upscale: Run, link: str) -> None:
    if link == "symlink":
        Path("big.png").symlink_to("photo.png")
    else:
        Path("big.png").hardlink_to("photo.png")
    before = contents(folder)
    finished = upscale("photo.png", "big.png", "--overwrite")
    assert finished.code == 2 and "is the input itself" in finished.err
    assert contents(folder) == before


def test_an_existing_output_keeps_its_bytes(folder: Path, upscale: Run) -> None:
    Path("photo_x2.png").write_bytes(b"precious")
    finished = upscale("photo.png")
    assert finished.code == 2 and "--overwrite" in finished.err
    assert Path("photo_x2.png").read_bytes() == b"precious"


def test_an_existing_report_keeps_its_bytes(folder: Path, upscale: Run) -> None:
    Path("run.csv").write_text("precious")
    assert upscale("photo.png", "--report", "run.csv").code == 2
    assert Path("run.csv").read_text() == "precious" and not Path("photo_x2.png").exists()


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--width", "300000", "--height", "300000"], 6, "memory"),
        (["--max-memory", "1MB"], 6, "memory"),
        (["--steps", "2", "--preset", "fast"], 2, "preset"),
        (["--sampler", "ddpm", "--eta", "0.5"], 2, "eta"),
        (["--tile", "off", "--tile-overlap", "8"], 2, "overlap"),
        (["--model", "m" * 300], 5, "no model"),
    ],
)
def test_what_would_be_ignored_or_fail_late_is_refused_early(
    folder: Path, upscale: Run, args: list[str], code: int, word: str
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    finished = upscale("photo.png", *args)
    assert finished.code == code and word in finished.err and is_one_sentence(finished.err)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_json_says_how_it_failed(folder: Path, upscale: Run) -> None:
    finished = upscale("absent.png", "--json")
    assert finished.code == 4 and finished.json["status"] == "failed"
    assert finished.json["error"]["exit_code"] == 4 and "absent.png" in finished.json["error"]["message"]


def test_stdout_carries_one_thing(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "-", "--json")
    assert finished.code == 2 and is_one_sentence(finished.err)
    failure = json.loads(finished.out)
    assert failure["status"] == "failed" and failure["error"]["exit_code"] == 2


@pytest.mark.parametrize("given", [b"", b"no picture"])
def test_stdin_without_a_picture(folder: Path, upscale: Run, given: bytes) -> None:
    finished = upscale("-", "big.png", given=given)
    assert finished.code == 4 and "Standard input" in finished.err and is_one_sentence(finished.err)


def test_the_real_command_too(folder: Path, model: Path) -> None:
    """In a process of its own, where Python's warnings and late messages would show."""
    Path("text.png").write_text("hello")
    before = contents(folder)
    finished = finish(spawn(["upscale", "text.png", "--model", model]))
    assert finished.code == 4 and finished.out == b"" and is_one_sentence(finished.err)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Names and bytes of everything in a folder; folders have none."""
    return {path.name: b"" if path.is_dir() else path.read_bytes() for path in folder.iterdir()}
