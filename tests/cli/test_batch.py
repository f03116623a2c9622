"""`bidiffsr batch`: whole folders, interrupted ones, parts of them, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import time
import unicodedata
from pathlib import Path

import pytest

from bidiffsr_cli.folders.disk import LocalFolder

from .support import Finished, Run, decoded, finish, is_one_sentence, picture, spawn

FORMATS = ("png", "JPG", "webp", "tif", "bmp", "jpeg", "PNG")


@pytest.fixture
def photos(folder: Path) -> Path:
    """Three pictures, one of them in a folder, and what is none."""
    (folder / "in" / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.JPG", "sub/c.png")):
        picture(size=(24 + index, 16)).save(folder / "in" / name)
    for name in ("notes.txt", ".hidden.png", "._b.JPG"):
        (folder / "in" / name).write_bytes(b"nothing")
    (folder / "in" / "__MACOSX").mkdir()
    (folder / "in" / "__MACOSX" / "x.png").write_bytes(b"nothing")
    return folder / "in"


@pytest.fixture
def batch(run: Run, model: Path) -> Run:
    """`bidiffsr batch` with the tiny model and one step."""

    def batch(*args: object) -> Finished:
        return run("batch", *args, "--model", model, "--steps", "1")

    return batch


def contents(folder: Path) -> dict[str, bytes]:
    """All visible files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_a_folder_and_again(photos: Path, batch: Run) -> None:
    first = batch("in", "--recursive", "--json")
    assert first.code == 0, first.err
    assert first.json["counts"] == {"done": 3, "skipped": 0, "failed": 0, "left": 0}
    results = contents(Path("in_x2"))
    assert sorted(results) == ["a.png", "b.png", "sub/c.png"]
    assert decoded(results["sub/c.png"]).size == (52, 32)
    again = batch("in", "--recursive", "--json")
    assert again.json["counts"]["skipped"] == 3 and contents(Path("in_x2")) == results
    assert [image["status"] for image in again.json["images"]] == ["skipped"] * 3
    assert [image["seconds"] for image in again.json["images"]] == [image["seconds"] for image in first.json["images"]]


def test_the_same_bytes_as_upscale(photos: Path, batch: Run, run: Run, model: Path) -> None:
    assert batch("in", "-o", "out").code == 0
    assert run("upscale", "in/a.png", "a.png", "--model", model, "--steps", "1").code == 0
    assert Path("a.png").read_bytes() == Path("out/a.png").read_bytes()


def test_what_changed_is_done_anew(photos: Path, batch: Run) -> None:
    def done(*options: object) -> list[str]:
        finished = batch("in", "-o", "out", "--json", *options)
        assert finished.code == 0, finished.err
        return [Path(image["input"]).name for image in finished.json["images"] if image["status"] == "done"]

    assert done() == ["a.png", "b.JPG"]
    assert done() == []
    picture(size=(30, 20)).save("in/a.png")  # another input
    assert done() == ["a.png"]
    Path("out/b.png").write_bytes(Path("out/b.png").read_bytes()[:-9])  # somebody changed it
    refused = batch("in", "-o", "out")
    assert refused.code == 2 and "b.png' exists and was not made here" in refused.err
    assert done("--overwrite") == ["b.JPG"]
    Path("out/b.png").unlink()
    assert done() == ["b.JPG"]
    Path("out/b.png").touch()  # another time, the same content
    assert done() == []
    assert done("--seed", "1") == ["a.png", "b.JPG"]  # other settings
    assert done("--seed", "1") == []


def test_results_lie_beside_a_link_to_a_folder(photos: Path, batch: Run) -> None:
    Path("disk").mkdir()
    Path("in").rename("disk/real")
    Path("photos").symlink_to("disk/real")
    assert batch("photos").code == 0
    assert Path("photos_x2").is_dir() and [path.name for path in Path("disk").iterdir()] == ["real"]


