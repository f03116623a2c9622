"""The catalog: what `weights/catalog.json` says of named models, bundled and remote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import ModelError

BUNDLED = "bundled"
AUTO = "auto"
"""In place of a model's name: the one that suits each picture."""
VISIBLE = 90
"""Quality of a JPEG or WebP below which it counts as visibly compressed: where `photo` passes `fast` (see its card)."""


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
        fp16_psnr: Likewise of fp16 in plain torch, where the network was asked once; see `networks/README.md`.
        scores: test set -> scale -> steps -> metric -> value.
        sources: where the file is to be had, the best first: "bundled", or ORG/REPO@COMMIT:FILE on the Hub.
        suits: "compressed" if it is made for pictures that are visibly compressed; empty for others.
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
    fp16_psnr: float
    scores: dict[str, Any]
    sources: tuple[str, ...]
    suits: str = ""

    @property
    def full_name(self) -> str:
        """NAME@REVISION."""
        return f"{self.name}@{self.revision}"

    @property
    def bundled(self) -> Path | None:
        """Where the file lies, if it comes with the package."""
        return weights_folder() / self.file if BUNDLED in self.sources else None

    @property
    def score_rows(self) -> list[tuple[str, str, dict[str, str]]]:
        """(test set, scale, number of steps -> "PSNR-Y in dB / LPIPS-Alex") of each, for a table."""
        return [
            (dataset, scale, {n: f"{of_it['psnr_y']:.2f} / {of_it['lpips_alex']:.4f}" for n, of_it in steps.items()})
            for dataset, scales in self.scores.items()
            for scale, steps in scales.items()
        ]


def weights_folder() -> Path:
    """The folder of the bundled weights: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


@cache
def catalog() -> tuple[CatalogEntry, ...]:
    """All models of the catalog: the default first, and of each name the newest revision first."""
    try:
        entries = json.loads((weights_folder() / "catalog.json").read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError):
        raise ModelError("The bundled catalog of models cannot be read.", "Install bidiffsr again.") from None
    lists = ("scales", "sources")
    return tuple(CatalogEntry(**entry | {name: tuple(entry[name]) for name in lists}) for entry in entries)


def default_model() -> str:
    """Name of the model that is taken where none is named."""
    return catalog()[0].name


def suited_model(quality: int | None) -> str:
    """Name of the model that suits a picture: where it is visibly compressed the one for such, else the default.

    Args:
        quality: at which the picture was compressed, 1 to 100; None where it was not.
    """
    return suited_models()[-1 if quality is not None and quality < VISIBLE else 0]


def suited_models() -> list[str]:
    """All that `suited_model` may name: the default, and that for compressed pictures if there is one."""
    return [default_model(), *(entry.name for entry in catalog() if entry.suits == "compressed")][:2]


def find_entry(name: str, revision: str = "") -> CatalogEntry | None:
    """The entry of a name, by default the newest; None if the catalog does not know the name.

    Raises:
        ModelError: it knows the name, but not that revision.
    """
    entries = [entry for entry in catalog() if entry.name == name]
    if not entries:
        return None
    for entry in entries:
        if revision in ("", entry.revision):
            return entry
    known = ", ".join(entry.full_name for entry in entries)
    raise ModelError(f"Model {name!r} has no revision {revision!r}.", f"There is {known}.")
