"""The journal: whole lines survive, torn ones are cut off, and two processes keep apart."""

import json
import os
from pathlib import Path

import pytest

from bidiffsr_cli.errors import OutputError
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
    with pytest.raises(OutputError, match="no journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == data


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(OutputError, match="Another process"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


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


@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_plain_file_is_left_alone(tmp_path: Path, what: str) -> None:
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
