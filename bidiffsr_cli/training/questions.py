"""What a network can be asked at training: crops with noise (`Question`), and the sampler's own states (`Rollout`).

    pieces = question.split(threads)

A network that was trained on noised originals alone never sees the errors of its own earlier steps, which its later
ones then have to live with. A rollout takes the sampler's first steps and asks about the state that they lead to:
exposure bias, Ning et al., arXiv 2301.11706; the simulated steps of Yin et al., arXiv 2405.14867 (DMD2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Batch
from .penalties import TOGETHER

Self = TypeVar("Self", bound="Question")


@dataclass(frozen=True)
class Question:
    """Crops, their time steps (B, on the CPU, all in one TaR/TaA group), and noise, B×3×H×W."""

    batch: Batch
    t: Tensor
    noise: Tensor
    together: ClassVar[int] = 1
    """Crops that are judged together, and are not split."""

    def split(self: Self, count: int) -> list[Self]:
        """The same in `count` parts, fewer where there are fewer crops."""
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
            shift: most pixels by which the part is moved down and to the right.
            zooms: to choose from, each at least 1; more of them make the part smaller, so that it costs about the same.
            turns: whether to mirror and transpose.
            generator: on the CPU.
        """
        top, left = torch.randint(shift + 1, (2,), generator=generator).tolist()
        zoom = zooms[int(torch.randint(len(zooms), (), generator=generator))]
        turn = int(torch.randint(8, (), generator=generator)) if turns else 0
        whole = crop - shift
        return cls(top, left, whole if zoom == 1 else min(whole, int(whole / zoom) + 4), zoom, turn)

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
        steps: Of the sampler.
        stop: The step that is asked about, 2..steps; those before it were taken without a gradient.
        view: What LPIPS sees of the answer.
        window: Top and left of the part whose spectrum is judged.
    """

    steps: int
    stop: int
    view: View
    window: tuple[int, int]
    together: ClassVar[int] = TOGETHER
