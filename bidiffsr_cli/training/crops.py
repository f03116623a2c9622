"""Crops of the dataset, drawn at random in batches, as the network sees them when it enlarges.

crops = CropSampler(dataset, config, device).draw(scale, generator)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.conditioning import condition
from ..diffusion.detail import noise_gain, residual_gain, trimmed
from ..diffusion.upsampling import Upsampler, upsample_crops, upsampling_margin
from ..runtime import device_free_memory, sent
from .config import TrainConfig
from .dataset import Dataset
from .degradations import degrade

BICUBIC = 2
"""Pixels of the small picture that bicubic interpolation sees beyond a crop's edges."""
MARGIN = BICUBIC + 4
"""Pixels of the small picture that a crop is given there: what is left is for the detail."""
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


class _Places(NamedTuple):
    """Where crops are cut out, B integers each, where the pixels are.

    Attributes:
        original, small: the first pixel of the original in the dataset, and of its low-resolution picture.
        height, width: of the original.
        top, left: in the original, pixels.
        upturned, mirrored, transposed: 1 where a crop is.
    """

    original: Tensor
    small: Tensor
    height: Tensor
    width: Tensor
    top: Tensor
    left: Tensor
    upturned: Tensor
    mirrored: Tensor
    transposed: Tensor

    def at(self, chosen: Tensor) -> _Places:
        """Some of them."""
        return _Places(*torch.stack(self)[:, chosen])


class CropSampler:
    """Draws crops and the low-resolution pixels around them: places on the CPU, everything else on any device.

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
        self.heights, self.widths, self.originals = torch.tensor(
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

    def draw(self, scale: int, generator: torch.Generator, upsampler: Upsampler | None = None) -> Crops:
        """Draw a batch.

        Args:
            scale: of enlargement.
            generator: on the CPU, so that every device is given the same crops.
            upsampler: of the model, if it has one; where the pixels are. It gets no gradient.
        """
        hr, small = self.draw_pairs(scale, generator, MARGIN + upsampling_margin(upsampler))
        with torch.no_grad():
            up = self._enlarged(small, scale, upsampler)

        def around(radius: int) -> Tensor:
            return trimmed(up, MARGIN * scale - radius)

        config = self.diffusion
        noise = None if config.noise_by_detail is None else noise_gain(around, scale, config)
        residual = None if config.residual_by_detail is None else residual_gain(around, scale, config)
        return Crops(hr, around(0), condition(around, scale, config), scale, noise, residual)

    def draw_pairs(self, scale: int, generator: torch.Generator, margin: int) -> tuple[Tensor, Tensor]:
        """Originals, B×3×H×W, and the low-resolution crops with `margin` pixels around them, B×3×(h+2m)×(w+2m)."""
        config = self.config
        places, plain = self._draw_places(scale, generator)
        hr = self._originals(places, 0)
        if config.candidates > 1:
            up = trimmed(self._enlarged(self._small(places, scale, BICUBIC), scale), BICUBIC * scale)
            chosen = self._most_detailed(hr, up, plain)
            hr, places = hr[chosen], places.at(sent(chosen, self.pixels.device))
        if not config.degrades:
            return hr, self._small(places, scale, margin)
        wide = margin + CONTEXT
        originals = self._originals(places, wide * scale) if any(config.kernels.values()) else None
        return hr, trimmed(degrade(self._small(places, scale, wide), originals, scale, config, generator), CONTEXT)

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
        height, width = self.heights[which], self.widths[which]
        top, left = (
            (place * ((side - config.crop) // scale + 1)).long() * scale
            for place, side in zip(at, (height, width), strict=True)
        )
        drawn = torch.stack([self.originals[which], self.small[scale][which], height, width, top, left, *flips])
        return _Places(*sent(drawn, self.pixels.device)), sent(plain, self.device)

    def _most_detailed(self, hr: Tensor, up: Tensor, plain: Tensor) -> Tensor:
        """Index of each crop's best candidate: the one that enlarging takes most from; the first where it is plain."""
        config = self.config
        detail = (hr - up).square().mean((1, 2, 3)).view(config.candidates, config.batch)
        best = torch.where(plain, 0, detail.argmax(0))
        return best * config.batch + torch.arange(config.batch, device=self.device)

    def _originals(self, places: _Places, around: int) -> Tensor:
        """Crops of the originals, with so many pixels around them; beyond a picture its edge pixels are repeated."""
        return self._crops(places.original, places, 1, around)

    def _small(self, places: _Places, scale: int, around: int) -> Tensor:
        """Likewise crops of the low-resolution pictures."""
        return self._crops(places.small, places, scale, around)

    def _crops(self, picture: Tensor, places: _Places, scale: int, around: int) -> Tensor:
        """B×3×side×side in [0, 1], from pictures that begin at pixel `picture` and are `scale` times smaller."""
        side, width = self.config.crop // scale + 2 * around, places.width // scale
        down = torch.stack([places.top // scale - around, places.height // scale, width])
        across = torch.stack([places.left // scale - around, width, torch.ones_like(width)])
        transposed = places.transposed > 0  # its rows lie along the picture's columns
        rows = _steps(torch.where(transposed, across, down), places.upturned, side)
        columns = _steps(torch.where(transposed, down, across), places.mirrored, side)
        at = (picture[:, None] + rows)[:, :, None] + columns[:, None]  # B×side×side
        pixels = self.pixels.index_select(0, at.flatten()).view(*at.shape, 3)
        return sent(pixels, self.device).permute(0, 3, 1, 2) / 255

    def _enlarged(self, small: Tensor, scale: int, upsampler: Upsampler | None = None) -> Tensor:
        """up(LR)."""
        small = small.contiguous()  # torch enlarges planes of one colour in half of the time
        up = upsample_crops(small, scale, self.diffusion, upsampler)
        return up.contiguous(memory_format=torch.channels_last)


def _steps(way: Tensor, backwards: Tensor, side: int) -> Tensor:
    """How far each row, or column, of a crop is from the first pixel of its picture: B×side.

    Args:
        way: where the first one is, how many the picture has, and how far one is from the next, 3×B.
        backwards: 1 where the last one comes first, B.
        side: of the crop, pixels.
    """
    first, length, step = way[:, :, None]
    at = torch.arange(side, device=way.device)
    at = first + torch.where(backwards[:, None] > 0, side - 1 - at, at)
    return at.clamp(min=0).minimum(length - 1) * step
