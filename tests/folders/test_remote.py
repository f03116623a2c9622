"""Folders behind URLs: what their names, their errors and their journals may be, in memory and on a real S3 server."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bidiffsr_cli.enlarging import Writing
from bidiffsr_cli.errors import InputError, OutputError, StorageError, UsageError
from bidiffsr_cli.folders.disk import LocalFolder
from bidiffsr_cli.folders.jobs import Job, Selection, find_jobs
from bidiffsr_cli.folders.ledger import Ledger
from bidiffsr_cli.folders.remote import open_folder
from bidiffsr_cli.folders.storage import Folder, Status
from bidiffsr_cli.folders.work import BEGINNING, Outcome, Work, decode_job, size_of
from bidiffsr_cli.images import LONGEST_FILE
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.runtime import Machine

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the stores' libraries


@pytest.fixture
def memory() -> Iterator[Any]:
    """The store of this process."""
    import fsspec

    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def jobs_of(folder: Folder, output: Folder, **selection: Any) -> list[Job]:
    return find_jobs(folder, output, Selection(recursive=True, **selection), suffix="", extension=".png").jobs


def finished(ledger: Ledger, job: Job, data: bytes) -> None:
    """What an engine does once it has a result."""
    replace = ledger.is_ours(job)
    job.output.claim(job.result, data)
    job.output.write(job.result, data, overwrite=replace)
    ledger.finish(Outcome(job, {"status": "done"}, sha256=hashlib.sha256(data).hexdigest()))


def test_what_is_a_url(tmp_path: Path, memory: Any) -> None:
    assert open_folder("photos") == LocalFolder(Path("photos"))
    assert open_folder("photos", absolute=True) == LocalFolder(Path.cwd() / "photos")
    assert open_folder(tmp_path.as_uri()) == LocalFolder(tmp_path)
    assert open_folder("C:\\photos") == LocalFolder(Path("C:\\photos"))
    assert str(open_folder("memory://a/b/")) == "memory://a/b"
    for url in ("none://a/b", "memory://", "memory://a::memory://b", "s3://me:secret@bucket/x"):
        with pytest.raises(UsageError) as refused:
            open_folder(url)
        assert refused.value.hint and "secret" not in refused.value.message


def test_which_names_are_pictures(memory: Any) -> None:
    for name in ("b.PNG", "a.jpg", "sub/x.y.webp", "sub/.hidden.png", ".thumbs/t.png", "notes.txt", "p*[1]?#.png"):
        memory.pipe_file(f"/in/{name}", b"12345")
    memory.pipe_file("/in2/other.png", b"1")
    folder = open_folder("memory://in")
    contents = folder.contents()
    assert list(contents.pictures) == ["a.jpg", "b.PNG", "p*[1]?#.png", "sub/x.y.webp"]
    assert contents.others == {".txt": 1} and not contents.closed
    assert list(folder.contents(recursive=False).pictures) == ["a.jpg", "b.PNG", "p*[1]?#.png"]
    assert folder.read("p*[1]?#.png") == b"12345"
    jobs = jobs_of(folder, open_folder("memory://out"))
    assert [job.target for job in jobs][-1] == "memory://out/sub/x.y.png"
    assert [job.name for job in jobs_of(folder, open_folder("memory://in/sub"))] == ["a.jpg", "b.PNG", "p*[1]?#.png"]
    with pytest.raises(OutputError, match="itself"):
        jobs_of(folder, open_folder("memory://in/"))
    assert open_folder("memory://a/b").sibling("_x2") == open_folder("memory://a/b_x2")
    with pytest.raises(UsageError, match="beside"):
        folder.sibling("_x2")
    for missing in ("memory://none", "memory://in/a.jpg"):
        with pytest.raises(InputError, match=r"no pictures|does not exist"):
            jobs_of(open_folder(missing), folder)


def test_a_folder_travels_without_its_connection(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/in")
    folder.write("a.png", b"1", overwrite=False)
    data = pickle.dumps(folder)
    assert len(data) < 300 and pickle.loads(data).read("a.png") == b"1"


def test_files_in_a_bucket(bucket: str) -> None:
    folder = open_folder(f"s3://{bucket}/in put")
    assert folder.status("a.png") is None and folder.statuses(["a.png"]) == {}
    folder.write("ä b/a.png", b"1", overwrite=False)
    folder.write("big.png", bytes(BEGINNING + 9), overwrite=False)
    with pytest.raises(OutputError, match="exists already") as refused:
        folder.write("ä b/a.png", b"2", overwrite=False)
    assert not isinstance(refused.value, StorageError)
    before = folder.status("ä b/a.png")
    assert before and before.bytes == 1 and folder.statuses(["ä b/a.png", "none"]) == {"ä b/a.png": before}
    folder.write("ä b/a.png", b"2", overwrite=True)
    assert folder.read("ä b/a.png") == b"2" and folder.status("ä b/a.png") != before
    assert folder.fetch("big.png", BEGINNING) == bytes(BEGINNING)
    assert folder.read("big.png") == folder.fetch("big.png", BEGINNING + 99) == bytes(BEGINNING + 9)
    assert folder.fetch("any.png", 0) == b""
    with pytest.raises(InputError, match=r"none\.png' cannot be read: it does not exist"):
        folder.read("none.png")


def test_one_of_two_writers_wins(bucket: str) -> None:
    """A file that appeared since it was looked for is not replaced."""
    folder = open_folder(f"s3://{bucket}/out")
    both, outcomes = threading.Barrier(8), []

    def write(data: bytes) -> None:
        both.wait()
        try:
            folder.write("a.png", data, overwrite=False)
            outcomes.append(data)
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(bytes([index]),)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [folder.read("a.png")]


def test_names_that_lead_out_are_refused(bucket: str, tmp_path: Path) -> None:
    import s3fs

    store, folder = s3fs.S3FileSystem(), open_folder(f"s3://{bucket}/in")
    for name in ("good.png", "a//b.png", "../out.png", "c/../../d.png"):
        store.pipe_file(f"{bucket}/in/{name}", b"1")
    for output in (LocalFolder(tmp_path / "out"), open_folder(f"s3://{bucket}/out")):
        with pytest.raises(UsageError, match=r"'a//b\.png'") as refused:
            jobs_of(folder, output)
        assert ".." not in refused.value.message  # hidden ones, which are left out
        assert [job.name for job in jobs_of(folder, output, exclude=["a//*"])] == ["good.png"]


def test_the_size_is_in_the_beginning(bucket: str, pictures: Path) -> None:
    folder = open_folder(f"s3://{bucket}/in")
    content = (pictures / "parrot.png").read_bytes()
    folder.write("whole.png", content, overwrite=False)
    folder.write("empty.png", b"", overwrite=False)
    folder.write("late.tif", late_tiff(), overwrite=False)
    output = open_folder(f"s3://{bucket}/out")
    jobs = {job.name: job for job in jobs_of(folder, output)}
    with Image.open(pictures / "parrot.png") as image:
        assert size_of(jobs["whole.png"]) == image.size
    assert size_of(jobs["late.tif"]) == (600, 500)
    with pytest.raises(InputError, match=r"empty\.png' is empty"):
        size_of(jobs["empty.png"])


def test_names_that_no_store_takes(tmp_path: Path, memory: Any) -> None:
    try:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / os.fsdecode(b"\xff.png")).write_bytes(b"1")
    except OSError:
        pytest.skip("nor does this file system")
    with pytest.raises(UsageError, match=r"the name of '\\udcff\.png'"):
        jobs_of(LocalFolder(tmp_path / "in"), open_folder("memory://out"))
    assert len(jobs_of(LocalFolder(tmp_path / "in"), LocalFolder(tmp_path / "out"))) == 1
    assert open_folder("memory://out").can_name("Screenshot at 5.04\u202fPM.png")  # as macOS calls them


def test_a_file_too_large_to_be_a_picture_is_not_read(memory: Any) -> None:
    memory.pipe_file("/in/a.png", b"1")
    (job,) = jobs_of(open_folder("memory://in"), open_folder("memory://out"))
    work = Work("fast", Machine(), UpscaleOptions(), Writing())
    with pytest.raises(InputError, match="more than 4 GB"):
        decode_job(replace(job, status=Status(LONGEST_FILE + 1, "1")), work)


def late_tiff() -> bytes:
    """A TIFF whose directory stands behind its pixels, as Pillow and most others write it."""
    data = io.BytesIO()
    Image.effect_noise((600, 500), 90).save(data, "TIFF")
    content = data.getvalue()
    offset = int.from_bytes(content[4:8], "little")
    if offset < BEGINNING:  # the directory goes to the end
        moved = content[:4] + len(content).to_bytes(4, "little") + content[8:]
        content = moved + content[offset : offset + 2 + 12 * int.from_bytes(content[offset : offset + 2], "little") + 4]
    return content


def test_a_ledger_of_objects(bucket: str) -> None:
    folder, output = open_folder(f"s3://{bucket}/in"), open_folder(f"s3://{bucket}/out")
    for name in "abcd":
        folder.write(f"{name}.png", name.encode(), overwrite=False)
    jobs = jobs_of(folder, output)
    assert Ledger(output, {}, (1, 1)).survey(jobs) == ({}, {})
    assert output.statuses([".bidiffsr/opened"]) == {}  # nothing was written
    with Ledger(output, {}, (1, 1)) as ledger:
        finished(ledger, jobs[0], b"result")
        finished(ledger, jobs[1], b"result")
        output.claim("c.png", b"whole")
        output.write("c.png", b"whole", overwrite=False)  # and a crash
        output.claim("d.png", b"another")  # a crash, and then
        output.write("d.png", b"foreign", overwrite=False)
    output.write("b.png", b"others", overwrite=True)  # of the same length
    folder.write("a.png", b"A", overwrite=True)
    for ledger in (Ledger(output, {}, (2, 3)), Ledger(output, {}, (1, 1))):
        done, foreign = ledger.survey(jobs)
        assert done == {jobs[0]: {"status": "done"}} and foreign == {jobs[1]: "", jobs[3]: ""}
        assert [ledger.is_ours(job) for job in jobs] == [True, False, True, False]
        assert ledger.survey(jobs_of(folder, output))[0] == {}  # a is another picture now
    output.write("b.png", b"result", overwrite=True)  # again what was noted
    with Ledger(output, {}, (1, 1)) as ledger:
        assert list(ledger.survey(jobs)[0]) == jobs[:2]
    (note, *_) = open_s3().glob(f"{bucket}/out/.bidiffsr/done/*.json")
    open_s3().pipe_file(note, b"[]")
    with pytest.raises(OutputError, match="is not a journal's entry"):
        Ledger(output, {}, (1, 1))


def open_s3() -> Any:
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)


def test_a_store_that_does_not_know_versions(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the content decides."""
    monkeypatch.setattr("bidiffsr_cli.folders.remote.VERSIONS", ())
    memory.pipe_file("/in/a.png", b"1")
    output = open_folder("memory://out")
    jobs = jobs_of(open_folder("memory://in"), output)
    with Ledger(output, {}, (1, 1)) as ledger:
        finished(ledger, jobs[0], b"result")
        assert list(ledger.survey(jobs)[0]) == jobs
        output.write("a.png", b"tluser", overwrite=True)
        assert ledger.survey(jobs) == ({}, dict.fromkeys(jobs, ""))


def test_stores_that_fail(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    none = open_folder("s3://no-such-bucket-here/x")
    with pytest.raises(InputError, match=r"does not exist|no pictures"):
        jobs_of(none, open_folder(f"s3://{bucket}/out"))
    with pytest.raises(StorageError, match="cannot be read") as refused:
        Ledger(none, {}, (1, 1))
    assert "\n" not in refused.value.message and refused.value.hint
