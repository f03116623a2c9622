"""The order of imports: rooms import from rooms below them, files never from each other, and nothing too early."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import bidiffsr_cli

PACKAGE = Path(bidiffsr_cli.__file__).parent
TRITON = bool(getattr(find_spec("triton"), "origin", None))
"""Whether it is here; not a folder of that name."""

LAYERS = [
    {"cli"},
    {"tasks"},
    {"folders", "reports"},
    {"benchmarks", "evaluation", "training"},
    {"enlarging"},
    {"pipeline"},
    {"canvas"},
    {"planning"},
    {"runtime"},
    {"checkpoints"},
    {"networks"},
    {"diffusion"},
    {"results"},
    {"ops", "images"},
    {"tiling"},
    {"configs", "options", "atomic", "journal", "errors", "suffixes", "text", "fields"},
]
LEVEL = {room: len(LAYERS) - index for index, layer in enumerate(LAYERS) for room in layer}


def files() -> list[Path]:
    """All files of the package but its own door, which leads to everything, and its start."""
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.name.startswith("__")]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_files(path: Path) -> set[Path]:
    """Files of this package that a file imports, wherever in it and be it for a type alone."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = (node.module or "").split(".") if node.module else []
        if node.level:
            base = path.parents[node.level - 1]
        elif module[:1] == ["bidiffsr_cli"]:
            base, module = PACKAGE, module[1:]
        else:
            continue
        place = base.joinpath(*module)
        names = [place / alias.name for alias in node.names]
        whole = [place] if any(file_of(name) is None for name in names) else []
        found |= {file for name in (*names, *whole) if (file := file_of(name)) is not None}
    return found - {PACKAGE / "__init__.py"}


def file_of(module: Path) -> Path | None:
    return next((file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()), None)


def test_imports_point_downwards():
    upwards = []
    for path in files():
        room = room_of(path)
        assert room in LEVEL, f"{room} has no place in the order of imports"
        for other in {room_of(file) for file in imported_files(path)} - {room}:
            if LEVEL[other] > LEVEL[room] or (LEVEL[other] == LEVEL[room] and LEVEL[room] > 1):
                upwards.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not upwards
    assert LEVEL.keys() <= {room_of(path) for path in files()}


def test_no_files_import_each_other():
    sorter = TopologicalSorter({path: imported_files(path) for path in files()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " <- ".join(str(path.relative_to(PACKAGE)) for path in error.args[1])
        raise AssertionError(f"A circle of imports: {circle}") from None


@pytest.mark.slow
def test_every_module_can_be_imported_first():
    """Each in a fresh interpreter would take minutes; dropping the package between imports finds the same cycles."""
    names = [
        ".".join(("bidiffsr_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__main__.py" and (path.name != "triton_pair.py" or TRITON)
    ]
    code = f"""
import importlib, sys
for name in {names!r}:
    for loaded in [m for m in sys.modules if m.startswith("bidiffsr_cli")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd="/")