def test_a_file_of_the_users_is_never_taken_for_ours(photos: Path, batch: Run) -> None:
    """Not even where a run died before it wrote: what it was about to write is known to the last byte."""
    assert batch("in", "-o", "out").code == 0
    made = Path("out/a.png").read_bytes()
    shutil.rmtree("out")
    LocalFolder(Path("out")).claim("a.png", made)
    Path("out/a.png").write_bytes(made[:-1] + b"x")  # the user's own
    refused = batch("in", "-o", "out")
    assert refused.code == 2 and "exists and was not made here" in refused.err
    Path("out/a.png").write_bytes(made)  # what the dead process wrote
    assert batch("in", "-o", "out").code == 0 and Path("out/a.png").read_bytes() == made
    assert not list(Path("out/.bidiffsr/begun").iterdir())


def test_a_result_of_another_picture_is_not_replaced(photos: Path, batch: Run) -> None:
    picture(size=(20, 20)).save("in/a.jpg")
    assert batch("in", "-o", "out", "--include", "a.png").code == 0
    before = contents(Path("out"))
    refused = batch("in", "-o", "out", "--include", "a.jpg")
    assert refused.code == 2 and "'out/a.png' of 'in/a.png', not of 'in/a.jpg'" in refused.err
    assert contents(Path("out")) == before
    assert batch("in", "-o", "out", "--include", "a.jpg", "--overwrite").code == 0
    assert contents(Path("out")) != before
    assert batch("in", "-o", "out", "--include", "a.png").code == 2  # it is the other one's now


@pytest.mark.parametrize(
    "value", ["[]", "7", '"x"', "{}", '{"key": 5}', '{"result": [1]}', '{"sha256": {}, "bytes": []}']
)
def test_a_journal_that_says_nonsense_is_not_believed(photos: Path, batch: Run, value: str) -> None:
    assert batch("in", "-o", "out").code == 0
    (journal,) = Path("out/.bidiffsr").glob("*.jsonl")
    (line, *_) = journal.read_text().splitlines()
    entry = json.loads(line)
    said = json.loads(value)
    entry["value"] = entry["value"] | said if isinstance(said, dict) and said else said
    journal.write_text(json.dumps(entry) + "\n")
    finished = batch("in", "-o", "out", "--json")
    assert finished.code in (0, 2) and "unexpected" not in finished.err


def test_folders_and_pictures_beside_each_other(photos: Path, batch: Run) -> None:
    Path("other").mkdir()
    picture().save("other/q.png")
    first = batch("in", "in/a.png", "other", "-r", "-o", "in/big", "--json")
    assert first.code == 0 and first.json["counts"]["done"] == 4, first.err
    again = batch("in", "other", "-r", "-o", "in/big", "--json")
    assert again.json["counts"] == {"done": 0, "skipped": 4, "failed": 0, "left": 0}
    Path("empty").mkdir()
    some = batch("in", "empty", "-o", "some", "--json")
    assert some.code == 0 and some.json["counts"]["done"] == 2 and "no pictures in 'empty'" in some.err
    Path("empty2").mkdir()
    assert batch("empty", "empty2").code == 4
    assert batch("in/a.png").code == 2  # where would its result go?
    assert batch("in/a.png", "-o", "one").code == 0 and list(contents(Path("one"))) == ["a.png"]


def test_links_in_a_circle_and_results_that_are_links(photos: Path, batch: Run) -> None:
    Path("in/loop.jpg").symlink_to("loop.jpg")
    finished = batch("in", "-o", "out", "--json")
    assert finished.code == 3 and finished.json["counts"]["done"] == 2
    Path("in/loop.jpg").unlink()
    Path("out/a.png").rename("moved.png")
    Path("out/a.png").symlink_to(Path("moved.png").absolute())
    os.utime("moved.png", (1, 1))
    assert batch("in", "-o", "out", "--json").json["counts"]["skipped"] == 2


