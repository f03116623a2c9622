"""What `bidiffsr upscale` writes and says when all goes well."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from bidiffsr_cli.configs import UpsamplerConfig
from bidiffsr_cli.images import read_provenance

from .support import HEIGHT, WIDTH, Run, decoded, picture, tiny_checkpoint

KEYS = {
    *(
        "schema",
        "input",
        "output",
        "status",
        "input_size",
        "input_quality",
        "output_size",
        "scale",
        "model",
        "steps",
        "sampler",
        "seed",
    ),
    *("device", "dtype", "backend", "isa", "threads", "tiles", "seconds", "peak_memory_bytes", "warnings"),
    *("environment", "eta", "temperature"),
}


def test_one_line_and_one_file(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png")
    assert (finished.code, finished.out) == (0, b"")
    line = r"photo\.png 24x16 -> photo_x2\.png 48x32 in \S+ s \(tiny, 1 step, 2 windows, \d+ MB\)\n"
    assert re.fullmatch(line, finished.err)
    assert decoded(Path("photo_x2.png")).size == (2 * WIDTH, 2 * HEIGHT)
    assert sorted(path.name for path in folder.iterdir()) == ["photo.png", "photo_x2.png"]


def test_default_name_lies_beside_the_input(folder: Path, upscale: Run) -> None:
    Path("sub").mkdir()
    picture().save("sub/a.b.jpg")
    assert upscale("sub/a.b.jpg", "--scale", "4", "--format", "webp").code == 0
    assert decoded(Path("sub/a.b_x4.webp")).size == (4 * WIDTH, 4 * HEIGHT)


def test_names_of_all_kinds(folder: Path, upscale: Run) -> None:
    for name in ("Füße 画 [bold].png", "-dash.png", "two\nlines.png", "esc\x1b[31m.png"):
        picture().save(folder / name)
        finished = upscale(folder / name)
        assert finished.code == 0 and finished.err.count("\n") == 1 and "\x1b" not in finished.err
    assert (folder / "Füße 画 [bold]_x2.png").exists()


def test_json_is_one_object_and_nothing_else(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "big.png", "--json", "--seed", "7")
    assert finished.code == 0 and finished.err == ""
    result = finished.json
    assert set(result) == KEYS
    assert (result["schema"], result["status"]) == ("bidiffsr/1", "done")
    assert (result["input"], result["output"]) == ("photo.png", "big.png")
    assert (result["input_size"], result["output_size"]) == ([WIDTH, HEIGHT], [2 * WIDTH, 2 * HEIGHT])
    assert set(result["seconds"]) == {"total", "load_model", "decode", "sample", "encode", "per_step"}
    phases = ("load_model", "decode", "sample", "encode")
    assert result["seconds"]["total"] >= 0.99 * sum(result["seconds"][phase] for phase in phases)
    assert result["seed"] == 7 and result["model"]["name"] == "tiny" and len(result["model"]["sha256"]) == 64


def test_the_same_again_has_the_same_bytes(folder: Path, upscale: Run) -> None:
    for name in ("a.png", "b.png"):
        assert upscale("photo.png", name).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_overwrite_replaces_picture_and_report(folder: Path, upscale: Run) -> None:
    for name in ("big.png", "run.json"):
        Path(name).write_text("old")
    assert upscale("photo.png", "big.png", "--report", "run.json", "--overwrite").code == 0
    assert decoded(Path("big.png")).size == (2 * WIDTH, 2 * HEIGHT)
    assert json.loads(Path("run.json").read_text())["images"][0]["output"] == "big.png"


def test_reports(folder: Path, upscale: Run) -> None:
    for suffix in ("json", "csv", "md"):
        assert upscale("photo.png", f"{suffix}.png", "--report", f"run.{suffix}").code == 0
    assert json.loads(Path("run.json").read_text())["images"][0]["steps"] == 1
    assert next(csv.DictReader(Path("run.csv").read_text().splitlines()))["model"] == "tiny"
    assert "| photo.png | 24x16 | 48x32 | tiny |" in Path("run.md").read_text()


def test_a_random_seed_is_said_and_recorded(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "big.png", "--seed", "random", "--report", "run.json")
    seed = json.loads(Path("run.json").read_text())["images"][0]["seed"]
    assert f"seed {seed}," in finished.err
    assert upscale("photo.png", "again.png", "--seed", seed).code == 0
    assert Path("again.png").read_bytes() == Path("big.png").read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tiff"])
def test_provenance(folder: Path, upscale: Run, suffix: str) -> None:
    assert upscale("photo.png", f"with.{suffix}", "--seed", "5").code == 0
    assert upscale("photo.png", f"without.{suffix}", "--no-provenance").code == 0
    record = read_provenance(decoded(Path(f"with.{suffix}")))
    assert record is not None
    assert {"model": "tiny", "steps": "1", "seed": "5", "sampler": "ddim"}.items() <= record.items()
    assert record["precision"] in ("float32", "bfloat16") and record["backend"] in ("native", "reference")
    assert read_provenance(decoded(Path(f"without.{suffix}"))) is None


def test_dry_run_writes_nothing(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "--dry-run", "--report", "run.md", "--long-side", "100")
    assert finished.code == 0 and finished.err == ""
    for said in ("photo_x2.png 100x67", "PNG", "windows", "overlap 8", "1 (ddim", "about", "MB", "tiny"):
        assert said in finished.out.decode()
    assert [path.name for path in folder.iterdir()] == ["photo.png"]


def test_dry_run_as_json(folder: Path, upscale: Run) -> None:
    finished = upscale("photo.png", "--dry-run", "--json")
    assert finished.code == 0 and finished.err == ""
    result = finished.json
    assert set(result) == KEYS | {"estimate"} and result["status"] == "planned"
    assert result["estimate"]["seconds"] > 0 and result["estimate"]["memory_bytes"] > 10**6
    assert [path.name for path in folder.iterdir()] == ["photo.png"]


def test_dry_run_checks_what_a_run_checks(folder: Path, upscale: Run) -> None:
    Path("photo_x2.png").touch()
    assert upscale("photo.png", "--dry-run").code == 2
    assert upscale("missing.png", "--dry-run").code == 4


def test_what_a_format_cannot_keep_is_said(folder: Path, upscale: Run) -> None:
    picture("RGBA").save("clear.png")
    finished = upscale("clear.png", "big.jpg")
    assert finished.code == 0 and "Warning: JPEG has no transparency" in finished.err
    finished = upscale("clear.png", "again.jpg", "--json")
    assert "transparency" in finished.json["warnings"][0] and finished.err.count("\n") == 1


def three(folder: Path, *suffixes: str) -> list[str]:
    """Pictures a, b and c."""
    names = [f"{letter}{suffix}" for letter, suffix in zip("abc", suffixes, strict=False)]
    for index, name in enumerate(names):
        picture(size=(WIDTH + index, HEIGHT)).save(folder / name)
    return names


def test_several_pictures_as_a_shell_expands_them(folder: Path, upscale: Run) -> None:
    names = three(folder, ".jpg", ".png", ".webp")
    finished = upscale(*names, "--json", "--report", "run.json")
    assert finished.code == 0 and finished.json["counts"] == {"done": 3, "failed": 0, "left": 0}
    for index, letter in enumerate("abc"):
        assert decoded(Path(f"{letter}_x2.png")).size == (2 * (WIDTH + index), 2 * HEIGHT)
    assert [image["input"] for image in json.loads(Path("run.json").read_text())["images"]] == names
    assert upscale("a.jpg", "alone.png").code == 0
    assert Path("alone.png").read_bytes() == Path("a_x2.png").read_bytes()


@pytest.mark.parametrize("folder_name", ["out", "out/", "new/deeper/"])
def test_several_pictures_into_a_folder(folder: Path, upscale: Run, folder_name: str) -> None:
    names = three(folder, ".jpg", ".png", ".webp")
    finished = upscale(*names, "-o", folder_name, "--format", "jpg")
    assert finished.code == 0, finished.err
    assert sorted(path.name for path in Path(folder_name).iterdir()) == ["a_x2.jpg", "b_x2.jpg", "c_x2.jpg"]
    assert len(finished.err.splitlines()) == 3


def test_two_pictures_that_are_there_are_two_inputs(folder: Path, upscale: Run) -> None:
    """What a shell makes of *.jpg in a folder of two: the second is no output."""
    names = three(folder, ".jpg", ".jpg")
    before = [Path(name).read_bytes() for name in names]
    assert upscale(*names).code == 0
    assert [Path(name).read_bytes() for name in names] == before
    assert Path("a_x2.png").exists() and Path("b_x2.png").exists()
    refused = upscale(*names, "--overwrite")
    assert refused.code == 2 and "b.jpg' is a picture that was not made here" in refused.err
    assert [Path(name).read_bytes() for name in names] == before
    assert upscale("a.jpg", "-o", "b.jpg").code == 2
    assert upscale("a.jpg", "-o", "b.jpg", "--overwrite").code == 0
    assert decoded(Path("b.jpg")).size == (2 * WIDTH, 2 * HEIGHT)


def test_an_output_that_was_made_here_is_one_again(folder: Path, upscale: Run) -> None:
    for name in ("big.png", "big.jpg", "big.avif"):
        assert upscale("photo.png", name).code == 0
        exists = upscale("photo.png", name)
        assert exists.code == 2 and "exists already" in exists.err
        assert upscale("photo.png", name, "--overwrite", "--seed", "3").code == 0
        assert read_provenance(decoded(Path(name)))["seed"] == "3"  # type: ignore[index]


def kind_of(path: Path) -> str | None:
    with Image.open(path) as image:
        return image.format


def test_the_format_of_the_input(folder: Path, upscale: Run) -> None:
    names = three(folder, ".jpg", ".webp", ".bmp")
    assert upscale(*names, "-f", "same", "-o", "out/").code == 0
    kinds = {path.name: kind_of(path) for path in Path("out").iterdir()}
    assert kinds == {"a_x2.jpg": "JPEG", "b_x2.webp": "WEBP", "c_x2.png": "PNG"}
    assert upscale(".", "-f", "same", "-o", "batch").code == 0
    kinds = {path.name: kind_of(path) for path in Path("batch").glob("[abc]*")}
    assert kinds == {"a.jpg": "JPEG", "b.webp": "WEBP", "c.png": "PNG"}


def test_one_of_several_that_cannot_be_read(folder: Path, upscale: Run) -> None:
    names = three(folder, ".jpg", ".png", ".webp")
    Path("b.png").write_bytes(Path("b.png").read_bytes()[:60])
    finished = upscale(*names, "--json")
    assert finished.code == 3 and finished.json["counts"] == {"done": 2, "failed": 1, "left": 0}
    assert [image["status"] for image in finished.json["images"]] == ["done", "failed", "done"]
    assert "b.png" in finished.json["images"][1]["error"] and "1 of 3 pictures failed: b.png" in finished.err


def test_a_result_never_replaces_another_input(folder: Path, upscale: Run) -> None:
    names = three(folder, ".jpg", ".jpg", ".jpg")
    picture(size=(10, 10)).save("a_x2.png")
    before = Path("a_x2.png").read_bytes()
    refused = upscale("a.jpg", "a_x2.png", "c.jpg", "--overwrite")
    assert refused.code == 2 and "a_x2.png' is an input itself" in refused.err
    assert Path("a_x2.png").read_bytes() == before and len(names) == 3


def test_a_picture_that_only_others_can_read_is_not_overwritten(folder: Path, upscale: Run) -> None:
    Path("words.png").write_text("two\nlines\n")
    assert upscale("photo.png", "words.png").code == 2  # no picture at all, so an output that is there
    heic = b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(range(256))
    Path("phone.jpg").write_bytes(heic)
    refused = upscale("photo.png", "phone.jpg", "--overwrite")
    assert refused.code == 2 and "was not made here" in refused.err
    assert Path("phone.jpg").read_bytes() == heic


def test_names_that_no_system_takes(folder: Path, upscale: Run) -> None:
    long = f"{'n' * 300}.jpg"
    for args in ([long], [long, "-o", "b.png"], ["photo.png", long], ["photo.png", "-o", f"{long}/"]):
        refused = upscale(*args)
        assert refused.code in (2, 4) and "unexpected" not in refused.err, refused.err


def test_what_several_pictures_cannot_have(folder: Path, upscale: Run) -> None:
    names = three(folder, ".jpg", ".png", ".webp")
    picture().save("a.png")
    before = sorted(path.name for path in folder.iterdir())
    for args, word in (
        (["a.jpg", "a.png", "b.png"], "would have one result"),
        ([*names, "-"], "Standard input"),
        ([*names, "-o", "-"], "do not go into '-'"),
        ([*names, "-o", "photo.png"], "do not go into 'photo.png'"),
        ([*names, "-o", "photo.png/x/"], "cannot be made"),
        ([*names, "-o", "new.png"], "do not go into 'new.png'"),
    ):
        refused = upscale(*args)
        assert refused.code == 2 and word in refused.err, refused.err
    missing = upscale("a.jpg", "gone.jpg", "b.png")
    assert missing.code == 4 and "gone.jpg" in missing.err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_folder_among_the_inputs_makes_it_a_batch(folder: Path, upscale: Run) -> None:
    Path("in").mkdir()
    picture().save("in/a.png")
    finished = upscale("in", "photo.png", "-o", "big", "--json")
    assert finished.code == 0 and finished.json["counts"]["done"] == 2
    assert Path("big/in/a.png").exists() and Path("big/photo.png").exists()
    assert upscale("in").code == 0 and Path("in_x2/a.png").exists()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_kinds_of_pictures_survive(folder: Path, upscale: Run, mode: str) -> None:
    image = picture(mode) if mode != "I;16" else Image.frombytes(mode, (WIDTH, HEIGHT), bytes(2 * WIDTH * HEIGHT))
    image.save("kind.png")
    assert upscale("kind.png", "big.png").code == 0
    assert decoded(Path("big.png")).mode == mode


def test_pipes(folder: Path, upscale: Run) -> None:
    given = Path("photo.png").read_bytes()
    finished = upscale("-", given=given)
    assert finished.code == 0 and decoded(finished.out).size == (2 * WIDTH, 2 * HEIGHT)
    assert finished.err.startswith("stdin 24x16 -> stdout 48x32")
    assert decoded(upscale("photo.png", "-", "--format", "jpg").out).format == "JPEG"
    assert upscale("-", "big.png", "-q", given=given).err == ""
    assert decoded(Path("big.png")).tobytes() == decoded(finished.out).tobytes()


def test_the_bundled_model_is_the_default(folder: Path, run: Run) -> None:
    finished = run("upscale", "photo.png", "--steps", "1", "--json")
    assert finished.code == 0, finished.err
    from bidiffsr_cli.checkpoints.catalog import default_model

    assert finished.json["model"]["name"] == default_model()


@pytest.mark.parametrize(
    ("variable", "value", "code"), [("BIDIFFSR_MODEL", "nobody", 5), ("BIDIFFSR_DEVICE", "abc", 2)]
)
def test_environment_variables(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, code: int
) -> None:
    monkeypatch.setenv(variable, value)
    finished = run("upscale", "photo.png", "--steps", "1")
    assert finished.code == code and value in finished.err


@pytest.fixture
def upsampled(upscale: Run, folder: Path) -> Run:
    """`bidiffsr upscale` with a model that has an upsampler."""
    data = tiny_checkpoint(upsampler=UpsamplerConfig({"2": 1, "4": 0}, channels=4))
    Path("upsampled.safetensors").write_bytes(data)
    return lambda *args: upscale(*args, "--model", "upsampled.safetensors", "--json")


@pytest.mark.parametrize("scale", [2, 4])
def test_a_model_with_an_upsampler(upsampled: Run, scale: int) -> None:
    pictures = []
    for steps in (1, 2):
        finished = upsampled("photo.png", f"{steps}.png", "--steps", steps, "--scale", scale)
        assert finished.code == 0 and finished.json["steps"] == steps
        pictures.append(decoded(Path(f"{steps}.png")))
    assert pictures[0].size == (scale * WIDTH, scale * HEIGHT) and pictures[0].tobytes() != pictures[1].tobytes()
    plain = upsampled("photo.png", "plain.png", "--steps", 2, "--scale", scale, "--backend", "reference")
    assert plain.code == 0
    difference = ImageChops.difference(pictures[1].convert("RGB"), decoded(Path("plain.png")).convert("RGB"))
    assert sum(ImageStat.Stat(difference).mean) / 3 < 1


def test_an_upsampler_takes_time_too(upsampled: Run) -> None:
    for steps in (1, 5):
        assert upsampled("photo.png", "--dry-run", "--steps", steps).json["estimate"]["seconds"] > 0


def test_an_upsampler_enlarges_transparency(upsampled: Run) -> None:
    clear = picture().convert("RGBA")
    clear.putalpha(clear.getchannel("R"))
    clear.save("clear.png")
    for steps in (1, 2):
        assert upsampled("clear.png", f"{steps}.png", "--steps", steps, "--alpha", "model").code == 0
        assert decoded(Path(f"{steps}.png")).mode == "RGBA"
