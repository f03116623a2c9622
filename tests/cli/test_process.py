"""The command as a process: interruption, pipes, terminals, and what Python itself may say."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bidiffsr_cli.cli._output import Output

from .support import COMMAND, decoded, default_signals, environment, finish, is_one_sentence, picture, spawn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals of POSIX")

LONG = ["--steps", "2000"]  # minutes of work


@pytest.fixture
def large(folder: Path) -> Path:
    """A picture of many windows."""
    picture(size=(120, 80)).save("large.png")
    Path("photo.png").unlink()
    return folder


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (15, 143, "Terminated")])
def test_stopped_in_the_middle(large: Path, model: Path, number: int, code: int, word: str) -> None:
    process = spawn(["upscale", "large.png", "--model", model, *LONG])
    wait_until_busy(process)
    process.send_signal(number)
    finished = finish(process, seconds=15)  # of the minutes that it would take
    assert finished.code == code and finished.out == b""
    assert finished.err.splitlines() == [f"Error: {word}.", "No partial result is left behind."]
    assert [path.name for path in large.iterdir()] == ["large.png"]


@pytest.mark.slow
def test_stopped_in_a_window_that_takes_long(large: Path) -> None:
    """One window cannot be cut short, but the process can."""
    picture(size=(1500, 1500)).save("large.png")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process = spawn(["upscale", "large.png", "--tile", "off", "--steps", "1", "--max-memory", "200GB"])
    wait_until_busy(process, seconds=1.0)
    process.send_signal(signal.SIGINT)
    finished = finish(process)
    assert finished.code in (130, 6), finished.err  # 6 where memory does not suffice
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 15  # of the 44 s that the window takes
    assert [path.name for path in large.iterdir()] == ["large.png"]


def test_pipes_round_trip(folder: Path, model: Path) -> None:
    process = spawn(["upscale", "-", "-", "--model", model], stdin=subprocess.PIPE)
    finished = finish(process, Path("photo.png").read_bytes())
    assert finished.code == 0 and decoded(finished.out).size == (48, 32)
    assert finished.err.count("\n") == 1  # the summary, and no warning of Python's or torch's


def test_a_reader_that_goes_away(large: Path, model: Path) -> None:
    with spawn(["upscale", "large.png", "-", "-f", "tiff", "--steps", "1", "--model", model]) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b"Error: Standard output was closed before everything was written.\n"


def test_help_into_a_closed_pipe(folder: Path) -> None:
    with spawn(["upscale", "--help"]) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) in (0, 1)
        assert b"Traceback" not in process.stderr.read()


def test_progress_bar_on_a_terminal(large: Path, model: Path) -> None:
    code, shown = in_terminal(["upscale", "large.png", "--steps", "2", "--model", str(model)])
    assert code == 0
    assert "large.png" in shown and re.search(r"\d+/\d+ windows, step [12]/2", shown)
    assert "\x1b[?25l" in shown  # the cursor was hidden
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # and shown again
    assert "large.png 120x80 -> large_x2.png 240x160 in" in shown


def test_progress_of_a_folder_on_a_terminal(large: Path, model: Path) -> None:
    Path("in").mkdir()
    picture(size=(120, 80)).save("in/long.png")
    code, shown = in_terminal(["batch", "in", "--steps", "10", "--model", str(model)])
    assert code == 0
    assert re.search(r"long\.png .* 0/1 pictures, \d+/\d+ windows", shown)


@pytest.mark.parametrize(
    ("settings", "terminal", "shown"),
    [
        ({}, True, True),
        ({"json": True}, True, True),
        ({"progress": False}, True, False),
        ({"quiet": True}, True, False),
        ({}, False, False),
    ],
)
def test_where_a_progress_bar_belongs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, bool],
    terminal: bool,
    shown: bool,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    output = Output()
    output.configure(**settings)
    for unit, detail in (("windows", ", step 3/3"), ("scores", ""), ("bytes", "")):
        with output.progress("photo.png", unit) as advance:
            advance(4, 6, detail=detail)
            output.progressed("a line for those who see no bar")
        said = capsys.readouterr().err
        assert (f"4/6 {unit}{detail}" in said) == shown
        assert ("a line" in said) == (not shown and settings in ({}, {"progress": False}))
    with output.progress("fast", "bytes"):
        pass
    assert "fast" not in capsys.readouterr().err  # not before the first byte


def test_ctrl_c_on_a_terminal(large: Path, model: Path) -> None:
    code, shown = in_terminal(["upscale", "large.png", "--model", str(model), *LONG], interrupt_at="windows, step")
    assert code == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Interrupted." in shown and "Traceback" not in shown
    assert [path.name for path in large.iterdir()] == ["large.png"]


def test_colours_and_no_color(folder: Path) -> None:
    _, coloured = in_terminal(["upscale", "missing.png"])
    _, plain = in_terminal(["upscale", "missing.png"], NO_COLOR="1")
    assert "\x1b[1;31m" in coloured and "\x1b[1;31m" not in plain and "Error:" in plain


def test_no_picture_on_a_terminal(folder: Path, model: Path) -> None:
    code, shown = in_terminal(["upscale", "photo.png", "-", "--model", str(model)])
    assert code == 2 and "not printed on a terminal" in shown


def wait_until_busy(process: subprocess.Popen[bytes], seconds: float = 0.7) -> None:
    """Wait until the process has had some processor time after loading torch, or has ended."""
    deadline = time.monotonic() + 40
    loaded: float | None = None
    while process.poll() is None and time.monotonic() < deadline:
        try:
            threads = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
        except OSError:
            threads = 0
        if threads > 1 and loaded is None:  # the windows' threads
            loaded = time.monotonic()
        if loaded is not None and time.monotonic() - loaded > seconds:
            return
        time.sleep(0.05)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command through a shell, which can close streams; $B is bidiffsr."""
    variables = environment(B=f"{sys.executable} -m bidiffsr_cli")
    return subprocess.run(["bash", "-c", line], cwd=folder, env=variables, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("line", "code", "written"),
    [
        ("$B upscale photo.png big.png --steps 1 <&- >&- 2>&-", 0, True),  # as under a daemon
        ("$B upscale photo.png - --steps 1 >/dev/full", 2, False),
        ("$B upscale - big.png --steps 1 <&-", 4, False),
        pytest.param("$B upscale photo.png big.png --steps 1 2>&-", 0, True, marks=pytest.mark.slow),
        pytest.param("$B upscale photo.png big.png --steps 1 2>/dev/full", 0, True, marks=pytest.mark.slow),
        ("$B upscale photo.png big.png --steps 1 -v 2> >(true)", 0, True),  # whom messages go to is gone
        pytest.param("$B upscale photo.png - --steps 1 >&-", 2, False, marks=pytest.mark.slow),
        pytest.param("$B upscale /dev/stdin <photo.png", 2, False, marks=pytest.mark.slow),  # /dev is not written into
    ],
)
def test_streams_that_are_closed_or_full(folder: Path, line: str, code: int, written: bool) -> None:
    done = shell(line, folder)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr and b"unexpected" not in done.stderr
    assert (folder / "big.png").exists() == written


