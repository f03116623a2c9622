"""`bidiffsr train` and `models pack` as a user runs them: from photos to an enlarged picture, with stops on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training.support import TINY

from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.cli._signals import deferred
from bidiffsr_cli.ops.native import why_unavailable
from bidiffsr_cli.training.trainer import Trainer

from .support import Run, decoded, environment, finish, is_one_sentence, picture, spawn

PICTURES = Path(__file__).parent.parent / "pictures"
CHANGES = [*TINY, "loss.rollout={share=0.3, weave=60.0}"]


@pytest.fixture
def photos(folder: Path) -> Path:
    """The current folder, with a folder of photos in it."""
    (folder / "photos").mkdir()
    shutil.copy(PICTURES / "parrot.png", folder / "photos")
    return folder


@pytest.fixture
def options(photos: Path) -> list[str]:
    changes = [word for change in CHANGES for word in ("--set", change)]
    return ["smoke", *changes, "--data", "photos", "--cache", "cache", "-o", "run", "--threads", "1"]


def test_from_photos_to_an_enlarged_picture(run: Run, photos: Path, options: list[str]) -> None:
    finished = run("train", *options, "--iterations", "4", "--validate", "photos", "--set", "loss.lpips=1.0", "--json")
    assert finished.code == 0, finished.err
    result = finished.json
    assert (result["schema"], result["done"], result["iteration"], result["samples"]) == (
        "bidiffsr-train/1",
        True,
        4,
        16,
    )
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    scores = lines[-1]["scores"]
    assert set(scores) == {"2", "4"} and all(10 < scores["2"][steps]["psnr_y"] < 60 for steps in ("1", "2", "4"))

    finished = run("models", "pack", "run", "-o", "mine.safetensors", "--license", "CC0-1.0", "--json")
    assert finished.code == 0 and finished.json["bytes"] == Path("mine.safetensors").stat().st_size
    packed = read_checkpoint(Path("mine.safetensors"))
    assert packed.license == "CC0-1.0" and packed.storage == "packed"
    for fact in ("4 iterations", "16 crops of 32x32", "1 picture (pixels' sha256 ", "Scores: "):
        assert fact in packed.origin
    assert run("models", "pack", "run", "-o", "mine.safetensors").code == 2  # never overwritten unasked

    for model in ("mine.safetensors", "run/model.safetensors"):
        finished = run("upscale", "photo.png", "big.png", "--model", model, "--overwrite")
        assert finished.code == 0, finished.err
    with decoded(Path("big.png")) as image:
        assert image.size == (48, 32)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["sr3", "irnet", "reactnet", "bi-diffsr"])
def test_every_method_from_photos_to_an_enlarged_picture(run: Run, options: list[str], system: str) -> None:
    finished = run("train", *options, "--iterations", "2", "--system", system)
    assert finished.code == 0, finished.err
    packs = system != "sr3"
    assert (read_checkpoint(Path("run/model.safetensors")).storage == "packed") is packs
    finished = run("upscale", "photo.png", "big.png", "--model", "run/model.safetensors", "--json")
    assert finished.code == 0, finished.err
    assert finished.json["model"]["name"] == "run"
    native_is_here = why_unavailable() is None
    assert finished.json["backend"] == ("native" if packs and native_is_here else "reference")
    with decoded(Path("big.png")) as image:
        assert image.size == (48, 32)
    finished = run("models", "pack", "run", "-o", "mine.safetensors")
    assert finished.code == (0 if packs else 5), finished.err
    finished = run("models", "show", "run/model.safetensors")
    assert finished.code == 0 and ("on SR3's UNet" in finished.answer) is (system != "bi-diffsr")


@pytest.mark.slow
def test_a_method_that_cannot_be_packed_says_so(run: Run, options: list[str]) -> None:
    changes = ["--system", "xnor", "--iterations", "2"]
    assert run("train", *options, *changes, "-o", "first").code == 0
    assert run("train", "first/config.json", "--iterations", "2").code == 2  # it is no TOML
    mapped = ["--system", "xnor", "--set", "model.network.method=xnor_map"]
    finished = run("train", *options, *mapped, "--iterations", "2")
    assert finished.code == 0, finished.err
    finished = run("upscale", "photo.png", "big.png", "--model", "run/model.safetensors", "--json")
    assert finished.code == 0 and finished.json["backend"] == "reference"
    finished = run(
        "upscale", "photo.png", "big.png", "--model", "run/model.safetensors", "--overwrite", "--backend", "native"
    )
    assert finished.code == 2 and is_one_sentence(finished.err) and "differ from pixel to pixel" in finished.err
    finished = run("models", "pack", "run", "-o", "mine.safetensors")
    assert finished.code == 5 and is_one_sentence(finished.err) and "differ from pixel to pixel" in finished.err
    finished = run("models", "convert", "run/model.safetensors", "-o", "mine.pth")
    assert finished.code == 5 and is_one_sentence(finished.err) and not Path("mine.pth").exists()
    finished = run("bench", "--model", "run/model.safetensors", "--json", "--repeats", "1")
    assert finished.code == 0, finished.err


def test_what_a_packed_file_of_batchnorm_cannot_do(run: Run, options: list[str]) -> None:
    assert run("train", *options, "--iterations", "2", "--system", "bnn").code == 0
    packed = "run/model.safetensors"
    finished = run("train", *options, "-o", "other", "--iterations", "2", "--system", "bnn", "--init", packed)
    assert finished.code == 5 and "Error: A packed bnn has lost its BatchNorm" in finished.err
    assert not Path("other/model.safetensors").exists()
    floats = "run/weights.safetensors"
    finished = run("train", *options, "-o", "third", "--iterations", "2", "--system", "bnn", "--init", floats)
    assert finished.code == 0, finished.err
    assert run("models", "pack", packed, "-o", "again.safetensors", "--license", "CC0-1.0").code == 0
    assert run("models", "verify", packed).code == 0


def test_systems_that_are_refused(run: Run, options: list[str]) -> None:
    finished = run("train", *options, "--system", "no-such")
    assert finished.code == 2 and is_one_sentence(finished.err) and "reactnet" in finished.err
    assert run("train", *options, "--iterations", "1").code == 0
    for change in (["--system", "bnn"], ["--set", "model.network.res_blocks=2"]):
        finished = run("train", "--resume", "-o", "run", *change)
        assert finished.code == 2 and is_one_sentence(finished.err)


def test_a_single_value_has_no_statistics(run: Run, options: list[str]) -> None:
    small = ["--set", "data.crop=16", "--set", "data.batch=1", "--set", "model.network.channel_mults=[1, 2, 4, 8]"]
    finished = run("train", *options, "--iterations", "2", "--system", "bnn", *small)
    assert finished.code == 2 and "Error: BatchNorm cannot work on a single value." in finished.err


def test_changes_are_made_to_the_system(run: Run, folder: Path) -> None:
    finished = run("train", "fast", "--show", "--system", "xnor", "--set", "model.network.method=xnor_map")
    assert b'method = "xnor_map"' in finished.out and b'type = "sr3"' in finished.out
    Path("mine.toml").write_bytes(finished.out)
    cost = run("cost", "mine.toml", "--json").json
    assert cost["layers"]["BatchNorm"]["ops"] > 0 and cost["layers"]["upsampling"]["ops"] > 0
    assert run("cost", "absent.toml").code == 2


def test_a_packed_model_with_the_magnitudes_of_a_float_one(run: Run, options: list[str]) -> None:
    assert run("train", *options, "--iterations", "2").code == 0
    begun = [option if option != "run" else "second" for option in options]
    models = ["--init", "run/model.safetensors", "--magnitudes", "run/weights.safetensors"]
    finished = run("train", *begun, "--iterations", "1", *models, "--set", "optimizer.lr=0.0")
    assert finished.code == 0, finished.err
    one, two = (read_checkpoint(Path(folder, "weights.safetensors")).state for folder in ("run", "second"))
    for name, weight in one.items():
        if name.endswith("weight") and weight.dim() == 4:
            torch.testing.assert_close(two[name], weight, rtol=0.02, atol=1e-3)
    for wrong in (models[2:], [*models[:2], "--magnitudes", "run/model.safetensors"]):
        finished = run("train", *[o if o != "run" else "third" for o in options], "--iterations", "1", *wrong)
        assert finished.code == 2 and is_one_sentence(finished.err)


def test_a_run_goes_on(run: Run, options: list[str]) -> None:
    assert run("train", *options, "--iterations", "2").code == 0
    finished = run("train", *options, "--iterations", "2")
    assert finished.code == 2 and "--resume" in finished.err
    finished = run("train", "--resume", "-o", "run", "--cache", "cache", "--iterations", "5", "--threads", "1")
    assert finished.code == 0, finished.err
    assert "Resumed at iteration 2." in finished.err and "5 iterations, 20 crops" in finished.err
    assert not Path("run", "compact").exists()


def test_the_config_is_shown(run: Run, photos: Path) -> None:
    finished = run("train", "--show", "paper-x4", "--set", "run.seed=3")
    assert finished.code == 0 and finished.err == ""
    Path("mine.toml").write_bytes(finished.out)
    assert b"seed = 3" in run("train", "--show", "mine.toml").out
    assert json.loads(run("train", "--show", "mine.toml", "--json").out)["run"]["seed"] == 3
    assert not Path("run-paper-x4").exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["unknown", "--data", "photos"], 2),
        (["smoke"], 2),
        (["smoke", "--data", "missing"], 4),
        (["smoke", "--data", "empty"], 4),
        (["smoke", "--data", "photos", "--set", "optimizer.lr=quick"], 2),
        (["smoke", "--data", "photos", "--time-limit", "soon"], 2),
        (["smoke", "--data", "photos", "--time-limit", "5m", "--iterations", "5"], 2),
        (["smoke", "--data", "photos", "--max-file", "1MB"], 2),
        (["smoke", "--data", "photos", "--resume"], 2),
        (["smoke", "--data", "photos", "--init", "fast"], 2),
        (["smoke", "--data", "photos", "-o", "photo.png"], 2),
        (["smoke", "--data", "photos", "--validate", "empty"], 4),
        (["--resume", "-o", "nowhere"], 2),
        (["smoke", "--data", "photos", "--state-budget", "1kB"], 2),
    ],
)
def test_wrong_input(run: Run, photos: Path, args: list[str], code: int) -> None:
    Path("empty").mkdir()
    finished = run("train", *args, "--cache", "cache", "--quiet")
    assert finished.code == code and is_one_sentence(finished.err), finished.err


def test_threads_by_the_environment(run: Run, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDIFFSR_THREADS", "3")
    assert options[-2] == "--threads"
    finished = run("train", *options[:-2], "--iterations", "1")
    assert finished.code == 0, finished.err
    assert ", 3 threads, " in read_checkpoint(Path("run/model.safetensors")).origin


@pytest.mark.parametrize("name", ["missing", "photos/a file"])
def test_no_folder_to_validate_on(run: Run, photos: Path, name: str) -> None:
    Path("photos/a file").touch()
    finished = run("train", "smoke", "--data", "photos", "--validate", name, "--cache", "cache", "--quiet")
    assert finished.code == 4 and "Check the spelling and the folder." in finished.err


def test_packing_what_is_no_run(run: Run, folder: Path) -> None:
    for source, code in ((".", 2), ("photo.png", 5), ("missing", 5)):
        finished = run("models", "pack", source, "-o", "packed.safetensors")
        assert finished.code == code and is_one_sentence(finished.err), finished.err
    assert not Path("packed.safetensors").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_saves_the_state(run: Run, options: list[str], number: int, code: int) -> None:
    process = spawn(["train", *options, "--iterations", "100000"])
    wait_for_iteration(2)
    process.send_signal(number)
    finished = finish(process)
    assert finished.code == code and "the state is saved" in finished.err, finished.err
    reached = last_line()["iteration"]
    resumed = run(
        "train", "--resume", "-o", "run", "--cache", "cache", "--iterations", str(reached + 1), "--threads", "1"
    )
    assert resumed.code == 0 and f"Resumed at iteration {reached}" in resumed.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_between_iterations(
    run: Run, options: list[str], number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def and_then_a_signal(trainer: Trainer) -> None:
        step(trainer)
        if trainer.progress.iteration == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(Trainer, "step", and_then_a_signal)
    finished = run("train", *options, "--iterations", "9")
    assert finished.code == code and "the state is saved" in finished.err, finished.err
    assert last_line()["iteration"] == 2
    resumed = run("train", "--resume", "-o", "run", "--cache", "cache", "--iterations", "3", "--threads", "1")
    assert resumed.code == 0 and "Resumed at iteration 2" in resumed.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("heeded")
def test_signals_are_only_noted_by_work_that_asks() -> None:
    with deferred() as stop, pytest.raises(KeyboardInterrupt):  # as while pictures are decoded
        signal.raise_signal(signal.SIGINT)
    with deferred() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop() and stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_run_loses_what_was_not_saved_alone(run: Run, options: list[str]) -> None:
    process = spawn(["train", *options, "--iterations", "100000", "--set", "run.save_every=0"])
    wait_for_iteration(4)
    process.kill()
    finish(process)
    reached = last_line()["iteration"]
    resumed = run(
        "train", "--resume", "-o", "run", "--cache", "cache", "--iterations", str(reached + 3), "--threads", "1"
    )
    assert resumed.code == 0 and f"{reached + 3} iterations" in resumed.err
    assert {path.suffix for path in Path("run").rglob("*") if path.is_file()} == {".json", ".jsonl", ".safetensors"}
    lines = [json.loads(line)["iteration"] for line in Path("run/log.jsonl").read_text().splitlines()]
    assert lines == sorted(lines) and len(set(lines[:-1])) == len(lines[:-1])  # the last one is that of the scores


def test_damaged_photos_are_named(run: Run, options: list[str]) -> None:
    Path("photos/broken.png").write_bytes(Path("photos/parrot.png").read_bytes()[:999])
    picture().save("photos/small.png")
    finished = run("train", *options, "--iterations", "1")
    assert finished.code == 0
    for words in ("Skipped broken.png", "Skipped small.png", "2 files were skipped"):
        assert words in finished.err


def last_line() -> dict[str, int]:
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    return lines[-1]


def wait_for_iteration(count: int) -> None:
    """Until the log of the run has a line of that iteration."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = Path("run/log.jsonl")
        if path.is_file() and f'"iteration": {count},' in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


@pytest.mark.slow
def test_two_processes(options: list[str]) -> None:
    """As the README has it: decisions, the state and the words are those of one run."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "bidiffsr_cli",
    ]
    command = [*launcher, "train", *options, "--iterations", "2", "--validate", "photos", "--device", "cpu"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finished = finish(process, seconds=120)
    assert finished.code == 0, finished.err
    assert finished.err.count("Done: 2 iterations, 16 crops") == 1 and "Traceback" not in finished.err
    assert read_checkpoint(Path("run/model.safetensors")).origin.startswith("Trained 0 minutes on 2 x ")
