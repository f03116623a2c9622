"""What users write as options, turned into values: bytes, times, seeds, tiles, and all that says how to enlarge."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..images.degrading import Degradation
    from ..options import UpscaleOptions

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
UNITS |= {"TIB": 2**40, "K": 10**3, "M": 10**6, "G": 10**9}
RANDOM_SEEDS = 2**32


def parse_size(text: str) -> int:
    """Bytes of "800MB", "1.5 GiB" and the like; MB is 10**6 and MiB is 2**20.

    Raises:
        UsageError: it is no number with a unit, or not more than 0.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+)", text.strip())
    factor = UNITS.get(found[2].upper()) if found else None
    if found is None or factor is None:
        raise UsageError(f"{text!r} is not a size.", "Give a number and a unit, such as 800MB, 2GB or 1.5GiB.")
    size = round(float(found[1]) * factor)
    if size < 1:
        raise UsageError(f"A size of {text} is not possible.", "Give more than 0.")
    return size


def parse_duration(text: str) -> float:
    """Seconds of "90s", "50m", "1.5h", "2d".

    Raises:
        UsageError: it is no number with a unit, or not more than 0.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([smhd])", text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"{text!r} is not a duration.", "Give a number and a unit, such as 90s, 50m or 2h.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "3/8".

    Raises:
        UsageError: it is nothing of the kind.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None:
        raise UsageError(f"{text!r} is not a shard.", "Write it as I/N, such as 3/8.")
    return int(found[1]), int(found[2])


def parse_degradation(text: str | None) -> Degradation:
    """What "blur=0.6,noise=3,jpeg=75" says; nothing happens for None.

    Raises:
        UsageError: a name or a value is not possible.
    """
    from ..images.degrading import RANGES, Degradation
    from ..images.kernels import KERNELS

    values: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, _, value = (word.strip() for word in part.partition("="))
        if name == "kernel":
            values[name] = value
        elif name in RANGES and re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", value):
            values[name] = round(float(value)) if name in ("jpeg", "webp") else float(value)
        else:
            ranges = ", ".join(f"{word}={least}..{most}" for word, (least, most) in RANGES.items())
            raise UsageError(
                f"{part.strip()!r} is not a degradation.",
                f"Join some of kernel={'|'.join(KERNELS)}, {ranges} by commas.",
            )
    return Degradation(**values)


def parse_seed(text: str) -> int:
    """The seed; "random" draws one.

    Raises:
        UsageError: it is neither a whole number of 0 or more nor "random".
    """
    if text == "random":
        import secrets  # with all of hashlib, which --help need not wait for

        return secrets.randbelow(RANDOM_SEEDS)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"Seed {text!r} is not possible.", "Give a whole number of 0 or more (18 digits), or random.")
    return int(text)


def parse_tile(text: str) -> str | int:
    """auto, off, or a number of pixels; whether that suits the model is seen later.

    Raises:
        UsageError: it is something else.
    """
    if text in ("auto", "off"):
        return text
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise UsageError(f"Tile {text!r} is not possible.", "Give auto, off, or 16 to 16384.")
    return int(text)


def parse_options(*, seed: str, tile: str, max_memory: str | None, **others: Any) -> UpscaleOptions:
    """How to enlarge, of the options of upscale, batch and eval.

    Args:
        seed, tile, max_memory: as `parse_seed`, `parse_tile` and `parse_size` read them.
        **others: what else `UpscaleOptions` has fields for; further options are passed over.

    Raises:
        UsageError: one of them is not possible.
    """
    from ..options import UpscaleOptions

    return UpscaleOptions(
        seed=parse_seed(seed),
        tile=parse_tile(tile),
        max_memory=None if max_memory is None else parse_size(max_memory),
        **{field.name: others[field.name] for field in fields(UpscaleOptions) if field.name in others},
    )


def check_repeatable(seed: str) -> None:
    """Raise UsageError if a run that is to go on where another one ended would have another seed."""
    if seed == "random":
        raise UsageError("A random seed would be another one after every interruption.", "Give a number.")
