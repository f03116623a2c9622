"""`bidiffsr eval`: its reports, what it refuses, and a run that is killed."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
import signal
import statistics
import time
from pathlib import Path

import pytest
from PIL import Image

from .support import Run, decoded, finish, is_one_sentence, picture, spawn, tiny_checkpoint


@pytest.fixture
def originals(folder: Path, pictures: Path) -> Path:
    """Two small photographs."""
    (folder / "Set5" / "HR").mkdir(parents=True)
    for name in ("parrot", "houses"):
        with Image.open(pictures / f"{name}.png") as image:
            image.convert("RGB").crop((8, 8, 72, 56)).save(folder / "Set5" / "HR" / f"{name}.png")
    return folder / "Set5" / "HR"


def test_everything_at_once(run: Run, model: Path, originals: Path) -> None:
    options = ["--hr", originals, "-m", model, "--steps", "1,2", "--paper-row"]
    finished = run("eval", *options, "-o", "out", "--json")
    assert finished.code == 0, finished.err
    result = finished.json
    labels = ["bicubic", "tiny, 1 step", "tiny, 2 steps"]
    assert [subject["label"] for subject in result["subjects"]] == labels
    assert (result["dataset"], result["count"], result["scale"]) == ("Set5", 2, 2)
    assert result["mean"] == result["subjects"][1]["mean"] and result["baseline"] == result["subjects"][0]["mean"]
    assert result["paper"]["Bicubic"]["psnr_y"] == 33.67
    assert result["subjects"][1]["sha256"] and result["subjects"][1]["seconds"]["per_step"] > 0
    assert len(result["images"]) == 6 and result["images"][1]["peak_memory_bytes"]["host"] > 0
    assert sorted(path.name for path in Path("out").iterdir() if path.is_file()) == [
        "results.csv",
        "results.html",
        "results.json",
        "results.md",
        "scores.jsonl",
    ]
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert len(rows) == 6 and float(rows[0]["psnr_y"]) == result["images"][0]["psnr_y"]
    text = Path("out/results.md").read_text()
    assert "paper: BI-DiffSR" in text and "±" in text and "MATLAB" in text and "machine" in text
    page = Path("out/results.html").read_text()
    assert page.lower().startswith("<!doctype html>") and page.count("parrot") > 1 and "tiny" in page
    (kept,) = Path("out").glob("tiny__2_steps*/parrot.png")
    assert decoded(kept).size == (64, 48)

    before = Path("out/scores.jsonl").read_text()
    again = run("eval", *options, "-o", "out", "--json")
    assert again.json["images"] == result["images"]  # even the seconds: nothing was computed again
    assert Path("out/scores.jsonl").read_text() == before
    kept.unlink()
    assert run("eval", *options, "-o", "out").code == 0 and kept.is_file()


def test_two_models_side_by_side(run: Run, model: Path, originals: Path) -> None:
    Path("other.safetensors").write_bytes(tiny_checkpoint(seed=1))
    options = [
        "--hr",
        originals,
        "-m",
        model,
        "-m",
        "other.safetensors",
        "--steps",
        "1,2",
        "--metrics",
        "psnr_y,ssim_y",
    ]
    finished = run("eval", *options, "-o", "out", "--json")
    assert finished.code == 0, finished.err
    result = finished.json
    labels = ["tiny, 1 step", "tiny, 2 steps", "other, 1 step", "other, 2 steps"]
    subjects = {subject["label"]: subject for subject in result["subjects"]}
    assert list(subjects) == ["bicubic", *labels]
    assert [subjects[label]["sha256"] for label in labels] == [
        hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (model, model, Path("other.safetensors"), Path("other.safetensors"))
    ]
    assert len({subjects[label]["mean"]["psnr_y"] for label in labels}) == 4  # nothing is scored in another's place
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    text, page = (Path(f"out/results.{suffix}").read_text() for suffix in ("md", "html"))
    for label in labels:
        name, steps = label.split(", ")
        own = [row for row in rows if (row["model"], row["steps"]) == (name, steps.split()[0])]
        assert [row["image"] for row in own] == ["houses", "parrot"]
        for metric, mean in subjects[label]["mean"].items():
            assert mean == pytest.approx(statistics.fmean(float(row[metric]) for row in own))
        assert f"| {label} | {subjects[label]['mean']['psnr_y']:.2f} ± " in text
        assert f'<th scope="row">{label}</th>' in page
        (kept,) = Path("out").glob(f"{label.replace(', ', '__').replace(' ', '_')}-*/parrot.png")
        assert decoded(kept).size == (64, 48)
    twice = run("eval", "--hr", originals, "-m", model, "-m", model)
    assert twice.code == 2 and "Two rows would be called" in twice.err


def test_time_and_memory_stand_in_every_report(run: Run, model: Path, originals: Path) -> None:
    options = ["eval", "--hr", originals, "-m", model, "--steps", "2", "--metrics", "psnr_y"]
    result = run(*options, "-o", "out", "--json").json
    images = [image for image in result["images"] if image["label"] != "bicubic"]
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert {row["seconds_decode"] for row in rows if row["model"] == "bicubic"} == {""}
    for image, row in zip(images, (row for row in rows if row["model"] == "tiny"), strict=True):
        assert {name: float(row[f"seconds_{name}"]) for name in image["seconds"]} == image["seconds"]
        assert int(row["peak_memory_host"]) == image["peak_memory_bytes"]["host"]
        assert row["peak_memory_device"] == ""  # of a CPU
    phases = [
        statistics.median(image["seconds"][phase] for image in images)
        for phase in ("total", "decode", "sample", "encode", "per_step")
    ]
    peak = f"{max(image['peak_memory_bytes']['host'] for image in images) / 1e6:.0f} MB"
    cells = ["tiny, 2 steps", *(f"{seconds:.3f}" for seconds in phases), peak, ""]
    assert f"| {' | '.join(cells)} |" in Path("out/results.md").read_text()
    page = Path("out/results.html").read_text()
    assert "<caption>Time and memory</caption>" in page and f'<td class="number">{phases[2]:.3f}</td>' in page


def test_finished_pictures_of_any_tool(run: Run, model: Path, originals: Path) -> None:
    for path in originals.iterdir():
        with Image.open(path) as image:
            small = image.resize((32, 24), Image.Resampling.BICUBIC)
            Path("LR").mkdir(exist_ok=True)
            small.save(f"LR/{path.stem}x2.png")
        assert run("upscale", f"LR/{path.stem}x2.png", f"{path.stem}_x2.png", "-m", model, "--steps", "1").code == 0
    Path("SR").mkdir()
    for path in Path().glob("*_x2.png"):
        shutil.move(path, "SR")
    ours = run("eval", "--hr", originals, "--lr", "LR", "-m", model, "--steps", "1", "--json")
    theirs = run("eval", "--hr", originals, "--sr", "SR", "--label", "tool", "--json")
    assert ours.code == theirs.code == 0, theirs.err
    for name in ("psnr_y", "ssim_y", "lpips_alex"):
        assert theirs.json["mean"][name] == pytest.approx(ours.json["mean"][name])
    assert theirs.json["subjects"][1]["label"] == "tool"
    assert ours.json["protocol"]["small pictures"] == "given"


def test_artefacts_stand_in_every_report(run: Run, folder: Path) -> None:
    for name in ("HR", "SR"):
        Path(name).mkdir()
    for name, size in (("large", (80, 72)), ("small", (40, 24))):
        Image.new("RGB", size, "grey").save(f"HR/{name}.png")
        Image.effect_noise(size, 5).convert("RGB").save(f"SR/{name}.png")
    options = ["eval", "--hr", "HR", "--sr", "SR", "--label", "noise", "--metrics", "grain,weave,comb,cross,psnr_y"]
    finished = run(*options, "-o", "out", "--json")
    assert finished.code == 0, finished.err
    noise = finished.json["subjects"][1]
    assert 4 < noise["mean"]["grain"] < 6 and noise["mean"]["comb"] == max(noise["comb"].values())
    large, small = (image for image in finished.json["images"] if image["label"] == "noise")
    assert large["weave"] == noise["mean"]["weave"] and not {"grain", "weave", "comb", "cross"} & set(small)
    rows = list(csv.DictReader(Path("out/results.csv").read_text().splitlines()))
    assert [row["comb"] for row in rows if row["image"] == "small"] == ["", ""]
    assert float(rows[1]["cross"]) == large["cross"]
    cells = [f"{large['grain']:+.2f}", f"{large['weave']:.3f}", f"{large['comb']:+.2f}", f"{large['cross']:+.2f}"]
    text, page = (Path(f"out/results.{suffix}").read_text() for suffix in ("md", "html"))
    assert f"| noise | {' | '.join(cells)} | " in text and "| small | noise | – | – | – | – | " in text
    assert "near 0 is best" in text and "near 0 is best" in page and f'<td class="number">{cells[2]}</td>' in page
    assert run(*options, "-o", "out", "--json").json == finished.json
    assert b"comb" not in run("eval", "--hr", "HR", "--sr", "SR", "--metrics", "psnr_y").out


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "html"])
def test_one_report(run: Run, model: Path, originals: Path, suffix: str) -> None:
    options = ["eval", "--hr", originals, "-m", model, "--steps", "1", "--metrics", "psnr_y,lpips_alex", "--limit", "1"]
    finished = run(*options, "--report", f"r.{suffix}")
    assert finished.code == 0 and "PSNR-Y" in finished.answer, finished.err
    assert Path(f"r.{suffix}").stat().st_size > 200
    refused = run(*options, "--report", f"r.{suffix}")
    assert refused.code == 2 and is_one_sentence(refused.err)


def test_small_pictures_that_are_made_worse(run: Run, model: Path, originals: Path) -> None:
    def scores(*options: str) -> dict[str, float]:
        args = ["--hr", originals, "-m", model, "--steps", "1", "--metrics", "psnr_y", "-o", "out", "--json"]
        finished = run("eval", *args, *options)
        assert finished.code == 0, finished.err
        worse = finished.json["protocol"]["small pictures"].partition(", then ")[2]
        assert worse == (options[1] if options else "")
        assert (", then " in Path("out/results.md").read_text()) == bool(options)
        return finished.json["baseline"]

    clean, noisy = scores(), scores("--degrade", "noise=20,jpeg=40")
    assert noisy["psnr_y"] < clean["psnr_y"] - 1
    folders = {path.name: [file.read_bytes() for file in path.glob("*.png")] for path in Path("out").glob("bicubic*")}
    assert len(folders) == 2 and len({file for files in folders.values() for file in files}) == 4
    shutil.rmtree("out")
    assert scores("--degrade", "noise=20,jpeg=40") == noisy  # the same noise every time
    given = ["--hr", originals, "--lr", originals, "--degrade"]
    for args in (
        ["--hr", originals, "--degrade", "fog=1"],
        ["--hr", originals, "--degrade", "jpeg=101"],
        ["--hr", originals, "--degrade", "kernel=sinc"],
        [*given, "kernel=area"],
        ["--hr", originals, "--sr", originals, "--degrade", "jpeg=50"],
    ):
        finished = run("eval", *args)
        assert finished.code == 2 and is_one_sentence(finished.err)


def test_what_is_refused(run: Run, model: Path, originals: Path) -> None:
    Path("full").mkdir()
    Path("full/x").touch()
    Path("LR").mkdir()
    picture().save("LR/parrot.png")
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    plain = ["--hr", originals, "-m", model]
    for options, code in (
        (["--hr", "none"], 4),
        (["--hr", "broken"], 4),
        (["--hr", "full"], 4),
        ([*plain, "--lr", "LR"], 4),
        (["--hr", originals, "--sr", "LR", "-m", model], 2),
        (["--hr", originals, "--sr", "LR"], 4),
        ([*plain, "--steps", "1,x"], 2),
        ([*plain, "--steps", "99999"], 2),
        ([*plain, "--scale", "3"], 2),
        ([*plain, "--metrics", "vmaf"], 2),
        ([*plain, "--paper-row", "--name", "mine", "--scale", "3"], 2),
        ([*plain, "-o", "full"], 2),
        ([*plain, "--report", "r.txt"], 2),
        ([*plain, "--label", "x"], 2),
        (["--hr", originals, "-m", "nothing"], 5),
    ):
        refused = run("eval", *options)
        assert refused.code == code and is_one_sentence(refused.err), (options, refused)


def test_auto_is_refused(run: Run, originals: Path) -> None:
    refused = run("eval", "--hr", originals, "-m", "auto")
    assert refused.code == 2 and is_one_sentence(refused.err)
    assert "auto chooses for each picture." in refused.err and "-m fast -m photo" in refused.err


def test_an_original_too_small_to_be_scored_is_named(run: Run, originals: Path) -> None:
    Image.new("RGB", (4, 4)).save(originals / "tiny.png")
    refused = run("eval", "--hr", originals, "-m", "bicubic", "--metrics", "psnr_y")
    assert refused.code == 4 and is_one_sentence(refused.err)
    assert "tiny.png: A picture of 4×4 is too small to be compared." in refused.err


@pytest.mark.slow
def test_a_hundred_pictures_killed_in_the_middle(model: Path, folder: Path) -> None:
    """After kill -9, a rerun scores what is left, nothing twice, and comes to the same figures."""
    draw = random.Random(0)
    (folder / "hr").mkdir()
    for index in range(100):
        Image.frombytes("RGB", (48, 40), draw.randbytes(48 * 40 * 3)).save(folder / "hr" / f"{index:03}.png")
    options = ["eval", "--hr", "hr", "-m", model, "--steps", "1", "--metrics", "psnr_y", "--json"]
    process = spawn([*options, "-o", "out"])
    journal, deadline = folder / "out" / "scores.jsonl", time.time() + 60
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 60:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert finish(process).code == -signal.SIGKILL
    done = len(journal.read_bytes().splitlines())
    assert 60 <= done < 200
    resumed = finish(spawn([*options, "-o", "out"]))
    assert resumed.code == 0, resumed.err
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == 200
    straight = finish(spawn(options))
    assert resumed.json["mean"] == straight.json["mean"] and resumed.json["count"] == 100
