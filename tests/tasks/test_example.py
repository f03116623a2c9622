"""The tasks as functions: `example.py` does what it says, in a process of its own, and help() says what they take."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from cli.support import environment, picture

import bidiffsr_cli

EXAMPLE = Path(__file__).with_name("example.py")


@pytest.mark.slow
def test_the_example(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    picture(size=(48, 32)).save(tmp_path / "photos" / "a.png")
    command = [sys.executable, str(EXAMPLE), str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "upscale (96, 64) True",
        "batch done {'done': 1, 'skipped': 0, 'failed': 0, 'left': 0}",
        "evaluate {'bicubic': 1, 'fast, 1 step': 1, 'fast, 2 steps': 1}",
        "compare ['one', 'two']",
        "train True True",
    ]
    assert (tmp_path / "big.jpg").is_file() and (tmp_path / "big" / "a.png").is_file()


def test_a_function_shows_what_its_task_takes_and_returns() -> None:
    signature = inspect.signature(bidiffsr_cli.batch)
    assert list(signature.parameters)[:3] == ["folders", "output", "options"]
    assert signature.return_annotation == "BatchResult"
    assert "which pictures" in (inspect.getdoc(bidiffsr_cli.batch) or "")
