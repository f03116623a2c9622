"""How one picture is enlarged: `UpscaleOptions`, and the same as keywords."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import TypedDict, Unpack

from .configs import IMAGE_PRESETS, LARGEST_SCALE, PRESET_WORDS
from .errors import UsageError
from .fields import take_plain

PIXELS = 2
"""Raised when the same picture, model and options come to give other pixels; 1 was the noise of version 0.1.0."""


@dataclass(frozen=True)
class UpscaleOptions:
    """How one picture is enlarged; None leaves the choice to the model.

    Raises:
        UsageError: a value cannot work with any model.
    """

    scale: int = 2
    steps: int | None = None
    """Steps of the reverse diffusion, 1..T."""
    preset: str | None = None
    """fast, balanced or best: a number of steps that the model names, instead of `steps`."""
    sampler: str = "ddim"
    eta: float = 0.0
    """Fresh noise of the ddim sampler, 0 (none) to 1 (as much as ddpm)."""
    temperature: float | None = None
    """Standard deviation of the start noise, 0 to 1."""
    seed: int = 0
    tile: str | int = "auto"
    """Window in pixels of the enlarged picture; auto is the model's, off sees every picture whole."""
    tile_overlap: int | None = None
    max_memory: int | None = None
    """Bytes that the process may use on the host."""
    alpha: str = "lanczos"
    """How transparency is enlarged: lanczos, model, or drop."""
    color_fix: str = "none"
    """lowfreq makes the result's low frequencies equal the input's."""

    def __post_init__(self) -> None:
        take_plain(self)

        def need(sound: bool, message: str, hint: str) -> None:
            if not sound:
                raise UsageError(message, hint)

        def among(name: str, choices: tuple[str, ...]) -> None:
            value = getattr(self, name)
            hint = f"Choose one of: {', '.join(choices)}."
            need(value is None or value in choices, f"The {name.replace('_', '-')} {value!r} is unknown.", hint)

        among("preset", (*PRESET_WORDS, *IMAGE_PRESETS))
        among("sampler", ("ddim", "ddpm", "dpmpp-2m"))
        among("alpha", ("lanczos", "model", "drop"))
        among("color_fix", ("none", "lowfreq"))
        possible = 1 <= self.scale <= LARGEST_SCALE
        need(possible, f"Scale {self.scale} is not possible.", "Choose one that the model has, such as 2 or 4.")
        need(self.steps is None or self.steps >= 1, f"{self.steps} steps are not possible.", "Choose 1 or more.")
        need(self.steps is None or self.preset is None, "A preset is a number of steps itself.", "Give one of the two.")
        need(0 <= self.eta <= 1, f"Eta {self.eta} is not possible.", "Choose 0 to 1.")
        need(
            not self.eta or self.sampler == "ddim", f"Sampler {self.sampler} has no eta.", "Leave it out, or use ddim."
        )
        need(self.seed >= 0, f"Seed {self.seed} is not possible.", "Choose 0 or more.")
        temperature = self.temperature
        need(
            temperature is None or 0 <= temperature <= 1,
            f"Temperature {temperature} is not possible.",
            "Choose 0 to 1.",
        )
        sized = isinstance(self.tile, int) and 16 <= self.tile <= 16384
        need(
            self.tile in ("auto", "off") or sized,
            f"Tile {self.tile!r} is not possible.",
            "Give auto, off, or 16 to 16384.",
        )
        overlap = self.tile_overlap
        need(overlap is None or overlap >= 0, f"Overlap {overlap} is not possible.", "Choose 0 or more.")
        need(
            overlap is None or self.tile != "off",
            "One window has no overlap.",
            "Leave --tile-overlap or --tile off out.",
        )

    def changed(self, **changes: Unpack[OptionChanges]) -> UpscaleOptions:
        """The same options, but for `changes`.

        Raises:
            UsageError: there is no such option, or a value cannot work with any model.
        """
        names = [option.name for option in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                close = difflib.get_close_matches(name, names, 1)
                hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(names)}."
                raise UsageError(f"There is no option {name!r}.", hint)
        return dataclasses.replace(self, **changes)


class OptionChanges(TypedDict, total=False):
    """The fields of `UpscaleOptions` as keywords, each of which may be left out."""

    scale: int
    steps: int | None
    preset: str | None
    sampler: str
    eta: float
    temperature: float | None
    seed: int
    tile: str | int
    tile_overlap: int | None
    max_memory: int | None
    alpha: str
    color_fix: str
