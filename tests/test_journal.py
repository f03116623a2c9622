"""The journal: whole lines survive, torn ones are cut off, and two processes keep apart."""

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from bidiffsr_cli.errors import OutputError, StorageError
from bidiffsr_cli.journal import Journal, read_entries


def test_what_is_added_is_there_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add("a", {"x": 1})
        journal.add("b", None)
        journal.add("a", 2)
    with Journal(tmp_path / "j") as journal:
        assert journal.entries == {"a": 2, "b": None} and journal.get("c") is None
        journal.add("c", [1])
    assert len((tmp_path / "j").read_text().splitlines()) == 4


@pytest.mark.skipif(os.name == "nt", reason="an open file is not moved there")
def test_a_journal_that_is_gone_ends_the_work(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add("a", 1)
        (tmp_path / "j").rename(tmp_path / "moved")
        with pytest.raises(StorageError, match="removed or moved"):
            journal.add("b", 2)
    assert read_entries(tmp_path / "moved") == {"a": 1}


@pytest.mark.parametrize(
    "rest",
    [b'{"key":"c","val', b'{"key":"c","value":1}', b"\x00\x00\x00", b"[1]\n", b'{"key":5,"value":1}\n', b"\xff\n"],
)
def test_a_torn_line_is_cut_off(tmp_path: Path, rest: bytes) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add("a", 1)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole + rest)
    with Journal(tmp_path / "j") as journal:
        assert journal.entries == {"a": 1}
        journal.add("b", 2)
    lines = (tmp_path / "j").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize(
    "data", [b"somebody's\nfile\n", b"one line\n", b'{"key":"a","value":1}\nbroken\n{"key":"b","value":2}\n']
)
def test_what_is_no_journal_is_not_touched(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(OutputError, match="not a journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == data


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(OutputError, match="Another process"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys
from bidiffsr_cli.journal import Journal
journal = Journal(pathlib.Path({str(tmp_path / "j")!r}))
journal.add("a", 1)
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, cwd="/") as other:
        assert other.stdout and other.stdout.readline() == b"open\n"
        with pytest.raises(OutputError, match="Another process works in") as caught:
            Journal(tmp_path / "j")
        assert caught.value.exit_code == 2 and caught.value.hint
        assert read_entries(tmp_path / "j") == {"a": 1}
        other.kill()
        other.wait()
    with Journal(tmp_path / "j") as journal:
        assert journal.entries == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["j"]  # no lock stays


@pytest.mark.parametrize("data", [b"", b"{", b"[1]\n", b"somebody's\nfile\n"])
def test_entries_of_what_is_no_journal(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j").write_bytes(data)
    assert read_entries(tmp_path / "j") == {}


def test_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "none" / "j")


def test_what_does_not_fit_on_the_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with Journal(tmp_path / "j") as journal:
        journal.add("a", 1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "j").stat().st_size + 10, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                journal.add("b", 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.add("c", 3)
    with Journal(tmp_path / "j") as journal:
        assert journal.entries == {"a": 1, "c": 3}


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and links")
@pytest.mark.parametrize("system", ["this one", "without O_NOFOLLOW"])  # as Windows is
@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_plain_file_is_left_alone(
    tmp_path: Path, what: str, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system != "this one":
        monkeypatch.delattr(os, "O_NOFOLLOW")
    path, target = tmp_path / "done-1-of-1.jsonl", tmp_path / "precious.txt"
    target.write_text("precious\nwords\n")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(target if what == "link" else tmp_path / "nowhere")
    with pytest.raises(OutputError):
        Journal(path)
    with pytest.raises(OutputError):
        read_entries(path)
    assert target.read_text() == "precious\nwords\n" and not (tmp_path / "nowhere").exists()


def test_a_line_nested_deeper_than_python_reads(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"key":"a","value":1}\n{"key":"b","value":' + "[" * 100_000 + "\n")
    with Journal(tmp_path / "j") as journal:
        assert journal.entries == {"a": 1}
