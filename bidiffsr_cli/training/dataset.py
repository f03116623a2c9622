"""Pictures to train on: decoded once into one file, which is mapped into memory.

dataset = open_dataset(config.data, config.model.scales, cache)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

from ..errors import InputError, OutputError, UsageError
from ..images.listing import list_pictures
from ..images.pairing import pair
from ..images.pixels import to_bytes
from ..images.reading import read_picture
from ..images.resizing import downscale_bicubic
from ..text import counted
from .config import DataConfig
from .synthetic import REVISION, synthetic_pictures

CACHE_FORMAT = 1
SYNTHETIC_SIDE = 512
"""Least side of the pictures that are made in code, pixels."""


@dataclass(frozen=True)
class StoredPicture:
    """One picture in the file: where its bytes (H×W×3) begin, and those of its low-resolution versions.

    Attributes:
        name: of its file, for messages.
        height, width: pixels, both multiples of all scales.
        offset: of its first byte.
        small: scale -> offset of the low-resolution picture.
        synthetic: the kind of a picture that is made in code; empty for others.
    """

    name: str
    height: int
    width: int
    offset: int
    small: dict[str, int]
    synthetic: str = ""


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures.

    Attributes:
        pixels: N×3 uint8, the pixels of all pictures, mapped from the file.
        pictures: where each of them lies.
        sha256: of all pixels: what a model was trained on.
        skipped: file -> why it was left out.
    """

    pixels: Tensor
    pictures: list[StoredPicture]
    sha256: str
    skipped: dict[str, str]

    @property
    def size_in_words(self) -> str:
        """How many pictures there are, as "3 pictures and 96 made in code"."""
        made = sum(bool(item.synthetic) for item in self.pictures)
        return counted(len(self.pictures) - made, "picture") + (f" and {made} made in code" if made else "")


