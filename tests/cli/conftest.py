"""Fixtures of the command line's tests."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bidiffsr_cli.cli.app import main

from .support import Finished, Run, environment, picture, tiny_checkpoint


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file whose network takes a millisecond."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    path.write_bytes(tiny_checkpoint())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; it holds photo.png and nothing else."""
    monkeypatch.chdir(tmp_path)
    picture().save("photo.png")
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Run:
    """Run a command in this process, which is quick: torch is loaded already."""
    wanted = environment()
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "BIDIFFSR_MODEL", "BIDIFFSR_DEVICE"):
        if name not in wanted:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*args: object, given: bytes = b"") -> Finished:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        capfdbinary.readouterr()
        code = main([str(arg) for arg in args])
        streams = capfdbinary.readouterr()
        return Finished(code, streams.out, streams.err.decode())

    return run


@pytest.fixture
def upscale(run: Run, model: Path) -> Run:
    """`bidiffsr upscale` with the tiny model and one step."""

    def upscale(*args: object, given: bytes = b"") -> Finished:
        options = [] if "--model" in args else ["--model", model]
        options += [] if {"--steps", "--preset"} & set(map(str, args)) else ["--steps", "1"]
        return run("upscale", *args, *options, given=given)

    return upscale


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT is heeded, as at a terminal; a shell's background jobs inherit an ignored one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