def test_a_folder_does_not_go_through_a_pipe(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "photo.png").rename(folder / "in" / "photo.png")
    for line in ("$B upscale in -", "$B upscale in - -o out/"):
        done = shell(line, folder)
        assert done.returncode == 2 and b"pipe" in done.stderr
    (folder / "-").mkdir()
    done = shell("$B upscale - big.png --steps 1 <in/photo.png", folder)
    assert done.returncode == 0 and (folder / "big.png").is_file()


@pytest.mark.slow
def test_too_little_memory_is_said_so(folder: Path) -> None:
    """A picture of few bytes and many pixels, with too little address space to decode it: half of what that takes."""
    picture("L", (1, 1)).resize((12000, 12000)).save(folder / "flat.png")
    program = "from bidiffsr_cli.cli.app import main; main(['upscale', 'photo.png', 'small.png', '--steps', '1']); "
    command = [sys.executable, "-c", program + "print(open('/proc/self/status').read())"]
    status = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout
    (usual,) = re.findall(r"^VmPeak:\s*(\d+) kB", status, re.MULTILINE)
    limit = int(usual) + 12000**2 // 1024
    done = shell(f"ulimit -v {limit}; $B upscale flat.png big.png --steps 1", folder)
    assert done.returncode == 6 and b"Memory ran out" in done.stderr, done.stderr
    assert not (folder / "big.png").exists()


