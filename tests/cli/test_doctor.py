"""`bidiffsr doctor` looks at everything, gets to the end, and exits with the code of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bidiffsr_cli.checkpoints import catalog as catalogs
from bidiffsr_cli.cli import doctor
from bidiffsr_cli.tasks import selftest

from .support import Run


def test_all_is_well(run: Run) -> None:
    finished = run("doctor")
    assert finished.code == 0, finished.err
    assert finished.err == "" and finished.answer.endswith("All is well.\n")
    for said in ("torch", "cpu", "backend reference", "free memory", "as in the catalog", "threads give the same"):
        assert said in finished.answer


def test_json(run: Run) -> None:
    finished = run("doctor", "--json")
    assert finished.code == 0 and finished.err == ""
    result = finished.json
    assert (result["schema"], result["status"]) == ("bidiffsr-doctor/1", "ok")
    assert set(result) == {"schema", "status", "versions", "machine", "models", "self_test"}
    assert all(check["ok"] for section in list(result.values())[2:] for check in section.values())


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder of bundled weights, to be damaged."""
    for file in catalogs.weights_folder().iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(catalogs, "weights_folder", lambda: tmp_path)
    catalogs.catalog.cache_clear()
    yield tmp_path
    catalogs.catalog.cache_clear()


@pytest.mark.parametrize("damage", ["other bytes", "no file", "no catalog"])
def test_a_damaged_model(run: Run, weights: Path, damage: str) -> None:
    file = catalogs.catalog()[0].bundled
    if damage == "other bytes":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    elif damage == "no file":
        file.unlink()
    else:
        catalogs.catalog.cache_clear()
        (weights / "catalog.json").unlink()
    finished = run("doctor")
    assert finished.code == 5 and "! " in finished.answer and "Something is wrong" in finished.answer
    assert "Traceback" not in finished.answer + finished.err


def test_forms_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_psnr", lambda a, b: 31.4)
    form, threads = doctor.self_test()
    assert form.exit_code == 1 and "31.4 dB" in form.found
    assert threads.ok


def test_the_test_picture_is_the_same_everywhere() -> None:
    assert selftest.built_in_picture().getpixel((47, 31)) == (249, 247, 40)
