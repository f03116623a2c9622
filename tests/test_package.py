"""What is installed: one version, types that others see, and every licence."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import bidiffsr_cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_there_is_one_version() -> None:
    """Where this fails in a working copy: pip install --no-deps -e ."""
    assert bidiffsr_cli.__version__ == version("bidiffsr") and "version" not in PROJECT


def test_annotations_are_for_others_too() -> None:
    assert (Path(bidiffsr_cli.__file__).parent / "py.typed").is_file()


def test_every_licence_is_stated() -> None:
    stated = {path for pattern in PROJECT["license-files"] for path in ROOT.glob(pattern)}
    assert stated == {path for folder in (ROOT, ROOT / "weights") for path in folder.glob("LICENSE*")}


def test_nothing_is_told_to_be_installed_from_an_index() -> None:
    """There is no package of that name of ours: what somebody else put there would be installed."""
    for path in Path(bidiffsr_cli.__file__).parent.rglob("*.py"):
        assert "pip install bidiffsr" not in path.read_text(encoding="utf-8").replace("'", "").replace('"', ""), path
