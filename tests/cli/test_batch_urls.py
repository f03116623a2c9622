"""`bidiffsr batch` with URLs, on a real S3 server."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .support import Finished, Run, decoded, finish, is_one_sentence, picture, spawn
from .test_batch import batch, contents, photos

__all__ = ["batch", "photos"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore")  # those of botocore


@pytest.fixture
def store(bucket: str) -> Any:
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)


def results(store: Any, path: str) -> list[str]:
    """Their names; nothing is read, which others may be about to write or to delete."""
    return [name for name in store.find(path) if "/.bidiffsr/" not in name]


def objects(store: Any, path: str) -> dict[str, bytes]:
    """All visible ones."""
    return {name.removeprefix(f"{path}/"): store.cat_file(name) for name in results(store, path)}


def told(finished: Finished) -> str:
    """The error, which is one sentence and some advice."""
    assert is_one_sentence("\n".join(finished.err.splitlines()[-2:])), finished.err
    return finished.err


@pytest.mark.slow
def test_from_bucket_to_bucket_as_from_folder_to_folder(photos: Path, batch: Run, bucket: str, store: Any) -> None:
    assert batch("in", "-r", "-o", "local").code == 0
    expected = contents(Path("local"))
    store.put("in/", f"{bucket}/in/", recursive=True)
    first = batch(f"s3://{bucket}/in", "-r", "--json")
    assert first.code == 0, first.err
    assert objects(store, f"{bucket}/in_x2") == expected
    assert [image["output"] for image in first.json["images"]] == [f"s3://{bucket}/in_x2/{name}" for name in expected]
    again = batch(f"s3://{bucket}/in/", "-r", "--json")
    assert again.json["counts"] == {"done": 0, "skipped": 3, "failed": 0, "left": 0}
    assert [image["seconds"] for image in again.json["images"]] == [image["seconds"] for image in first.json["images"]]
    picture(size=(30, 20)).save("a.png")
    store.put("a.png", f"{bucket}/in/a.png")
    assert batch(f"s3://{bucket}/in", "-r", "--json").json["counts"]["done"] == 1
    assert decoded(objects(store, f"{bucket}/in_x2")["a.png"]).size == (60, 40)


def test_from_and_to_this_machine(photos: Path, batch: Run, bucket: str, store: Any) -> None:
    assert batch("in", "-r", "-o", f"s3://{bucket}/x2").code == 0
    assert batch(f"s3://{bucket}/x2", "-r", "-o", "x4").code == 0
    assert batch("in", "-r", "-o", "local").code == 0
    assert batch("local", "-r", "-o", "local4").code == 0
    assert contents(Path("x4")) == contents(Path("local4")) and len(contents(Path("x4"))) == 3
    assert batch(Path("in").absolute().as_uri(), "--dry-run").code == 0


def test_the_results_in_the_folder_are_no_pictures(photos: Path, batch: Run, bucket: str, store: Any) -> None:
    store.put("in/", f"{bucket}/in/", recursive=True)
    for _ in range(2):
        finished = batch(f"s3://{bucket}/in", "-r", "-o", f"s3://{bucket}/in/out", "--json")
        assert finished.code == 0 and sum(finished.json["counts"].values()) == 3
    assert "itself" in told(batch(f"s3://{bucket}/in", "-o", f"s3://{bucket}/in/"))


def test_what_is_not_ours_and_what_is_broken(photos: Path, batch: Run, bucket: str, store: Any) -> None:
    store.put("in/", f"{bucket}/in/", recursive=True)
    store.pipe_file(f"{bucket}/in/bad.png", b"\x89PNG nothing")
    store.pipe_file(f"{bucket}/in/empty.png", b"")
    store.pipe_file(f"{bucket}/out/a.png", b"mine")
    refused = batch(f"s3://{bucket}/in", "-o", f"s3://{bucket}/out")
    assert refused.code == 2 and f"'s3://{bucket}/out/a.png' exists and was not made here" in told(refused)
    assert objects(store, f"{bucket}/out") == {"a.png": b"mine"}
    finished = batch(f"s3://{bucket}/in", "-o", f"s3://{bucket}/out", "--overwrite", "--json")
    assert finished.code == 3 and finished.json["counts"] == {"done": 2, "skipped": 0, "failed": 2, "left": 0}
    assert sorted(objects(store, f"{bucket}/out")) == ["a.png", "b.png"]


def test_a_dry_run_writes_nothing(photos: Path, batch: Run, bucket: str, store: Any) -> None:
    planned = batch("in", "-o", f"s3://{bucket}/out", "--dry-run", "--json")
    assert planned.code == 0 and planned.json["left"] == ["a.png", "b.JPG"] and store.find(bucket) == []


def test_what_is_refused(photos: Path, batch: Run, bucket: str) -> None:
    for options, code, words in (
        ([f"s3://{bucket}/none"], 4, "no pictures"),
        (["s3://no-such-bucket/x"], 4, "s3://no-such-bucket/x"),
        (["in", "-o", "s3://no-such-bucket/x"], 2, "s3://no-such-bucket/x"),
        ([f"s3://{bucket}"], 2, "beside"),
        (["in", "-o", "nonsense://x/y"], 2, "nonsense"),
        (["in", "-o", "s3://"], 2, "names no folder"),
        (["in", "-o", "gs://bucket/x"], 2, "gs:// is not installed"),
        (["s3://user:secret@bucket/x"], 2, "password"),
        (["simplecache://x::s3://bucket/x"], 2, "chain"),
    ):
        refused = batch(*options)
        assert refused.code == code and words in told(refused) and "secret" not in refused.err, (options, refused.err)


@pytest.mark.slow
def test_a_store_that_cannot_be_reached(photos: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    unreachable = finish(spawn(["batch", "s3://x/y", "-o", "out"]))
    assert unreachable.code == 4 and "connect" in told(unreachable)


def test_without_the_package(photos: Path, batch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)  # it may have been imported before
    monkeypatch.setitem(sys.modules, "s3fs", None)
    refused = batch("s3://bucket-without/in", "-o", "out")
    assert refused.code == 2 and "pip install '.[s3]'" in told(refused)


@pytest.mark.slow
def test_a_store_that_fails_ends_the_run(photos: Path, model: Path, bucket: str, store: Any) -> None:
    for index in range(60):
        picture().save(f"in/{index:02}.png")
    process = spawn(["batch", "in", "-o", f"s3://{bucket}/out", "-m", model, "--steps", "40"])
    while len(results(store, f"{bucket}/out")) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    while store.exists(bucket):  # somebody deletes the bucket
        with contextlib.suppress(OSError):
            store.rm(bucket, recursive=True)
    stopped = finish(process)
    assert stopped.code == 2 and f"'s3://{bucket}/out" in told(stopped), stopped.err
    assert stopped.err.count("Error") == 1 and "[62/62]" not in stopped.err


@pytest.mark.slow
def test_killed_again_and_again(photos: Path, model: Path, bucket: str, store: Any) -> None:
    """After kill -9 at random moments every result is there, whole, and that of an undisturbed run."""
    for index in range(40):
        picture(size=(24, 16 + index % 3)).save(f"in/{index:02}.png")
    store.put("in/", f"{bucket}/in/", recursive=True)
    options = ["batch", f"s3://{bucket}/in", "-m", model, "--steps", "2"]
    straight = finish(spawn([*options, "-o", "straight"]))
    assert straight.code == 0, straight.err
    kills = 0
    for goal in (3, 9, 20, 31):
        process = spawn([*options, "-o", f"s3://{bucket}/out", "--quiet"])
        while process.poll() is None and len(results(store, f"{bucket}/out")) < goal:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += finish(process).code != 0
        assert all(decoded(data) for data in objects(store, f"{bucket}/out").values())
    last = finish(spawn([*options, "-o", f"s3://{bucket}/out", "--json"]))
    assert last.code == 0 and last.json["counts"]["left"] == last.json["counts"]["failed"] == 0
    assert last.json["counts"]["skipped"] >= 20 and kills >= 3
    assert objects(store, f"{bucket}/out") == contents(Path("straight"))


@pytest.mark.slow
def test_parts(photos: Path, model: Path, batch: Run, bucket: str, store: Any) -> None:
    assert batch("in", "-r", "-o", "whole").code == 0
    options = ["batch", "in", "-r", "-o", f"s3://{bucket}/parts", "-m", model, "--steps", "1", "--json", "--shard"]
    finished = [finish(job) for job in [spawn([*options, f"{index}/3"]) for index in (1, 2, 3)]]
    assert all(job.code == 0 for job in finished), finished
    assert sum(job.json["counts"]["done"] for job in finished) == 3
    assert objects(store, f"{bucket}/parts") == contents(Path("whole"))
    again = batch("in", "-r", "-o", f"s3://{bucket}/parts", "--json")
    assert again.json["counts"]["skipped"] == 3
