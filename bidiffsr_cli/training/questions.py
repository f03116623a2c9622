"""What a network can be asked at training: crops with noise (`Question`), and the sampler's own states (`Rollout`).

    pieces = question.split(threads)

A network that was trained on noised originals alone never sees the errors of its own earlier steps, which its later
ones then have to live with. A rollout takes the sampler's first steps and asks about the state that they lead to:
exposure bias, Ning et al., arXiv 2301.11706; the simulated steps of Yin et al., arXiv 2405.14867 (DMD2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.schedule import NoiseLevel
from .data import Batch

Self = TypeVar("Self", bound="Question")


@dataclass(frozen=True)
class Question:
    """Crops, their time steps (B, on the CPU, all in one TaR/TaA group), and noise, B×3×H×W."""

    batch: Batch
    t: Tensor
    noise: Tensor

    @property
    def together(self) -> int:
        """Crops that are judged together, and so are not split."""
        return 1

    def split(self: Self, count: int) -> list[Self]:
        """The same in `count` parts, fewer where there are fewer crops to share out."""
        size = -(-len(self.t) // count)
        size = -(-size // self.together) * self.together
        return [self[first : first + size] for first in range(0, len(self.t), size)]

    def __getitem__(self: Self, which: slice) -> Self:
        return replace(self, batch=self.batch[which], t=self.t[which], noise=self.noise[which])


@dataclass(frozen=True)
class View:
    """What LPIPS is shown of a picture, so that it learns no pattern to which the strides of its network are blind
    (after E-LPIPS, Kettunen et al., arXiv 1906.03973): a part of it, enlarged, mirrored and transposed.

    Attributes:
        top, left: Where the part begins.
        size: Its side, pixels.
        zoom: By how much it is enlarged, bilinearly.
        turn: Which of the eight orientations, 0..7.
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
            crop: side of them, pixels.
            shift: by how many pixels a part that is not enlarged is smaller than they are.
            zooms: to choose from, each at least 1; more of them make the part smaller, so that it costs about the same.
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
class Rollout(Question):
    """The state before one step of the sampler, which starts from `noise`.

    Attributes:
        steps: How many the sampler takes in all.
        levels: Where the steps begin up to the one that is asked about, which is the last of these; those before it
            are taken without a gradient.
        view: What LPIPS sees of the answer.
        window: Top and left of the part whose spectrum is judged.
        group: Crops that are judged together.
    """

    steps: int
    levels: Sequence[NoiseLevel]
    view: View
    window: tuple[int, int]
    group: int = 1

    @property
    def together(self) -> int:
        """Crops that are judged together, and so are not split."""
        return self.group
