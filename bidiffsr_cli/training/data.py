"""Pictures for training: decoded once into one file, which is mapped into memory, and crops drawn from it in batches.

pictures = open_pictures(config.data, config.model.scales, cache)
batch = CropSampler(pictures, config, device).draw(scale, generator)
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
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.conditioning import (
    condition_of,
    detail_radius,
    noise_gain_of,
    noise_radius,
    residual_gain_of,
    residual_radius,
)
from ..errors import InputError, OutputError, UsageError
from ..images.listing import list_pictures
from ..images.pairing import pair
from ..images.pixels import to_bytes
from ..images.reading import read_picture
from ..images.resizing import downscale_bicubic
from ..runtime import device_free_memory
from .config import DataConfig, TrainConfig
from .degradations import degrade
from .synthetic import REVISION, synthetic_pictures

FORMAT = 1
SYNTHETIC_SIDE = 512
"""Least side of the pictures that are made in code."""
MARGIN = 6
"""Pixels of the small picture that a crop is given beyond its edges: two for the bicubic, the rest for the detail."""
CONTEXT = 16
"""How many more it is degraded with: a block of JPEG, whose content is shared out over all of it."""


@dataclass(frozen=True)
class Stored:
    """One picture in the file: where its bytes (H×W×3) begin, and those of the small ones by scale.

    Attributes:
        synthetic: which kind it is of those that are made in code; empty for others.
    """

    name: str
    height: int
    width: int
    offset: int
    small: dict[str, int]
    synthetic: str = ""


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures.

    Attributes:
        pixels: N×3 uint8, the pixels of all pictures, mapped from the file.
        stored: where each one lies.
        sha256: of all pixels: what a model was trained on.
        skipped: file -> why it was left out.
    """

    pixels: Tensor
    stored: list[Stored]
    sha256: str
    skipped: dict[str, str]


@dataclass(frozen=True)
class Batch:
    """Crops.

    Attributes:
        hr, up: the originals and up(LR), B×3×H×W in [0, 1].
        condition: B×C×H×W as the network sees it.
        scale: of enlargement.
        noise_gain, residual_gain: by how much noise and residual are multiplied, B×1×H×W; None where the model has no
            such thing.
    """

    hr: Tensor
    up: Tensor
    condition: Tensor
    scale: int
    noise_gain: Tensor | None = None
    residual_gain: Tensor | None = None

    def __getitem__(self, which: slice) -> Batch:
        gains = (None if gain is None else gain[which] for gain in (self.noise_gain, self.residual_gain))
        return Batch(self.hr[which], self.up[which], self.condition[which], self.scale, *gains)


