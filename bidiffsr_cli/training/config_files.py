"""Reading training configs: a preset, a user's TOML file, and changes of single fields.

    config = read_config("fast", ["data.pictures=['photos']", "optimizer.lr=2e-3"])

A file names the preset that it changes in `preset = "..."`. The presets are in `training/presets`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..networks.systems import find_system
from .config import SHOW_FIELDS, TrainConfig

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_config(name: str, changes: Iterable[str] = ()) -> TrainConfig:
    """The config of a preset or a TOML file, with changes.

    Args:
        name: of a preset, or the path of a file.
        changes: "table.field=value" each, the value as in TOML; a bare word is a string.

    Raises:
        UsageError: there is no such preset or file, or the config is not valid.
    """
    return _with_changes(_read(name), changes)


def changed(config: TrainConfig, changes: Iterable[str]) -> TrainConfig:
    """A config with changes, as `read_config` takes them."""
    return _with_changes(json.loads(json.dumps(config.to_dict())), changes)


def of_system(config: TrainConfig, name: str) -> TrainConfig:
    """The same training for another of the paper's systems (`systems.SYSTEMS`), in the config's size.

    Raises:
        UsageError: there is no system of that name.
    """
    network = find_system(name).applied_to(config.model.network)
    return replace(config, model=replace(config.model, network=network))


def to_toml(config: TrainConfig) -> str:
    """The config as a TOML file of all fields, which `read_config` reads."""
    return "\n".join(_tables(json.loads(json.dumps(config.to_dict())), ""))


def _with_changes(value: dict[str, Any], changes: Iterable[str]) -> TrainConfig:
    for change in changes:
        _apply(value, change)
    return TrainConfig.from_dict(value)


def _tables(value: dict[str, Any], path: str) -> Iterator[str]:
    plain = {key: item for key, item in value.items() if not isinstance(item, dict)}
    if path:
        yield f"[{path}]"
    yield from (f"{_quoted(key)} = {json.dumps('null' if item is None else item)}" for key, item in plain.items())
    yield ""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _tables(item, f"{path}.{_quoted(key)}" if path else _quoted(key))


def _quoted(key: str) -> str:
    return key if key.isidentifier() else json.dumps(key)


def _read(name: str) -> dict[str, Any]:
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    if not path.is_file():
        raise UsageError(f"There is no preset or file {name!r}.", f"Presets: {', '.join(presets())}.")
    try:
        value = _with_none(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} is not readable TOML: {error}.", "Mend it there.") from None
    preset = value.pop("preset", None)
    if preset is None:
        return value
    if preset not in presets():
        raise UsageError(f"{name} names the preset {preset!r}.", f"Presets: {', '.join(presets())}.")
    return _merged(_read(preset), value)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _apply(value: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"{change!r} changes nothing.", "Write it as table.field=value.")
    try:
        new = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        new = text.strip()
    for key in keys[:-1]:
        value = value.setdefault(key, {})
        if not isinstance(value, dict):
            raise UsageError(f"{path.strip()!r} is not a field of the config.", SHOW_FIELDS)
    value[keys[-1]] = _with_none(new)


def _with_none(value: Any) -> Any:
    """TOML has no null: the word "null" stands for it."""
    if isinstance(value, dict):
        return {key: _with_none(item) for key, item in value.items()}
    return None if value == "null" else value