def open_dataset(
    config: DataConfig, scales: Sequence[int], cache: Path, progress: Callable[[int, int], None] = lambda *_: None
) -> Dataset:
    """Decode the config's pictures, or map what an earlier run decoded.

    Args:
        config: names the pictures.
        scales: of the low-resolution versions.
        cache: folder of decoded pictures, with a sub-folder for each set of files in the state they are in now.
        progress: called with (pictures done, pictures in all) while they are decoded.

    Raises:
        UsageError: no folder is given.
        InputError: no picture is usable, or an original has no low-resolution picture.
        OutputError: the cache cannot be written.
    """
    files = _files(config)
    low_res = {scale: _low_res_of(files, Path(folder), int(scale)) for scale, folder in config.low_res.items()}
    side = 0
    if any(config.synthetic.values()):
        multiple = math.lcm(*scales)
        side = -(-max(SYNTHETIC_SIDE, config.crop) // multiple) * multiple
    folder = cache / _key(files, low_res, scales, side)
    dataset = _map(folder)
    if dataset is None:
        try:
            _decode(files, low_res, scales, side, folder, progress)
        except OSError as error:
            raise OutputError(
                f"The decoded pictures cannot be written to '{cache}': {error.strerror or error}.",
                "Choose another folder with --cache.",
            ) from None
        dataset = _map(folder)
        assert dataset is not None
    usable, skipped = [], dict(dataset.skipped)
    for item in dataset.pictures:
        if min(item.height, item.width) >= config.crop:
            usable.append(item)
        else:
            skipped[item.name] = "it is smaller than a crop."
    if all(item.synthetic for item in usable):
        reason = next(iter(skipped.values()), "there is none.")
        raise InputError(f"No picture can be used: {reason}", "Give folders of pictures larger than a crop.")
    return replace(dataset, pictures=usable, skipped=skipped)


def _files(config: DataConfig) -> list[Path]:
    if not config.pictures:
        raise UsageError("There are no pictures to train on.", "Name folders of pictures with --data.")
    files: list[Path] = []
    for name in config.pictures:
        path = Path(name)
        if not path.exists():
            raise InputError(f"There is no folder or file '{name}'.", "Check its name.")
        files += list_pictures(path) if path.is_dir() else [path]
    return files


def _low_res_of(files: Sequence[Path], folder: Path, scale: int) -> dict[Path, Path]:
    """The low-resolution picture of every original."""
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.", "Check data.low_res.")
    return pair(files, list_pictures(folder), scale, str(folder))


def _map(folder: Path) -> Dataset | None:
    """What an earlier run decoded, if it is there and complete."""
    try:
        index = json.loads((folder / "index.json").read_text())
        size = (folder / "pixels").stat().st_size
        if size != index["size"]:
            return None
        pictures = [StoredPicture(**item) for item in index["stored"]]
        pixels = torch.from_file(str(folder / "pixels"), size=size, dtype=torch.uint8) if size else torch.empty(0)
        return Dataset(pixels.view(-1, 3), pictures, index["sha256"], index["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(
    files: Sequence[Path], low_res: dict[str, dict[Path, Path]], scales: Sequence[int], synthetic_side: int
) -> str:
    """A name for the folder: a hash of everything that the decoded pictures depend on."""

    def facts(path: Path) -> tuple[str, int, int, bool]:
        try:
            status = path.stat()
        except OSError:  # a link to nothing, say: reading it will tell
            return (os.fspath(path), 0, 0, False)
        return (os.fspath(path.resolve()), status.st_size, status.st_mtime_ns, os.access(path, os.R_OK))

    pairs = {scale: [facts(pair[file]) for file in files] for scale, pair in low_res.items()}
    value: list[Any] = [CACHE_FORMAT, list(scales), [facts(file) for file in files], pairs]
    if synthetic_side:  # whose letters Pillow draws
        value += [synthetic_side, REVISION, PIL.__version__]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _decode(
    files: Sequence[Path],
    low_res: dict[str, dict[Path, Path]],
    scales: Sequence[int],
    synthetic_side: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Write `pixels` and `index.json` into a folder, which appears when it is complete.

    Args:
        synthetic_side: height and width of the pictures that are made in code; 0 for none.
    """
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    making.mkdir(parents=True, exist_ok=True)
    _remove_remains(folder.parent)
    try:
        stored: list[dict[str, Any]] = []
        skipped: dict[str, str] = {}
        digest, offset = hashlib.sha256(), 0
        with (making / "pixels").open("wb") as file:

            def store(name: str, pictures: Sequence[Tensor], synthetic: str) -> None:
                nonlocal offset
                height, width = pictures[0].shape[1:]
                offsets = []
                for picture in pictures:
                    data = to_bytes(picture.permute(1, 2, 0))
                    file.write(data)
                    digest.update(data)
                    offsets.append(offset)
                    offset += len(data)
                small = dict(zip(map(str, scales), offsets[1:], strict=True))
                stored.append(asdict(StoredPicture(name, height, width, offsets[0], small, synthetic)))

            for done, path in enumerate(files):
                progress(done, len(files))
                try:
                    store(path.name, list(_originals_and_small(path, low_res, scales)), synthetic="")
                except InputError as error:
                    skipped[path.name if path.name not in skipped else str(path)] = error.message
            if synthetic_side:
                for kind, index, picture in synthetic_pictures(synthetic_side):
                    made = [picture, *(downscale_bicubic(picture, scale) for scale in scales)]
                    store(f"{kind} {index}", made, synthetic=kind)
        contents = {"stored": stored, "skipped": skipped, "sha256": digest.hexdigest(), "size": offset}
        (making / "index.json").write_text(json.dumps(contents))
        if _map(folder) is None:  # otherwise another process was quicker
            shutil.rmtree(folder, ignore_errors=True)
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _remove_remains(cache: Path) -> None:
    """Delete what killed processes left behind: folders a day old, so that none of a living process is meant."""
    for path in cache.glob("*.*"):
        if time.time() - path.stat().st_mtime > 24 * 3600:
            shutil.rmtree(path, ignore_errors=True)


def _originals_and_small(path: Path, low_res: dict[str, dict[Path, Path]], scales: Sequence[int]) -> Iterator[Tensor]:
    """The original, cut to a multiple of all scales, then its low-resolution version of each scale: 3×H×W uint8."""
    original = _levels(path)
    whole = original.shape[1:]
    multiple = math.lcm(*scales)
    height, width = (side // multiple * multiple for side in original.shape[1:])
    if not min(height, width):
        raise InputError(f"{path.name} is smaller than {multiple} pixels.", "Leave it out.")
    original = original[:, :height, :width]
    yield original
    for scale in scales:
        if str(scale) in low_res:
            small = _levels(low_res[str(scale)][path])
            for large, side in zip(whole, small.shape[1:], strict=True):
                if side not in (large // scale, -(-large // scale)):
                    raise InputError(f"{path.name}: its small picture is not {scale} times smaller.", "Make it again.")
            yield small[:, : height // scale, : width // scale]
        else:
            yield downscale_bicubic(original, scale)


def _levels(path: Path) -> Tensor:
    return (read_picture(path).rgb * 255).round().to(torch.uint8)
