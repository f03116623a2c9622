"""The fields of configs: checked when a config is made, and parsed from JSON or TOML, strictly.

Those of options take any library's numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import numbers
import operator
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import CheckpointError, UsageError

WANTED = {int: "a whole number", float: "a number", str: "a word", types.NoneType: "None"}
"""What options are, and how an error says it."""


def parse_config(kind: Any, value: Any, where: str) -> Any:
    """Build a value of the annotated type `kind` from parsed JSON or TOML, strictly; `where` begins error messages."""
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):  # every union here is "something or None"
        return None if value is None else parse_config(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        variadic = arguments[-1] is Ellipsis
        if variadic or len(value) == len(arguments):
            return tuple(parse_config(arguments[0], item, where) for item in value)
    elif origin is dict and isinstance(value, dict):
        return {name: parse_config(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30:
        return float(value)
    elif kind in (int, str, bool) and type(value) is kind:
        return value
    raise CheckpointError(f"{where} has a value of the wrong kind: {_shorten(value)}.")


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} is not a JSON object.")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise CheckpointError(
            f"{where} has a field that this version does not know: {_shorten(unknown[0])}.",
            "It may have been written by a newer bidiffsr: upgrade, or convert it again.",
        )
    try:
        return kind(**{name: parse_config(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    except TypeError:  # a field without a default is missing
        required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
        raise CheckpointError(f"{where} lacks {sorted(required - set(value))[0]!r}.") from None


def check(sound: bool, config: object, name: str) -> None:
    """Raise CheckpointError for a field of a config that is not sound."""
    if not sound:
        raise CheckpointError(f"{type(config).__name__}.{name} cannot be {_shorten(getattr(config, name))}.")


def check_one_of(config: object, name: str, choices: set[str]) -> None:
    """Likewise for one that is none of the known words."""
    if getattr(config, name) not in choices:
        raise CheckpointError(
            f"{type(config).__name__}.{name} cannot be {_shorten(getattr(config, name))}.",
            f"Known values: {', '.join(sorted(choices))}.",
        )


def check_between(config: object, name: str, low: float, high: float) -> None:
    """Likewise for one that is out of range."""
    check(low <= getattr(config, name) <= high, config, name)


def take_plain(options: Any) -> None:
    """Make numbers of other libraries Python's own, in a dataclass of options, which may be frozen.

    Fields of other types than those of `WANTED` stay as they are.

    Raises:
        UsageError: a value is of the wrong kind.
    """
    for name, kinds in _kinds(options.__class__).items():
        value = getattr(options, name)
        if type(value) not in kinds:
            object.__setattr__(options, name, _plain(value, kinds, name))


@functools.cache
def _kinds(options: type) -> dict[str, tuple[type, ...]]:
    """Which of the types of `WANTED` each field may have."""
    kinds = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(options).items()}
    return {name: types for name, types in kinds.items() if WANTED.keys() >= set(types)}


def _plain(value: Any, kinds: tuple[type, ...], name: str) -> int | float | str:
    if str in kinds and isinstance(value, str):
        return str(value)
    with contextlib.suppress(TypeError, OverflowError):
        if int in kinds:
            return operator.index(value)
        if float in kinds and isinstance(value, numbers.Real):
            return float(value)
    hint = f"Give {' or '.join(WANTED[kind] for kind in kinds)}."
    raise UsageError(f"{name}={_shorten(value)} is not possible.", hint)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
