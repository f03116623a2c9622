"""The order of imports: each room imports from rooms below it alone, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import bidiffsr_cli

PACKAGE = Path(bidiffsr_cli.__file__).parent

LAYERS = [
    {"cli"},
    {"distributed", "reports"},
    {"evaluation", "training"},
    {"enlarging"},
    {"pipeline"},
    {"canvas"},
    {"runtime"},
    {"checkpoints"},
    {"networks"},
    {"diffusion"},
    {"planning"},
    {"ops", "images"},
    {"tiling"},
    {"results", "systems", "configs", "atomic", "cgroups", "journal", "errors", "suffixes", "text"},
]
LEVEL = {room: len(LAYERS) - index for index, layer in enumerate(LAYERS) for room in layer}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of this package that a file imports, wherever in the file it does so."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:  # from ..room import x, seen from inside a room
            rooms |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("bidiffsr_cli"):
            rooms.add((node.module or "").split(".")[1])
    return rooms & LEVEL.keys()


def test_imports_point_downwards():
    upwards, seen = [], set()
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        seen.add(room)
        if room.startswith("__"):
            continue
        assert room in LEVEL, f"{room} has no place in the order of imports"
        for other in imported_rooms(path) - {room}:
            if LEVEL[other] > LEVEL[room] or (LEVEL[other] == LEVEL[room] and LEVEL[room] > 1):
                upwards.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not upwards
    assert LEVEL.keys() <= seen


def test_every_module_can_be_imported_first():
    """Each in a fresh interpreter would take minutes; dropping the package between imports finds the same cycles."""
    names = [
        ".".join(("bidiffsr_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
for name in {names!r}:
    for loaded in [m for m in sys.modules if m.startswith("bidiffsr_cli")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd="/")