def open_pictures(
    config: DataConfig, scales: Sequence[int], cache: Path, progress: Callable[[int, int], None] = lambda *_: None
) -> Pictures:
    """Decode the config's pictures, or map what an earlier run decoded.

    Args:
        config: which pictures.
        scales: of the small ones.
        cache: folder of decoded pictures; one sub-folder for each set of files as they are now.
        progress: is told (pictures done, of how many) while they are decoded.

    Raises:
        UsageError: no folder is given.
        InputError: there is not one usable picture, or a small one is missing for an original.
        OutputError: the cache cannot be written.
    """
    files = _files(config)
    low_res = {scale: _low_res_of(files, Path(folder), int(scale)) for scale, folder in config.low_res.items()}
    side = 0
    if any(config.synthetic.values()):
        multiple = math.lcm(*scales)
        side = -(-max(SYNTHETIC_SIDE, config.crop) // multiple) * multiple
    folder = cache / _key(files, low_res, scales, side)
    pictures = _map(folder)
    if pictures is None:
        try:
            _decode(files, low_res, scales, side, folder, progress)
        except OSError as error:
            raise OutputError(
                f"The decoded pictures cannot be written to '{cache}': {error.strerror or error}.",
                "Choose another folder with --cache.",
            ) from None
        pictures = _map(folder)
        assert pictures is not None
    usable, skipped = [], dict(pictures.skipped)
    for item in pictures.stored:
        if min(item.height, item.width) >= config.crop:
            usable.append(item)
        else:
            skipped[item.name] = "it is smaller than a crop."
    if all(item.synthetic for item in usable):
        reason = next(iter(skipped.values()), "there is none.")
        raise InputError(f"No picture can be used: {reason}", "Give folders of pictures larger than a crop.")
    return replace(pictures, stored=usable, skipped=skipped)


@dataclass(frozen=True)
class _Places:
    """Where crops lie.

    Attributes:
        which: of the pictures, B.
        tops, lefts: pixels of the original, B.
        flips: whether they are mirrored down, right, and transposed, 3×B.
    """

    which: Tensor
    tops: Tensor
    lefts: Tensor
    flips: Tensor

    def at(self, chosen: Tensor) -> _Places:
        """Some of them."""
        return _Places(self.which[chosen], self.tops[chosen], self.lefts[chosen], self.flips[:, chosen])


class CropSampler:
    """Draws crops with the small picture around them, on any device.

    Args:
        pictures: what to draw from; kept on the device where they take less than a third of it.
        config: size and number of crops, augmentation, degradations; the diffusion's condition.
        device: where batches are made.
    """

    def __init__(self, pictures: Pictures, config: TrainConfig, device: torch.device) -> None:
        self.config, self.diffusion, self.device = config.data, config.model.diffusion, device
        fits = device.type == "cpu" or pictures.pixels.nbytes < device_free_memory(str(device)) // 3
        self.pixels = pictures.pixels.to(device) if fits else pictures.pixels
        stored = pictures.stored
        self.heights, self.widths, self.offsets = torch.tensor(
            [[item.height, item.width, item.offset // 3] for item in stored]
        ).T
        self.small = {
            scale: torch.tensor([item.small[str(scale)] // 3 for item in stored]) for scale in config.model.scales
        }
        areas = torch.tensor([item.height * item.width for item in stored], dtype=torch.float64)
        self.shares = areas * torch.tensor([not item.synthetic for item in stored])
        # as many of each kind, and all of one size
        self.synthetic_shares = areas * torch.tensor(
            [self.config.synthetic.get(item.synthetic, 0.0) for item in stored]
        )

    def draw(self, scale: int, generator: torch.Generator) -> Batch:
        """One batch; `generator` is on the CPU, so that every device is given the same crops."""
        config, size = self.config, self.config.crop
        count = config.batch * config.candidates
        which = torch.multinomial(self.shares, count, replacement=True, generator=generator)
        plain = torch.zeros(config.batch, dtype=torch.bool)
        if config.plain:
            plain = torch.rand(config.batch, generator=generator) < config.plain
        if bool(self.synthetic_shares.any()):
            synthetic = torch.rand(config.batch, generator=generator) < sum(config.synthetic.values())
            made = torch.multinomial(self.synthetic_shares, count, replacement=True, generator=generator)
            which = torch.where(synthetic.repeat(config.candidates), made, which)
            plain |= synthetic
        at = torch.rand(2, count, generator=generator, dtype=torch.float64)
        flips = torch.randint(2, (3, count), generator=generator, dtype=torch.bool) & config.augment
        tops, lefts = (
            (place * ((sides[which] - size) // scale + 1)).long() * scale
            for place, sides in zip(at, (self.heights, self.widths), strict=True)
        )
        places = _Places(which, tops, lefts, flips)
        hr = self._originals(places, 0)
        up = self._enlarged(self._small(places, scale, MARGIN), scale)
        inner = _trimmed(up, MARGIN * scale)
        if config.candidates > 1:
            detail = (hr - inner).square().mean((1, 2, 3)).view(config.candidates, config.batch)
            best = torch.where(plain.to(self.device), 0, detail.argmax(0))
            chosen = best * config.batch + torch.arange(config.batch, device=self.device)
            hr, up, inner = hr[chosen], up[chosen], inner[chosen]
            places = places.at(chosen.cpu())
        if config.degrades:
            wide = MARGIN + CONTEXT
            originals = self._originals(places, wide * scale) if any(config.kernels.values()) else None
            small = degrade(self._small(places, scale, wide), originals, scale, config, generator)
            up = self._enlarged(_trimmed(small, CONTEXT), scale)
            inner = _trimmed(up, MARGIN * scale)

        def around(radius: int) -> Tensor:
            return _trimmed(up, MARGIN * scale - radius)

        diffusion, noise_gain, residual_gain = self.diffusion, None, None
        if diffusion.noise_by_detail is not None:
            noise_gain = noise_gain_of(around(noise_radius(scale)), scale, diffusion)
        if diffusion.residual_by_detail is not None:
            residual_gain = residual_gain_of(around(residual_radius(scale)), scale, diffusion)
        condition = condition_of(around(detail_radius(scale, diffusion)), scale, diffusion)
        return Batch(hr, inner, condition, scale, noise_gain, residual_gain)

    def _originals(self, places: _Places, around: int) -> Tensor:
        """The originals' crops, with so many pixels around them; beyond a picture its edge goes on."""
        return self._crops(self.offsets, self.heights, self.widths, places, 1, around)

    def _small(self, places: _Places, scale: int, around: int) -> Tensor:
        """Likewise the small pictures' crops."""
        return self._crops(self.small[scale], self.heights // scale, self.widths // scale, places, scale, around)

    def _crops(
        self, offsets: Tensor, heights: Tensor, widths: Tensor, places: _Places, scale: int, around: int
    ) -> Tensor:
        which, side = places.which, self.config.crop // scale + 2 * around
        grid = self._grid(places.tops // scale - around, places.lefts // scale - around, side, places.flips)
        sides = _columns(heights[which], widths[which])
        inside = [at.clamp(torch.zeros_like(n), n - 1) for at, n in zip(grid, sides, strict=True)]
        return self._gather(offsets[which], widths[which], inside)

    def _enlarged(self, small: Tensor, scale: int) -> Tensor:
        """up(LR)."""
        up = F.interpolate(small, scale_factor=scale, mode="bicubic", align_corners=False)
        return up.clamp_(0, 1) if self.diffusion.upsample == "bicubic_075_clipped" else up

    def _grid(self, tops: Tensor, lefts: Tensor, size: int, flips: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column, B×size×size each, that every pixel of a mirrored and transposed crop is taken from."""
        at = torch.arange(size)
        down, right, transposed = flips[:, :, None]
        rows, columns = torch.where(down, size - 1 - at, at)[:, :, None], torch.where(right, size - 1 - at, at)[:, None]
        transposed = transposed[:, :, None]
        y, x = torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)
        return tops.view(-1, 1, 1) + y, lefts.view(-1, 1, 1) + x

    def _gather(self, offsets: Tensor, widths: Tensor, grid: Sequence[Tensor]) -> Tensor:
        """B×3×size×size in [0, 1]."""
        y, x = grid
        at = offsets.view(-1, 1, 1) + y * widths.view(-1, 1, 1) + x
        return self.pixels[at.to(self.pixels.device)].to(self.device).permute(0, 3, 1, 2) / 255


def _columns(*values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.view(-1, 1, 1) for value in values)


def _trimmed(x: Tensor, by: int) -> Tensor:
    return x[..., by : x.shape[-2] - by, by : x.shape[-1] - by]


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
    """The small picture of every original."""
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.", "Check data.low_res.")
    return pair(files, list_pictures(folder), scale, str(folder))


def _map(folder: Path) -> Pictures | None:
    """What an earlier run decoded, if that is there and whole."""
    try:
        index = json.loads((folder / "index.json").read_text())
        size = (folder / "pixels").stat().st_size
        if size != index["size"]:
            return None
        stored = [Stored(**item) for item in index["stored"]]
        pixels = torch.from_file(str(folder / "pixels"), size=size, dtype=torch.uint8) if size else torch.empty(0)
        return Pictures(pixels.view(-1, 3), stored, index["sha256"], index["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(
    files: Sequence[Path], low_res: dict[str, dict[Path, Path]], scales: Sequence[int], synthetic_side: int
) -> str:
    """What the decoded pictures depend on, as a name."""

    def facts(path: Path) -> tuple[str, int, int, bool]:
        status = path.stat()
        return (os.fspath(path.resolve()), status.st_size, status.st_mtime_ns, os.access(path, os.R_OK))

    pairs = {scale: [facts(pair[file]) for file in files] for scale, pair in low_res.items()}
    value: list[Any] = [FORMAT, list(scales), [facts(file) for file in files], pairs]
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
        synthetic_side: of the pictures that are made in code; 0 for none.
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
                stored.append(asdict(Stored(name, height, width, offsets[0], small, synthetic)))

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
        if _map(folder) is None:  # else another process was quicker
            shutil.rmtree(folder, ignore_errors=True)
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _remove_remains(cache: Path) -> None:
    """What decoding left behind in processes that were killed; a day old, so that no living one is meant."""
    for path in cache.glob("*.*"):
        if time.time() - path.stat().st_mtime > 24 * 3600:
            shutil.rmtree(path, ignore_errors=True)


def _originals_and_small(path: Path, low_res: dict[str, dict[Path, Path]], scales: Sequence[int]) -> Iterator[Tensor]:
    """The original, cut to a multiple of all scales, and a small picture for each scale: 3×H×W uint8."""
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
