"""What the tests of the tasks share: a small model, a picture, and a listener that remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli.contract import mistakes
from cli.support import picture, tiny_checkpoint

from bidiffsr_cli.tasks.listener import Advance, Listener


def keeps_the_contract(answer: dict[str, Any]) -> bool:
    """Whether an object is, as JSON, what is documented."""
    return not mistakes(json.loads(json.dumps(answer)))


class Notes(Listener):
    """Everything that a task says: the word, and what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.parts: list[Any] = []
        self.shares: list[float] = []

    def message(self, text: str) -> None:
        self.said.append(("message", text))

    def progressed(self, text: str) -> None:
        self.said.append(("progressed", text))

    def warning(self, text: str) -> None:
        self.said.append(("warning", text))

    def found(self, part: Any) -> None:
        self.said.append(("found", type(part).__name__))
        self.parts.append(part)

    def traceback(self, error: BaseException) -> None:
        self.said.append(("traceback", type(error).__name__))

    @contextmanager
    def progress(self, name: str, unit: str) -> Iterator[Advance]:
        self.said.append(("progress", f"{name}: {unit}"))

        def advance(done: int, total: int, *, share: float | None = None, current: str = "", detail: str = "") -> None:
            self.shares.append(done / total if share is None else share)

        yield advance


@pytest.fixture
def notes() -> Notes:
    """A listener."""
    return Notes()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a checkpoint whose network takes a millisecond."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    path.write_bytes(tiny_checkpoint())
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with photos/ in it: two pictures, and one that is broken."""
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos" / "a.png")
    picture(size=(40, 30)).save(tmp_path / "photos" / "b.jpg")
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    return tmp_path
