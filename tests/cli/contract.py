"""Whether what a command prints with --json is what bidiffsr_cli/reports/README.md says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import bidiffsr_cli

Place = tuple[str, ...]
"""Names of fields, [] for an item of a list, * for any name."""
PAGE = Path(bidiffsr_cli.__file__).parent / "reports" / "README.md"
KINDS = {
    "text": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "list of integers": lambda value: isinstance(value, list) and all(isinstance(item, int) for item in value),
    "list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


@cache
def documented() -> dict[str, dict[Place, str]]:
    """Schema -> place of a field -> its kind."""
    found: dict[str, dict[Place, str]] = {}
    schema = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            schema = (re.findall(r"`(bidiffsr\S*)`", line) or [""])[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `"):
            continue
        name, field, kind, *_ = cells if len(cells) == 4 else [f"`{schema}`", *cells]
        place = tuple(field.strip("`").replace("[]", ".[]").split("."))
        found.setdefault(name.strip("`"), {("schema",): "text"})[place] = kind
    return found


def undocumented(answer: dict[str, Any]) -> list[str]:
    """Fields of an object that the page does not know, or knows as another kind."""
    fields = documented()[answer["schema"]]
    wrong = [(place, value) for place, value in leaves(answer, ()) if not known(place, value, fields)]
    return [f"{'.'.join(place)}: {value!r}"[:120] for place, value in wrong]


def never_seen(answers: list[dict[str, Any]]) -> set[str]:
    """Fields that the page knows of the answers' schemas, and that none of them has."""
    missing = set()
    for schema in {answer["schema"] for answer in answers}:
        seen = [place for answer in answers if answer["schema"] == schema for place, _ in leaves(answer, ())]
        missing |= {
            f"{schema} {'.'.join(place)}"
            for place, kind in documented()[schema].items()
            if not any(matches(other, place, kind) for other in seen)
        }
    return missing


def leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Where values lie in an object; lists of objects are looked into, and what is empty is a leaf."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from leaves(item, (*place, "[]"))
    else:
        yield place, value


def known(place: Place, value: Any, fields: dict[Place, str]) -> bool:
    """Whether a value may stand there."""
    if value in ({}, []) and any(field[: len(place)] == place and len(field) > len(place) for field in fields):
        return True
    kinds = [(field.count("*"), kind) for field, kind in fields.items() if matches(place, field, kind)]
    kind = min(kinds, default=(0, ""))[1]  # the one that is named most exactly
    *others, last = kind.replace("true or false", "true/false").split(" or ")
    names = [name.replace("/", " or ") for name in (*others, last)]
    return kind == "any" or any(name in KINDS and KINDS[name](value) for name in names)


def matches(place: Place, field: Place, kind: str) -> bool:
    """Whether a field of the page is meant; one of any kind has all that lies in it."""
    if kind == "any":
        place = place[: len(field)]
    return len(place) == len(field) and all(name in ("*", there) for name, there in zip(field, place, strict=True))
