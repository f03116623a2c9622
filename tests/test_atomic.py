"""check_output and write_atomic: whole files or none, whatever happens meanwhile."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bidiffsr_cli import atomic
from bidiffsr_cli.errors import BidiffsrError, OutputError

DATA = bytes(range(256)) * 1000
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions and links")


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing; the second is what systems without O_TMPFILE get."""
    if request.param == "named":
        monkeypatch.setattr(atomic, "_write_nameless", lambda *_: False)
    return str(request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file(tmp_path: Path, way: str) -> None:
    atomic.write_atomic(DATA, tmp_path / "ä ö.png", overwrite=False)
    assert (tmp_path / "ä ö.png").read_bytes() == DATA and names(tmp_path) == ["ä ö.png"]


def test_overwriting_only_when_asked(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already") as caught:
        atomic.write_atomic(DATA, path, overwrite=False)
    assert path.read_bytes() == b"old" and "--overwrite" in caught.value.hint
    atomic.write_atomic(DATA, path, overwrite=True)
    assert path.read_bytes() == DATA and names(tmp_path) == ["a.png"]


@posix
def test_permissions(tmp_path: Path, way: str) -> None:
    old = os.umask(0o027)
    try:
        atomic.write_atomic(DATA, tmp_path / "new", overwrite=False)
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
        (tmp_path / "new").chmod(0o604)
        atomic.write_atomic(DATA, tmp_path / "new", overwrite=True)
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(old)


@posix
def test_a_symbolic_link_is_written_through(tmp_path: Path, way: str) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real.png", tmp_path / "link.png"
    link.symlink_to(target)
    atomic.write_atomic(b"first", link, overwrite=False)  # the link points to nothing yet
    atomic.write_atomic(DATA, link, overwrite=True)
    assert link.is_symlink() and target.read_bytes() == DATA and names(target.parent) == ["real.png"]


@posix
def test_a_device_takes_the_bytes() -> None:
    atomic.check_output(Path("/dev/null"), overwrite=False)
    atomic.write_atomic(DATA, Path("/dev/null"), overwrite=False)
    assert not Path("/dev/null").is_file()


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    monkeypatch.setattr(os, "write", full)
    for name, overwrite in (("new.png", False), ("old.png", True)):
        with pytest.raises(BidiffsrError, match="disk is full") as caught:
            atomic.write_atomic(DATA, tmp_path / name, overwrite=overwrite)
        assert caught.value.hint
    assert names(tmp_path) == ["old.png"] and (tmp_path / "old.png").read_bytes() == b"old"


@posix
def test_a_real_size_limit_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from bidiffsr_cli.errors import BidiffsrError
from bidiffsr_cli.atomic import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_atomic(bytes(50_000), Path(sys.argv[1]), overwrite=False)
except BidiffsrError as error:
    print(error.message)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert "cannot be written" in done.stdout and names(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_atomic(DATA, tmp_path / "a.png", overwrite=False)
    assert names(tmp_path) == []


def meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets another program create the file while ours is being written."""
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        real(file)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_that_appears_meanwhile_is_not_touched(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    meanwhile(path, monkeypatch)
    with pytest.raises(OutputError, match="exists already"):
        atomic.write_atomic(DATA, path, overwrite=False)
    assert path.read_bytes() == b"theirs" and names(tmp_path) == ["a.png"]


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("kernel", [True, False])
def test_folders_without_links(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    if not kernel:
        monkeypatch.setattr(atomic, "_rename_by_kernel", lambda *_: False)
    path = tmp_path / "a.png"
    atomic.write_atomic(DATA, path, overwrite=False)
    assert path.read_bytes() == DATA and names(tmp_path) == ["a.png"]
    with pytest.raises(OutputError, match="exists already"):
        atomic.write_atomic(b"new", path, overwrite=False)
    atomic.write_atomic(b"new", path, overwrite=True)
    assert path.read_bytes() == b"new" and names(tmp_path) == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_file_that_appears_meanwhile_in_a_folder_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    test_a_file_that_appears_meanwhile_is_not_touched(tmp_path, "named", monkeypatch)


@posix
def test_a_process_that_is_killed_where_there_are_no_links_leaves_whole_files_only(tmp_path: Path) -> None:
    code = f"import os\ndef none(*_, **__): raise OSError(1, 'no links')\nos.link = none\n{WRITING}"
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        kill_while_writing(code, folder, False, attempt)
        assert all(path.stat().st_size == 3_000_000 for path in folder.glob("*.png"))


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without names")
def test_a_killed_process_leaves_whole_files_only(tmp_path: Path) -> None:
    for attempt, overwrite in enumerate([False, False, True]):
        folder = tmp_path / str(attempt)
        kill_while_writing(WRITING, folder, overwrite, attempt)
        # overwriting has one moment with two names for one whole file; nothing else may ever be left
        assert overwrite or all(path.suffix == ".png" for path in folder.iterdir())
        assert all(path.stat().st_size == 3_000_000 for path in folder.iterdir())


WRITING = """
import itertools, sys
from pathlib import Path
from bidiffsr_cli.atomic import write_atomic
folder, overwrite = Path(sys.argv[1]), sys.argv[2] == "True"
data = bytes(3_000_000)
print("ready", flush=True)
for number in itertools.count():
    write_atomic(data, folder / f"{0 if overwrite else number}.png", overwrite=overwrite)
"""


def kill_while_writing(code: str, folder: Path, overwrite: bool, attempt: int) -> None:
    """Let a process write files into a new folder, and kill it at some moment."""
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder), str(overwrite)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.037 * attempt)
        process.send_signal(signal.SIGKILL)


def refused(path: Path, overwrite: bool = False) -> str:
    with pytest.raises(OutputError) as caught:
        atomic.check_output(path, overwrite=overwrite)
    assert caught.value.hint and caught.value.exit_code == 2
    return caught.value.message


def test_check_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    atomic.check_output(tmp_path / "new.png", overwrite=False)
    atomic.check_output(tmp_path / "file", overwrite=True)
    assert names(tmp_path) == ["file"]
    assert "exists already" in refused(tmp_path / "file")
    assert "is a folder" in refused(tmp_path, overwrite=True)
    assert "does not exist" in refused(tmp_path / "none" / "a.png")
    assert "not a folder" in refused(tmp_path / "file" / "a.png")


@posix
def test_check_output_knows_names_that_no_file_can_have(tmp_path: Path) -> None:
    assert "cannot be written" in refused(tmp_path / ("x" * 300))
    assert "cannot be written" in refused(Path("a\0b"))


@posix
def test_check_output_asks_for_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root would be allowed everything
    assert "write-protected" in refused(tmp_path / "a.png")


def test_a_missing_folder_is_an_output_error(tmp_path: Path, way: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        atomic.write_atomic(DATA, tmp_path / "none" / "a.png", overwrite=False)


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    for name in (".bidiffsr-old.tmp", ".bidiffsr-new.tmp", "mine.tmp", ".bidiffsr"):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / ".bidiffsr-old.tmp", (1, 1))
    atomic.sweep(tmp_path, older_than=60)
    assert {path.name for path in tmp_path.iterdir()} == {".bidiffsr-new.tmp", "mine.tmp", ".bidiffsr"}
    atomic.sweep(tmp_path, older_than=0)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.tmp", ".bidiffsr"}


def test_they_are_swept_where_a_file_needs_a_temporary_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_write_nameless", lambda *_: False)
    for name, age in {"old": atomic.A_DAY + 60, "young": 60}.items():
        left = tmp_path / f"{atomic.TEMPORARY}{name}.tmp"
        left.touch()
        os.utime(left, (time.time() - age,) * 2)
    atomic.write_atomic(DATA, tmp_path / "a.png", overwrite=False)
    assert names(tmp_path) == [f"{atomic.TEMPORARY}young.tmp", "a.png"]
