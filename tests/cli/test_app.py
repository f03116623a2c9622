"""The command as a whole: help, version, what is imported, and the error table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from bidiffsr_cli import __version__
from bidiffsr_cli.cli import upscale as upscale_module
from bidiffsr_cli.cli._errors import explain
from bidiffsr_cli.cli._output import Output
from bidiffsr_cli.cli.app import app
from bidiffsr_cli.errors import CheckpointError, InputError

from .support import Run, environment, finish, is_one_sentence, spawn


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(run: Run, flag: str) -> None:
    finished = run(flag)
    assert (finished.code, finished.out.decode(), finished.err) == (0, f"bidiffsr {__version__}\n", "")


def test_help_fits_80_columns_and_lists_the_commands() -> None:
    text = finish(spawn(["--help"])).out.decode()
    assert "upscale" in text and "doctor" in text and "bench" in text and "Exit codes" in text
    assert max(map(len, text.splitlines())) <= 80


def every_command() -> Iterator[tuple[list[str], Any]]:
    """All commands with the words that call them."""
    waiting: list[tuple[list[str], Any]] = [([], typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        waiting += [([*words, name], found) for name, found in getattr(command, "commands", {}).items()]


@pytest.mark.parametrize(
    ("words", "command"), list(every_command()), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_word_of_the_help_survives_rendering(
    words: list[str], command: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich takes [words] in brackets for styles, and leaves them out."""

    def bare(text: str) -> str:
        return re.sub(r"[\s│╭╮╰╯─]+", "", text)

    monkeypatch.setenv("COLUMNS", "200")
    shown = bare(run(*words, "--help").out.decode())
    texts = [command.help or ""]
    for parameter in command.params:
        texts += [getattr(parameter, "help", None) or "", parameter.metavar or ""]
    for line in (line for text in texts for line in text.splitlines()):
        assert bare(line.replace("\\[", "[")) in shown, line
    assert "[[" not in shown


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("bidiffsr upscale -m fa", ["fast"]),
        ("bidiffsr batch -m ", ["auto", "fast", "photo"]),
        ("bidiffsr upscale --preset fa", ["faithful", "fast"]),
        ("bidiffsr batch -s ", ["2", "4"]),
        ("bidiffsr mod", ["models"]),
    ],
)
def test_the_shell_completes(line: str, found: list[str]) -> None:
    words = environment() | {
        "_BIDIFFSR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    code = "import sys; from bidiffsr_cli.cli.app import app; app(prog_name='bidiffsr')"
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, env=words, check=False)
    assert set(found) <= set(shown.stdout.decode().split()), shown


def test_help_of_a_command_shows_its_examples() -> None:
    text = finish(spawn(["upscale", "--help"])).out.decode()
    examples = [line.strip() for line in (upscale_module.__doc__ or "").splitlines() if "bidiffsr" in line]
    assert len(examples) >= 4
    assert all(example in text for example in examples)


def test_module_and_name_agree() -> None:
    """`python -m bidiffsr_cli` calls itself bidiffsr."""
    assert b"Usage: bidiffsr [OPTIONS]" in finish(spawn(["--help"])).out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["upscale", "photo.png", "--frobnicate"], "--frobnicate"),
        (["doctor", "b.png"], "b.png"),
        (["upscale", "photo.png", "--steps", "many"], "--steps"),
        (["upscale", "photo.png", "--sampler", "euler"], "'ddim', 'ddpm', 'dpmpp-2m'"),
        (["upscale", "photo.png", "--preset", "good"], "'faithful', 'fast', 'balanced', 'best'"),
        (["upscale", "photo.png", "--precision", "fp8"], "'auto', 'fp32', 'bf16', 'fp16'"),
        (["upscale", "photo.png", "--backend", "cuda"], "'auto', 'native', 'reference'"),
        (["upscale", "photo.png", "--format", "gif"], "'same', 'png', 'jpg', 'webp', 'avif', 'tiff'"),
        (["upscale", "photo.png", "--alpha", "keep"], "'lanczos', 'model', 'drop'"),
        (["upscale", "photo.png", "--color-fix", "mean"], "'none', 'lowfreq'"),
    ],
)
def test_usage_errors_are_sentences(run: Run, args: list[str], said: str) -> None:
    finished = run(*args)
    assert finished.code == 2 and finished.out == b""
    assert said in finished.err and "--help" in finished.err
    assert is_one_sentence(finished.err)


def test_an_option_that_is_unknown_is_told_as_json_too(run: Run) -> None:
    finished = run("upscale", "photo.png", "--json", "--frobnicate")
    assert finished.code == 2 and finished.json["status"] == "failed"
    assert "--frobnicate" in finished.json["error"]["message"]


def test_an_unexpected_error_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("a surprise\nin two lines")

    monkeypatch.setattr(upscale_module, "parse_options", broken)
    finished = run("upscale", "photo.png")
    assert finished.code == 1 and is_one_sentence(finished.err)
    assert "ZeroDivisionError: a surprise in two lines" in finished.err and "--debug" in finished.err
    finished = run("upscale", "photo.png", "--debug")
    assert finished.code == 1 and "Traceback" in finished.err


def test_an_error_is_told_without_memory_for_rich(capsys: pytest.CaptureFixture[str]) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    told = Output()
    told.console.print = exhausted  # type: ignore[method-assign]
    told.error("Memory ran out.", "Give less.")
    assert capsys.readouterr().err == "Error: Memory ran out.\nGive less.\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("No.", "Do."), 4), (CheckpointError("No."), 5), (MemoryError(), 6), (OSError("what"), 1)],
)
def test_error_table(error: Exception, code: int) -> None:
    failure = explain(error)
    assert failure.exit_code == code and failure.message.endswith(".")
