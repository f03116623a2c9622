"""Whether what a command prints with --json is what bidiffsr_cli/reports/README.md says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bidiffsr_cli

Place = tuple[str, ...]
"""Names of fields, [] for an item of a list."""
PAGE = Path(bidiffsr_cli.__file__).parent / "reports" / "README.md"
PICTURE = "bidiffsr/1"
KINDS: dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "text": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "true/false": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "list of integers": lambda value: isinstance(value, list) and all(isinstance(item, int) for item in value),
    "list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


@dataclass(frozen=True)
class Field:
    """A row of the page.

    Attributes:
        place: where it lies; * is any name.
        kinds: what it may be.
        sometimes: whether it may be missing.
    """

    place: Place
    kinds: tuple[str, ...]
    sometimes: bool

    def is_at(self, place: Place) -> bool:
        """Whether it is meant; one of any kind has all that lies in it."""
        if self.kinds == ("any",):
            place = place[: len(self.place)]
        same = (name in ("*", there) for name, there in zip(self.place, place, strict=False))
        return len(place) == len(self.place) and all(same)


@cache
def documented() -> dict[str, list[Field]]:
    """Schema -> its fields."""
    found: dict[str, list[Field]] = {}
    schema = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            schema = (re.findall(r"`(bidiffsr\S*)`", line) or [""])[0]
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name, field, kinds, words = cells if len(cells) == 4 else [f"`{schema}`", *cells]
        place = tuple(field.strip("`").replace("[]", ".[]").split("."))
        of_schema = found.setdefault(name.strip("`"), [Field(("schema",), ("text",), sometimes=False)])
        split = tuple(kinds.replace("true or false", "true/false").strip("`").split(" or "))
        of_schema.append(Field(place, split, words.startswith("*")))
    return found


def mistakes(answer: dict[str, Any]) -> list[str]:
    """What an object has and the page does not, or has as another kind, and what is always there by the page."""
    fields = documented()[answer["schema"]]
    found = []
    for place, value in leaves(answer):
        field = field_at(place, fields)
        empty = value in ({}, []) and any(other.place[: len(place)] == place != other.place for other in fields)
        if not empty and (field is None or not any(KINDS[kind](value) for kind in field.kinds)):
            found.append(f"{'.'.join(place)}: {value!r}"[:120])
    for picture in pictures(answer):
        found += mistakes(picture) if "schema" in picture else []
    if "error" not in answer:
        found += [f"{'.'.join(field.place)} is missing" for field in fields if is_missing(field, answer)]
    return found


def never_seen(answers: list[dict[str, Any]]) -> set[str]:
    """Fields that the page knows of the answers' schemas, and that none of them has."""
    missing = set()
    for schema in {answer["schema"] for answer in answers}:
        fields = documented()[schema]
        places = [place for answer in answers if answer["schema"] == schema for place, _ in leaves(answer)]
        seen = {field_at(place, fields) for place in places}
        unseen = [field for field in fields if field not in seen and field.kinds != (PICTURE,)]
        missing |= {f"{schema} {'.'.join(field.place)}" for field in unseen}
    return missing


def pictures(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of one picture in that of several; one that failed is none."""
    several = any(field.kinds == (PICTURE,) for field in documented()[answer["schema"]])
    return answer.get("images", []) if several else []


def leaves(answer: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Where values lie in an object; what is empty is a leaf, and whole objects of one picture are left out."""

    def inside(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                yield from inside(item, (*place, name))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                if not (item.get("schema") == PICTURE and place):
                    yield from inside(item, (*place, "[]"))
        else:
            yield place, value

    return inside(answer, ())


def field_at(place: Place, fields: list[Field]) -> Field | None:
    """The field of the page that names a place most exactly."""
    there = [field for field in fields if field.is_at(place)]
    return min(there, key=lambda field: field.place.count("*"), default=None)


def is_missing(field: Field, answer: dict[str, Any]) -> bool:
    """Whether a field that is always there is not, though there is something that it could be in."""

    def absent(value: Any, place: Place) -> bool:
        if not place:
            return False
        if isinstance(value, list):
            return any(absent(item, place[1:]) for item in value)
        if isinstance(value, dict) and place[0] != "*":
            return place[0] not in value or absent(value[place[0]], place[1:])
        return isinstance(value, dict) and any(absent(item, place[1:]) for item in value.values())

    return not field.sometimes and absent(answer, field.place)
