"""Batches to train on: crops with noise (`TrainingBatch`), the sampler's own states (`Rollout`), and pairs for an
upsampler (`UpsamplerBatch`).

    parts = batch.split(threads)

A network that was trained on noised originals alone never sees the errors of its own earlier steps, which its later
ones have to cope with. A rollout takes the sampler's first steps and trains on the state that they lead to: exposure
bias, Ning et al., arXiv 2301.11706; the simulated steps of Yin et al., arXiv 2405.14867 (DMD2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.schedule import NoiseLevel
from .crops import Crops

Self = TypeVar("Self", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """What a loss is computed on; every tensor in it, and crops too, begin with B."""

    group_size = 1
    """Crops whose loss is computed together, so that no split divides them."""

    @property
    def count(self) -> int:
        """B."""
        return next(len(x) for x in vars(self).values() if isinstance(x, Tensor))

    def split(self: Self, count: int) -> list[Self]:
        """The batch in `count` parts, or fewer where it has too few crops."""
        size = -(-self.count // count)
        size = -(-size // self.group_size) * self.group_size
        return [self[first : first + size] for first in range(0, self.count, size)]

    def __getitem__(self: Self, which: slice) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: x[which] for name, x in values.items() if isinstance(x, Tensor | Crops)})


@dataclass(frozen=True)
class UpsamplerBatch(Batch):
    """What an upsampler learns from: originals, B×3×H×W, and small pictures with `upsampling_margin` around them."""

    hr: Tensor
    small: Tensor
    scale: int


@dataclass(frozen=True)
class TrainingBatch(Batch):
    """Crops, their time steps (B, on the CPU, all in one TaR/TaA group), and noise, B×3×H×W."""

    crops: Crops
    t: Tensor
    noise: Tensor


@dataclass(frozen=True)
class View:
    """The part of a picture that LPIPS sees, enlarged, mirrored and transposed, so that no pattern is learned to which
    the strides of LPIPS's network are blind (after E-LPIPS, Kettunen et al., arXiv 1906.03973).

    Attributes:
        top, left: where the part begins, pixels.
        size: its side, pixels.
        zoom: the factor by which it is enlarged, bilinearly.
        turn: which of the eight orientations it gets, 0..7.
    """

    top: int
    left: int
    size: int
    zoom: float
    turn: int

    @classmethod
    def draw(cls, crop: int, shift: int, zooms: Sequence[float], turns: bool, generator: torch.Generator) -> View:
        """Draw a view of crops.

        Args:
            crop: their side, pixels.
            shift: by how many pixels a part that is not enlarged is smaller than the crop.
            zooms: factors to choose from, each at least 1; a larger one makes the part smaller, so that LPIPS costs
                about the same.
            turns: whether to mirror and transpose.
            generator: on the CPU.
        """

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        zoom = zooms[below(len(zooms))]
        whole = crop - shift
        size = whole if zoom == 1 else min(whole, int(whole / zoom) + 4)
        return cls(below(crop - size + 1), below(crop - size + 1), size, zoom, below(8) if turns else 0)

    def of(self, pictures: Tensor) -> Tensor:
        """B×3×H×W -> B×3×(zoom·size)×(zoom·size)."""
        part = pictures[..., self.top : self.top + self.size, self.left : self.left + self.size]
        if self.zoom != 1:
            part = F.interpolate(
                part, scale_factor=self.zoom, mode="bilinear", align_corners=False, recompute_scale_factor=False
            )
        part = part.flip([dim for dim, bit in ((-1, 1), (-2, 2)) if self.turn & bit])
        return part.transpose(-1, -2) if self.turn & 4 else part


@dataclass(frozen=True)
class Rollout(TrainingBatch):
    """The state before one step of the sampler, which starts from `noise`.

    Attributes:
        steps: how many the sampler takes in all.
        levels: where its steps begin, up to the one that is trained on, which is the last of these. Those before it
            are taken without a gradient.
        view: what LPIPS sees of the predicted picture.
        window: top and left of the part whose spectrum is compared, pixels.
    """

    steps: int
    levels: Sequence[NoiseLevel]
    view: View
    window: tuple[int, int]
    group_size: int = 1
