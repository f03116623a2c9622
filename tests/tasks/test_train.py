"""`train` and `pack` from plain Python: a tiny network learns from one photo, stops, goes on, and is packed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from training.support import TINY

import bidiffsr_cli
from bidiffsr_cli import Machine
from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.errors import OutputError, UsageError
from bidiffsr_cli.tasks import train
from bidiffsr_cli.tasks.train import TrainRequest

from .conftest import Notes, keeps_the_contract

PHOTO = Path(__file__).parents[1] / "pictures" / "parrot.png"
CHANGES = [*TINY, "loss.rollout={share=0.0}", "run.log_every=1"]


def request(folder: Path, **changes) -> TrainRequest:
    return TrainRequest(
        "smoke",
        data=PHOTO,
        changes=CHANGES,
        output=folder / "run",
        cache=folder / "cache",
        machine=Machine("cpu", threads=1),
        **changes,
    )


def test_a_run_is_told_and_packed(tmp_path: Path, notes: Notes) -> None:
    result = train.run(request(tmp_path, iterations=2), notes)
    assert (result.folder, result.done, result.iteration, result.samples) == (tmp_path / "run", True, 2, 8)
    assert keeps_the_contract(result.to_dict())
    messages = [text for word, text in notes.said if word == "message"]
    assert messages[0] == "Decoding pictures: 0 of 1" and messages[1].startswith("1 picture, ")
    assert [text.split("  ")[1] for text in messages[2:]] == ["iteration 1", "iteration 2"]

    packed = bidiffsr_cli.pack(result.folder, tmp_path / "mine.safetensors", license="CC0-1.0")
    assert packed.bytes == (tmp_path / "mine.safetensors").stat().st_size < packed.source_bytes and packed.snr >= 40
    assert keeps_the_contract(packed.to_dict())
    checkpoint = read_checkpoint(packed.output)
    assert (checkpoint.storage, checkpoint.license) == ("packed", "CC0-1.0") and "2 iterations" in checkpoint.origin
    with pytest.raises(OutputError):
        bidiffsr_cli.pack(result.folder, tmp_path / "mine.safetensors")
    with pytest.raises(UsageError):
        bidiffsr_cli.pack(tmp_path, tmp_path / "other.safetensors")


def test_a_run_is_stopped_from_another_thread_and_resumed(tmp_path: Path, notes: Notes) -> None:
    stop = threading.Event()
    stop.set()
    notes.stopped = stop.is_set  # type: ignore[method-assign]
    stopped = train.run(request(tmp_path, time_limit=3600), notes)
    assert not stopped.done and stopped.iteration == 1
    where = {"output": tmp_path / "run", "cache": tmp_path / "cache", "machine": Machine("cpu", threads=1)}
    resumed = bidiffsr_cli.train(resume=True, iterations=2, **where)
    assert resumed.done and resumed.iteration == 2
    with pytest.raises(UsageError, match="There is a run"):
        bidiffsr_cli.train("smoke", data=[PHOTO], changes=CHANGES, **where)


def test_an_upsampler_has_to_be_trained_or_begun_with(tmp_path: Path) -> None:
    """A run whose upsampler stays as a model has it can be resumed, too: its state has the upsampler."""
    upsampler = ["model.network.upsampler={channels=4, blocks={2=1, 4=1}}", "loss.last=0", "loss.grid=0.5"]
    ours = {"data": [PHOTO], "cache": tmp_path / "cache", "machine": Machine("cpu", threads=1)}
    frozen = {**ours, "changes": [*CHANGES, *upsampler, "loss.upsampler=0"]}
    with pytest.raises(UsageError, match="never train its upsampler"):
        bidiffsr_cli.train("smoke", output=tmp_path / "never", iterations=1, **frozen)
    assert not (tmp_path / "cache").exists(), "pictures were decoded first"

    changes = [*CHANGES, *upsampler, "loss.upsampler=0.5"]
    bidiffsr_cli.train("smoke", output=tmp_path / "first", iterations=2, **{**ours, "changes": changes})
    first = tmp_path / "first" / "weights.safetensors"
    bidiffsr_cli.train("smoke", init=str(first), output=tmp_path / "then", iterations=1, **frozen)
    where = {"output": tmp_path / "then", "cache": tmp_path / "cache", "machine": Machine("cpu", threads=1)}
    assert bidiffsr_cli.train(resume=True, iterations=2, **where).iteration == 2
    before, after = (read_checkpoint(path).state for path in (first, tmp_path / "then" / "weights.safetensors"))
    same = {name: bool((before[name] == after[name]).all()) for name in before}
    assert all(equal for name, equal in same.items() if name.startswith("upsamplers.")) and not all(same.values())


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "holiday.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        train.run(request(tmp_path, iterations=1))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"config": None}, "no config"),
        ({"iterations": 1, "time_limit": 1.0}, "exclude"),
        ({"max_file": 100}, "max-file"),
        ({"magnitudes": "fast"}, "magnitudes"),
        ({"system": "no-such"}, "no-such"),
        ({"data": []}, "no pictures"),
        ({"machine": Machine("cpu", threads=-1)}, "-1 threads"),
        ({"machine": Machine("cpu", "bf16")}, "device and threads alone"),
        ({"iterations": 0}, "iterations=0"),
    ],
    ids=str,
)
def test_what_does_not_go_together(tmp_path: Path, fields: dict[str, object], word: str) -> None:
    given = {
        "config": "smoke",
        "data": [PHOTO],
        "output": tmp_path / "run",
        "cache": tmp_path,
        "machine": Machine("cpu"),
    }
    with pytest.raises(UsageError, match=word):
        bidiffsr_cli.train(**given | fields)