def test_files_of_other_kinds_and_folders_that_are_closed_are_told(photos: Path, batch: Run) -> None:
    for name in ("c.jfif", "d.jpe", "e.apng"):
        picture().save(f"in/{name}", {"c": "JPEG", "d": "JPEG", "e": "PNG"}[name[0]])
    Path("in/f.heic").write_bytes(b"nothing")
    finished = batch("in", "-o", "out", "--json")
    assert finished.code == 0 and finished.json["counts"]["done"] == 5
    assert finished.json["left_out"] == {".txt": 1, ".heic": 1}
    assert "2 other files" in batch("in", "-o", "out").err
    Path("in/gone.png").symlink_to("annex/objects/1234")
    dangling = batch("in", "-o", "out", "--json")
    assert dangling.code == 3 and dangling.json["counts"] == {"done": 0, "skipped": 5, "failed": 1, "left": 0}
    assert "gone.png' is a link to nothing" in dangling.err
    Path("in/gone.png").unlink()
    Path("in/sub").chmod(0)
    if os.access("in/sub", os.R_OK):
        return  # root may list everything
    closed = batch("in", "-r", "-o", "out")
    assert closed.code == 3 and "in/sub' cannot be listed" in closed.err


def test_folders_deeper_than_python_calls_itself(photos: Path, batch: Run) -> None:
    here = Path.cwd()
    for _ in range(1500):
        Path("deep").mkdir()
        os.chdir("deep")
    os.chdir(here)
    shutil.move("deep", "in/d")
    assert batch("in", "-o", "out").code == 0  # not even looked at
    deep = batch("in", "-r", "-o", "deep")
    assert deep.code == 3 and "cannot be listed: File name too long" in deep.err
    subprocess.run(["rm", "-rf", "in/d"], check=True)  # shutil would call itself too often


def test_a_suffix_without_room_is_refused_before_the_work(photos: Path, batch: Run) -> None:
    picture().save(f"in/{'n' * 240}.png")
    refused = batch("in", "-o", "out", "--suffix", "_enlarged_by_two")
    assert refused.code == 2 and "No file in 'out' can have the name" in refused.err and not Path("out").exists()


def test_two_names_of_the_same_letters_are_a_clash(photos: Path, batch: Run) -> None:
    for form in ("NFC", "NFD"):
        picture().save(f"in/{unicodedata.normalize(form, 'été')}.png")
    if len(list(Path("in").glob("*t*.png"))) == 2:  # not on a Mac
        assert "would have one result" in batch("in", "-o", "out").err


