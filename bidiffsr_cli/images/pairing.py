"""Which small picture belongs to which original: by name, as sets of test pictures are usually named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError


def original_names(stem: str, scale: int) -> Iterable[str]:
    """What the original of another picture may be called.

    baby for babyx2, baby_x2, baby_LRBI_x2 and baby_SRF_2_LR; baby_HR for baby_LR and baby_LR2 (RealSR), and
    baby_SRF_2_HR for baby_SRF_2_LR (Urban100).
    """
    yield stem
    for ending in ("_LR", f"_LR{scale}"):
        if stem.lower().endswith(ending.lower()):
            yield stem[: -len(ending)]
            yield f"{stem[: -len(ending)]}_HR"
    for ending in (
        f"_LRBI_x{scale}",
        f"_LRBD_x{scale}",
        f"_LRDN_x{scale}",
        f"_SRF_{scale}_LR",
        f"_x{scale}",
        f"x{scale}",
    ):
        if stem.lower().endswith(ending.lower()):
            yield stem[: -len(ending)]


def pair(originals: Sequence[Path], others: Iterable[Path], scale: int, where: str) -> dict[Path, Path]:
    """The one picture among `others` that belongs to each original, by name; those that belong to none are left over.

    Args:
        where: the folder of the others, for the error.

    Raises:
        InputError: an original has none or several, or shares one with another original; the message lists them.
    """
    known = by_original(others, scale)
    found = {original: known.get(original.stem, []) for original in originals}
    once = Counter(matches[0] for matches in found.values() if len(matches) == 1)
    wrong = [path.name for path, matches in found.items() if len(matches) != 1 or once[matches[0]] > 1]
    if wrong:
        more = "" if len(wrong) <= 5 else f" and {len(wrong) - 5} more"
        raise InputError(
            f"{len(wrong)} originals have not one picture of their own in '{where}': {', '.join(wrong[:5])}{more}.",
            f"Name each as its original, or with x{scale} behind it.",
        )
    return {original: matches[0] for original, matches in found.items()}


def by_original(small: Iterable[Path], scale: int) -> dict[str, list[Path]]:
    """Name of an original, without suffix -> the small pictures that may be its own."""
    result: dict[str, list[Path]] = {}
    for path in small:
        for name in original_names(path.stem, scale):
            result.setdefault(name, []).append(path)
    return result
