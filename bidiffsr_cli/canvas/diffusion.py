"""What it takes to enlarge one picture: the model's diffusion and network, the place, and the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..configs import DiffusionConfig
from ..diffusion.schedule import NoiseLevel, noise_levels
from ..errors import BidiffsrError
from ..options import UpscaleOptions
from ..planning import Plan
from ..runtime import Runtime

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.upsampling import Upsampler

Network = Callable[["Tensor", "Tensor", "Tensor", int], "Tensor"]
"""x_t (B×3×H×W), the condition (B×C×H×W), t (B), t as an index -> the prediction, B×3×H×W. Of the engine's calls B is
1, and the first two lie in its memory and are not to be kept."""


@dataclass(frozen=True)
class Diffusion:
    """What it takes to enlarge one picture.

    Attributes:
        config: of the diffusion.
        network: what computes a window.
        runtime: where it does.
        plan, options: how.
        advance: is called whenever a window is done.
        upsampler: of the model and the plan's scale, if it has one.
    """

    config: DiffusionConfig
    network: Network
    runtime: Runtime
    plan: Plan
    options: UpscaleOptions
    advance: Callable[[], None] = lambda: None
    upsampler: Upsampler | None = None

    @cached_property
    def levels(self) -> list[NoiseLevel]:
        """Where the steps begin, and the clean end."""
        return noise_levels(self.config, self.plan.steps)


def not_finite() -> BidiffsrError:
    """The network predicts something that is no number."""
    return BidiffsrError("The network's output is not finite.", "Use --precision fp32.")