def test_any_fault_of_a_picture_is_its_own(photos: Path, batch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("bidiffsr_cli.folders.work.encode_result", broken)
    finished = batch("in", "-o", "out", "--json")
    assert finished.code == 3 and finished.json["counts"]["failed"] == 2
    assert "a.png' failed (ZeroDivisionError: nobody thought of this)" in finished.err


def test_which_pictures(photos: Path, batch: Run) -> None:
    def names(*options: object) -> list[str]:
        shutil.rmtree("out", ignore_errors=True)
        finished = batch("in", "-o", "out", *options)
        assert finished.code == 0, finished.err
        return sorted(contents(Path("out")))

    assert names() == ["a.png", "b.png"]
    assert names("--include", "*.jpg") == ["b.png"]
    assert names("-r", "--exclude", "sub/*") == ["a.png", "b.png"]
    assert names("-r", "--limit", "1") == ["a.png"]
    assert names("--suffix", "_big", "--format", "webp") == ["a_big.webp", "b_big.webp"]
    parts = [names("-r", "--shard", f"{index}/3") for index in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == ["a.png", "b.png", "sub/c.png"]


def test_the_results_in_the_folder_are_no_pictures(photos: Path, batch: Run) -> None:
    for _ in range(2):
        finished = batch("in", "-r", "-o", "in/out", "--json")
        assert finished.code == 0 and sum(finished.json["counts"].values()) == 3


def test_the_output_may_lie_above_and_a_dry_run_writes_nothing(photos: Path, batch: Run) -> None:
    planned = batch("in", "-o", "new", "--dry-run", "--json")
    assert planned.code == 0 and planned.json["counts"]["left"] == 2 and not Path("new").exists()
    Path("new").mkdir()
    assert batch("in", "-o", "new", "--dry-run").code == 0 and not list(Path("new").iterdir())
    assert batch("in", "-o", ".", "--suffix", "_big").code == 0
    assert Path("a_big.png").is_file()


def test_parts_whose_journals_differ(photos: Path, batch: Run) -> None:
    """What one part did with other settings before does not hide what was done since."""
    for index in (1, 2, 3):
        assert batch("in", "-r", "-o", "out", "--shard", f"{index}/3").code == 0
    for _ in range(2):
        again = batch("in", "-r", "-o", "out", "--seed", "1", "--json")
        assert again.code == 0, again.err
    assert again.json["counts"]["skipped"] == 3


def test_a_file_that_appears_meanwhile_is_not_touched(
    photos: Path, batch: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bidiffsr_cli.folders import local

    def late(*args: object, **options: object) -> object:
        Path("out/a.png").write_bytes(b"mine")
        return sample(*args, **options)

    sample = local.sample_job
    monkeypatch.setattr(local, "sample_job", late)
    finished = batch("in", "-o", "out", "--include", "a.*", "--json")
    assert finished.code == 3 and Path("out/a.png").read_bytes() == b"mine"


def test_what_is_refused(photos: Path, batch: Run) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    Path("file").touch()
    for options, code in (
        (["none"], 4),
        ([""], 2),
        (["in", "-o", ""], 2),
        (["in", "--include", "*.gif"], 4),
        (["in", "-o", "in"], 2),
        (["in", "-o", "out"], 2),
        (["in", "-o", "file"], 2),
        (["in", "--shard", "4/3"], 2),
        (["in", "--suffix", "a/b"], 2),
        (["in", "--seed", "random"], 2),
        (["in", "--scale", "3"], 2),
        (["in", "--device", "cpu,cpu"], 2),
        (["in", "--device", "cuda:9"], 6),
        (["in", "--ray-address", "x"], 2),
        (["in", "--report", "r.txt"], 2),
    ):
        refused = batch(*options)
        assert refused.code == code and is_one_sentence(
            refused.err.splitlines()[-2] + "\n" + refused.err.splitlines()[-1]
        ), (
            options,
            refused.err,
        )
    assert Path("out/a.png").read_bytes() == b"mine"
    assert batch("in", "-o", "out", "--overwrite").code == 0
    picture().save("in/a.jpg")
    clash = batch("in", "-o", "new")
    assert clash.code == 2 and "a.jpg and a.png" in clash.err and not Path("new").exists()


@pytest.mark.slow
def test_two_hundred_pictures_ten_of_them_bad(folder: Path, batch: Run) -> None:
    draw = random.Random(0)
    Path("in").mkdir()
    for index in range(200):
        path = Path("in") / f"{index:03}.{FORMATS[index % len(FORMATS)]}"
        data = io.BytesIO()
        mode = ("RGB", "L", "RGB")[index % 3]
        picture(mode, draw.choice(((24, 16), (16, 24), (16, 16)))).save(
            data, {"tif": "TIFF", "jpg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper())
        )
        path.write_bytes(data.getvalue() if index % 20 else draw.randbytes(draw.randrange(100)))
    finished = batch("in", "-o", "out", "--json", "--report", "r.csv")
    assert finished.code == 3
    assert finished.json["counts"] == {"done": 190, "skipped": 0, "failed": 10, "left": 0}
    assert "Error: 10 of 200 pictures failed: in/000.png" in finished.err
    assert len(contents(Path("out"))) == 190
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    assert sorted(row["status"] for row in rows) == ["done"] * 190 + ["failed"] * 10
    assert all(row["error"] for row in rows if row["status"] == "failed")
    fast = batch("in", "-o", "fast", "--fail-fast", "--json")
    assert fast.code == 3 and fast.json["counts"]["left"] > 150


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(photos: Path, model: Path, number: int) -> None:
    for index in range(40):
        picture().save(f"in/{index}.png")
    process = spawn(["batch", "in", "-o", "out", "-m", model, "--steps", "3"])
    while len(contents(Path("out")) if Path("out").exists() else ()) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    stopped = finish(process)
    assert stopped.code == 128 + number and "Traceback" not in stopped.err
    assert all(decoded(data) for data in contents(Path("out")).values())
    rest = finish(spawn(["batch", "in", "-o", "out", "-m", model, "--steps", "3", "--json"]))
    assert rest.code == 0 and rest.json["counts"]["skipped"] >= 3 and rest.json["counts"]["left"] == 0


@pytest.mark.slow
def test_killed_again_and_again(folder: Path, model: Path) -> None:
    """After kill -9 at random moments every output is there, whole, and that of an undisturbed run."""
    draw = random.Random(1)
    Path("in").mkdir()
    for index in range(60):
        picture(size=draw.choice(((24, 16), (16, 24), (16, 16)))).save(f"in/{index:02}.png")
    options = ["batch", "in", "-m", model, "--steps", "2"]
    straight = finish(spawn([*options, "-o", "straight"]))
    assert straight.code == 0, straight.err
    kills = 0
    for _ in range(20):
        process = spawn([*options, "-o", "out", "--quiet"])
        goal, deadline = len(list(Path("out").glob("*.png"))) + draw.randrange(5, 15), time.time() + 60
        while process.poll() is None and len(list(Path("out").glob("*.png"))) < goal:
            assert time.time() < deadline
            time.sleep(0.005)
        time.sleep(draw.random() / 20)
        process.send_signal(signal.SIGKILL)
        if finish(process).code == 0:
            break
        kills += 1
        for data in contents(Path("out")).values():
            decoded(data)  # nothing half-written, at any time
    last = finish(spawn([*options, "-o", "out", "--json"]))
    assert last.code == 0 and last.json["counts"]["left"] == last.json["counts"]["failed"] == 0
    assert kills >= 3 and contents(Path("out")) == contents(Path("straight"))


def test_two_processes_do_not_share_a_part(photos: Path, model: Path, batch: Run) -> None:
    for index in range(30):
        picture(size=(80, 60)).save(f"in/{index}.png")
    process = spawn(["batch", "in", "-o", "out", "-m", model, "--steps", "3"])
    while not list(Path("out/.bidiffsr").glob("*.jsonl")):
        time.sleep(0.02)
    refused = batch("in", "-o", "out")
    assert refused.code == 2 and "Another process" in refused.err
    process.kill()
    finish(process)


def test_a_cluster(photos: Path, model: Path, batch: Run) -> None:
    """Three jobs of a scheduler, at once."""
    assert batch("in", "-r", "-o", "whole").code == 0
    jobs = [
        spawn(["batch", "in", "-r", "-o", "parts", "-m", model, "--steps", "1", "--shard", f"{index}/3", "--json"])
        for index in (1, 2, 3)
    ]
    finished = [finish(job) for job in jobs]
    assert all(job.code == 0 for job in finished), finished
    assert sum(job.json["counts"]["done"] for job in finished) == 3
    assert contents(Path("parts")) == contents(Path("whole"))
    again = batch("in", "-r", "-o", "parts", "--json")  # one process knows what the parts did
    assert again.json["counts"]["skipped"] == 3


def test_the_journal_says_what_was_done(photos: Path, batch: Run) -> None:
    batch("in", "-o", "out")
    (journal,) = Path("out/.bidiffsr").glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    keys = [line["key"] for line in lines if line["value"]]
    assert sorted(keys) == ["a.png", "b.png"]  # side by side, in the order in which they are finished
    assert lines[-1]["value"]["result"]["seconds"]["sample"] > 0
