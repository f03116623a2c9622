"""Crops of the dataset, drawn at random in batches, as the network sees them when it enlarges.

crops = CropSampler(dataset, config, device).draw(scale, generator)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from ..runtime import device_free_memory
from .config import TrainConfig
from .dataset import Dataset
from .degradations import degrade

MARGIN = 6
"""Pixels of the small picture that a crop is given beyond its edges: two for the bicubic, the rest for the detail."""
CONTEXT = 16
"""How many more it is degraded with: a block of JPEG, whose content is shared out over all of it."""


@dataclass(frozen=True)
class Crops:
    """A batch of crops.

    Attributes:
        hr, up: the originals and the enlarged low-resolution crops up(LR), B×3×H×W in [0, 1].
        condition: what the network is conditioned on, B×C×H×W.
        scale: of enlargement.
        noise_gain, residual_gain: factors of the noise and of the residual, B×1×H×W; None where the model has none.
    """

    hr: Tensor
    up: Tensor
    condition: Tensor
    scale: int
    noise_gain: Tensor | None = None
    residual_gain: Tensor | None = None

    def __getitem__(self, which: slice) -> Crops:
        gains = (None if gain is None else gain[which] for gain in (self.noise_gain, self.residual_gain))
        return Crops(self.hr[which], self.up[which], self.condition[which], self.scale, *gains)


@dataclass(frozen=True)
class _Places:
    """Where crops are cut out.

    Attributes:
        which: index of the picture, B.
        tops, lefts: pixels of the original, B.
        flips: whether a crop is mirrored vertically, mirrored horizontally, transposed, 3×B.
    """

    which: Tensor
    tops: Tensor
    lefts: Tensor
    flips: Tensor

    def at(self, chosen: Tensor) -> _Places:
        """Some of them."""
        return _Places(self.which[chosen], self.tops[chosen], self.lefts[chosen], self.flips[:, chosen])


class CropSampler:
    """Draws crops and the low-resolution pixels around them, on any device.

    Args:
        dataset: what to draw from; kept on the device if it takes less than a third of the free memory there.
        config: size and number of crops, augmentation, degradations, and the diffusion's condition.
        device: where batches are made.
    """

    def __init__(self, dataset: Dataset, config: TrainConfig, device: torch.device) -> None:
        self.config, self.diffusion, self.device = config.data, config.model.diffusion, device
        fits = device.type == "cpu" or dataset.pixels.nbytes < device_free_memory(str(device)) // 3
        self.pixels = dataset.pixels.to(device) if fits else dataset.pixels
        pictures = dataset.pictures
        self.heights, self.widths, self.offsets = torch.tensor(
            [[item.height, item.width, item.offset // 3] for item in pictures]
        ).T
        self.small = {
            scale: torch.tensor([item.small[str(scale)] // 3 for item in pictures]) for scale in config.model.scales
        }
        areas = torch.tensor([item.height * item.width for item in pictures], dtype=torch.float64)
        self.weights = areas * torch.tensor([not item.synthetic for item in pictures])
        # of each kind there are as many pictures, all of one size
        self.synthetic_weights = areas * torch.tensor(
            [self.config.synthetic.get(item.synthetic, 0.0) for item in pictures]
        )

    def draw(self, scale: int, generator: torch.Generator) -> Crops:
        """Draw a batch; `generator` is on the CPU, so that every device is given the same crops."""
        config, border = self.config, MARGIN * scale
        places, plain = self._draw_places(scale, generator)
        hr = self._originals(places, 0)
        up = self._enlarged(self._small(places, scale, MARGIN), scale)
        if config.candidates > 1:
            chosen = self._most_detailed(hr, _trimmed(up, border), plain)
            hr, up, places = hr[chosen], up[chosen], places.at(chosen.cpu())
        if config.degrades:
            wide = MARGIN + CONTEXT
            originals = self._originals(places, wide * scale) if any(config.kernels.values()) else None
            small = degrade(self._small(places, scale, wide), originals, scale, config, generator)
            up = self._enlarged(_trimmed(small, CONTEXT), scale)

        def around(radius: int) -> Tensor:
            return _trimmed(up, border - radius)

        diffusion, noise_gain, residual_gain = self.diffusion, None, None
        if diffusion.noise_by_detail is not None:
            noise_gain = noise_gain_of(around(noise_radius(scale)), scale, diffusion)
        if diffusion.residual_by_detail is not None:
            residual_gain = residual_gain_of(around(residual_radius(scale)), scale, diffusion)
        condition = condition_of(around(detail_radius(scale, diffusion)), scale, diffusion)
        return Crops(hr, around(0), condition, scale, noise_gain, residual_gain)

    def _draw_places(self, scale: int, generator: torch.Generator) -> tuple[_Places, Tensor]:
        """Places of all candidates, and which of the batch's crops are taken without a choice."""
        config = self.config
        count = config.batch * config.candidates
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        plain = torch.zeros(config.batch, dtype=torch.bool)
        if config.plain:
            plain = torch.rand(config.batch, generator=generator) < config.plain
        if bool(self.synthetic_weights.any()):
            synthetic = torch.rand(config.batch, generator=generator) < sum(config.synthetic.values())
            made = torch.multinomial(self.synthetic_weights, count, replacement=True, generator=generator)
            which = torch.where(synthetic.repeat(config.candidates), made, which)
            plain |= synthetic
        at = torch.rand(2, count, generator=generator, dtype=torch.float64)
        flips = torch.randint(2, (3, count), generator=generator, dtype=torch.bool) & config.augment
        tops, lefts = (
            (place * ((sides[which] - config.crop) // scale + 1)).long() * scale
            for place, sides in zip(at, (self.heights, self.widths), strict=True)
        )
        return _Places(which, tops, lefts, flips), plain

    def _most_detailed(self, hr: Tensor, up: Tensor, plain: Tensor) -> Tensor:
        """Index of each crop's best candidate: the one that enlarging takes most from; the first where it is plain."""
        config = self.config
        detail = (hr - up).square().mean((1, 2, 3)).view(config.candidates, config.batch)
        best = torch.where(plain.to(self.device), 0, detail.argmax(0))
        return best * config.batch + torch.arange(config.batch, device=self.device)

    def _originals(self, places: _Places, around: int) -> Tensor:
        """Crops of the originals, with so many pixels around them; beyond a picture its edge pixels are repeated."""
        return self._crops(self.offsets, self.heights, self.widths, places, 1, around)

    def _small(self, places: _Places, scale: int, around: int) -> Tensor:
        """Likewise crops of the low-resolution pictures."""
        return self._crops(self.small[scale], self.heights // scale, self.widths // scale, places, scale, around)

    def _crops(
        self, offsets: Tensor, heights: Tensor, widths: Tensor, places: _Places, scale: int, around: int
    ) -> Tensor:
        which, side = places.which, self.config.crop // scale + 2 * around
        grid = self._grid(places.tops // scale - around, places.lefts // scale - around, side, places.flips)
        sides = (side_lengths[which].view(-1, 1, 1) for side_lengths in (heights, widths))
        inside = [at.clamp(torch.zeros_like(n), n - 1) for at, n in zip(grid, sides, strict=True)]
        return self._gather(offsets[which], widths[which], inside)

    def _enlarged(self, small: Tensor, scale: int) -> Tensor:
        """up(LR)."""
        up = F.interpolate(small, scale_factor=scale, mode="bicubic", align_corners=False)
        return up.clamp_(0, 1) if self.diffusion.upsample == "bicubic_075_clipped" else up

    def _grid(self, tops: Tensor, lefts: Tensor, size: int, flips: Tensor) -> tuple[Tensor, Tensor]:
        """The row and column that each pixel of a mirrored and transposed crop is taken from, B×size×size each."""
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


def _trimmed(x: Tensor, by: int) -> Tensor:
    return x[..., by : x.shape[-2] - by, by : x.shape[-1] - by]
