"""Named models: what `weights/catalog.json` lists, and how a user's word becomes a checkpoint file."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ModelError
from .files import Checkpoint, read_checkpoint


@dataclass(frozen=True)
class CatalogEntry:
    """One model of the catalog.

    Attributes:
        name, revision: `--model NAME` or `NAME@REVISION`.
        file: Name in the folder of bundled weights.
        size, sha256: Of the file.
        scales: What it enlarges by.
        summary: One sentence.
        license: Of the weights.
        bf16_psnr: Of pictures in bf16 against those in fp32, dB: the least over the test set's pictures, scales, steps.
        scores: test set -> scale -> steps -> metric -> value.
    """

    name: str
    revision: str
    file: str
    size: int
    sha256: str
    scales: tuple[int, ...]
    summary: str
    license: str
    bf16_psnr: float
    scores: dict[str, Any]

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return weights_folder() / self.file


def weights_folder() -> Path:
    """The folder of the bundled weights: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


@cache
def catalog() -> dict[str, CatalogEntry]:
    """All models of the catalog, the default first."""
    try:
        entries = json.loads((weights_folder() / "catalog.json").read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError):
        raise ModelError("The bundled catalog of models cannot be read.", "Install bidiffsr again.") from None
    return {entry["name"]: CatalogEntry(**entry | {"scales": tuple(entry["scales"])}) for entry in entries}


def load_checkpoint(model: str | Path) -> Checkpoint:
    """Find and read a model.

    Args:
        model: a name of the catalog, `name@revision`, or the path of a checkpoint file.

    Raises:
        ModelError: there is no such model or file.
        CheckpointError: the file is damaged; for a bundled one, also when its sha256 is not the catalog's.
    """
    name, _, revision = str(model).partition("@")
    entry = catalog().get(name)
    if entry is None:
        return _load_file(model)
    if revision not in ("", entry.revision):
        raise ModelError(f"Model {name!r} has no revision {revision!r}.", f"Bundled is {name}@{entry.revision}.")
    checkpoint = read_checkpoint(entry.path)
    if checkpoint.sha256 != entry.sha256:
        raise CheckpointError(f"The bundled {entry.file} is not the one of the catalog.", "Install bidiffsr again.")
    return dataclasses.replace(checkpoint, name=entry.name, revision=entry.revision, bf16_psnr=entry.bf16_psnr)


def _load_file(model: str | Path) -> Checkpoint:
    path = Path(model)
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, false for a name that is too long
        known = ", ".join(catalog())
        raise ModelError(f"There is no model or checkpoint file {str(model)!r}.", f"Bundled models: {known}.")
    checkpoint = read_checkpoint(path)
    return dataclasses.replace(checkpoint, name=path.stem, revision="")
