"""Which small picture belongs to which original: by name, as sets of test pictures are usually named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"))


def list_pictures(folder: Path) -> list[Path]:
    """The picture files in a folder and the folders in it, by name; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def original_names(stem: str, scale: int) -> Iterable[str]:
    """What the original of a small picture may be called: baby for babyx2, baby_LRBI_x2, baby_SRF_2_LR, baby_x2."""
    yield stem
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


def by_original(small: Iterable[Path], scale: int) -> dict[str, list[Path]]:
    """Name of an original, without suffix -> the small pictures that may be its own."""
    result: dict[str, list[Path]] = {}
    for path in small:
        for name in original_names(path.stem, scale):
            result.setdefault(name, []).append(path)
    return result