def in_terminal(args: list[str], interrupt_at: str = "", **variables: str) -> tuple[int, str]:
    """Run a command in a terminal of its own, and type Ctrl-C when a text shows up."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, *COMMAND, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**variables),
        start_new_session=True,
        preexec_fn=default_signals,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not data:
            break
        shown += data
        if interrupt_at and interrupt_at.encode() in shown:
            os.write(ours, b"\x03")
            interrupt_at = ""
    code = process.wait(10)
    os.close(ours)
    return code, shown.decode()


# Makes the terminal on stdin the one that Ctrl-C is typed at, and becomes the command.
CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    "args",
    [
        ["upscale", "photo.png", "big.png"],
        pytest.param(["eval", "--hr", ".", "--metrics", "psnr_y", "--json"], marks=pytest.mark.slow),
    ],
    ids=lambda args: args[0],
)
def test_numpy_is_not_needed(folder: Path, model: Path, args: list[str]) -> None:
    """torch works without it, and so must everything here, though the tests' own tools bring it along."""
    code = (
        "import sys; sys.modules['numpy'] = None; from bidiffsr_cli.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *args, "--model", str(model)]
    process = subprocess.run(command, env=environment(), capture_output=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr.decode()
    assert b"umpy" not in process.stderr


@pytest.mark.usefixtures("heeded")
def test_interrupted_while_the_command_is_being_imported() -> None:
    code = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
import bidiffsr_cli.cli.app
"""
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=environment(), check=False)
    assert ended.returncode == -signal.SIGINT and ended.stderr == b""


def test_a_folder_that_is_gone_and_a_terminal_without_columns(folder: Path, model: Path) -> None:
    (folder / "gone").mkdir()
    code = (
        "import os, sys; os.chdir('gone'); os.rmdir('../gone'); from bidiffsr_cli.cli.app import main; sys.exit(main())"
    )
    gone = subprocess.run(
        [sys.executable, "-P", "-c", code, "doctor"], capture_output=True, env=environment(), check=False
    )
    assert gone.returncode == 2 and b"current folder does not exist any more" in gone.stderr
    for columns in ("0", "-5", "wide"):
        shown = subprocess.run(
            [sys.executable, "-P", "-m", "bidiffsr_cli", "upscale", "--help"],
            capture_output=True,
            env=environment() | {"COLUMNS": columns},
            check=True,
        )
        assert b"bidiffsr upscale photo.jpg" in shown.stdout


def test_nobody_reads_what_is_said_and_the_process_ends_all_the_same(folder: Path, model: Path) -> None:
    """stderr is a pipe that is full."""
    for index in range(40):
        picture().save(f"{index}.png")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    command = [sys.executable, "-P", "-m", "bidiffsr_cli", "batch", ".", "-o", "out", "-m", str(model), "--steps", "1"]
    process = subprocess.Popen(command, stderr=writer, stdout=subprocess.DEVNULL, env=environment())
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    os.close(reader)
    os.close(writer)


def test_a_tiff_that_is_damaged_says_one_sentence(folder: Path, model: Path) -> None:
    """And libtiff says nothing."""
    picture(size=(64, 64)).save("bad.tif", compression="tiff_adobe_deflate")
    data = bytearray(Path("bad.tif").read_bytes())
    data[200:260] = b"\xff" * 60
    Path("bad.tif").write_bytes(data)
    finished = finish(spawn(["upscale", "bad.tif", "-m", model]))
    assert finished.code == 4 and is_one_sentence(finished.err), finished.err
