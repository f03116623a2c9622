"""Which pictures belong together, by their names: small ones and originals, or versions in several folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..text import listed
from .listing import list_pictures


def original_names(stem: str, scale: int) -> Iterable[str]:
    """What the original of another picture may be called.

    baby for babyx2, baby_x2, baby_LRBI_x2 and baby_SRF_2_LR; baby_HR for baby_LR and baby_LR2 (RealSR), and
    baby_SRF_2_HR for baby_SRF_2_LR (Urban100).
    """
    yield stem
    lr = ("_LR", f"_LR{scale}")
    for ending in (*lr, *(f"{end}{scale}" for end in ("_LRBI_x", "_LRBD_x", "_LRDN_x", "_x", "x")), f"_SRF_{scale}_LR"):
        if stem.lower().endswith(ending.lower()):
            yield stem[: -len(ending)]
            if ending in lr:
                yield f"{stem[: -len(ending)]}_HR"


def pair(originals: Sequence[Path], others: Iterable[Path], scale: int, where: str) -> dict[Path, Path]:
    """The one picture among `others` that belongs to each original, by name; those that belong to none are left over.

    Args:
        where: the folder of the others, for the error.

    Raises:
        InputError: an original has none or several, or shares one with another original; the message lists them.
    """
    known: dict[str, list[Path]] = {}
    for path in others:
        for name in original_names(path.stem, scale):
            known.setdefault(name, []).append(path)
    found = {original: known.get(original.stem, []) for original in originals}
    once = Counter(matches[0] for matches in found.values() if len(matches) == 1)
    wrong = [path.name for path, matches in found.items() if len(matches) != 1 or once[matches[0]] > 1]
    if wrong:
        raise InputError(
            f"{len(wrong)} originals have not one picture of their own in '{where}': {listed(wrong)}.",
            f"Name each as its original, or with x{scale} behind it.",
        )
    return {original: matches[0] for original, matches in found.items()}


def pair_folders(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Versions of the same pictures in several folders, by their paths in them without suffix.

    Returns:
        Name of a picture -> its file in each folder, sorted by name.

    Raises:
        InputError: a folder has no pictures, two of one name, or one that another folder lacks.
    """
    found = []
    for folder in folders:
        paths = list_pictures(folder)
        files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
        if not files:
            raise InputError(f"'{folder}' holds no pictures.", "Check the name of the folder.")
        if len(files) < len(paths):
            twice = [path.name for path in paths if path not in files.values()]
            raise InputError(f"'{folder}' holds several pictures of one name: {listed(twice)}.", "Remove all but one.")
        found.append(files)
    every = sorted(set().union(*found))
    alone = [name for name in every if any(name not in files for files in found)]
    if alone:
        raise InputError(
            f"{len(alone)} of {len(every)} pictures are not in every folder: {listed(alone)}.",
            "Add or remove them; names must be equal but for the suffix.",
        )
    return {name: [files[name] for files in found] for name in every}
