"""All models that are known here: the catalog's, and those in the Hub's cache."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from . import hub
from .catalog import catalog
from .header import read_header
from .models import Model, find_model


@dataclass(frozen=True)
class KnownModel:
    """One of them.

    Attributes:
        name: as `--model` takes it, with its revision or commit.
        place: bundled, cached or remote.
        scales, license, summary: what catalog or file say; empty where neither can.
        size: of the file, in bytes.
        sha256: of the catalog, else empty.
        path: of the file, where it is here.
        model: to be fetched and read.
        problem: why the file cannot be used; empty for a sound one.
    """

    name: str
    place: str
    model: Model
    scales: tuple[int, ...] = ()
    license: str = ""
    summary: str = ""
    size: int = 0
    sha256: str = ""
    path: Path | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "model"}
        return fields | {"path": None if self.path is None else str(self.path)}


def known_models() -> list[KnownModel]:
    """The catalog's models, then the cached ones that it does not name. No network; headers are read, not hashes."""
    known = []
    for entry in catalog():
        model = find_model(entry.full_name)
        path = model.local_path()
        place = "bundled" if entry.bundled else "cached" if path else "remote"
        known.append(
            KnownModel(
                entry.full_name,
                place,
                model,
                entry.scales,
                entry.license,
                entry.summary,
                entry.size,
                entry.sha256,
                path,
            )
        )
    of_catalog = {item.path for item in known}
    known += [_cached(found) for found in hub.cached_models() if found.path not in of_catalog]
    return known


def _cached(model: hub.CachedModel) -> KnownModel:
    item = KnownModel(
        str(model.name), "cached", Model(str(model.name), sources=(model.name,)), size=model.size, path=model.path
    )
    try:
        header = read_header(model.path)
    except ModelError as error:
        return dataclasses.replace(item, problem=f"{model.name}: {error.message}")
    return dataclasses.replace(item, scales=header.config.scales, license=header.license)
