"""What it takes to enlarge one picture: the model's diffusion and network, the place, and the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..configs import DiffusionConfig
from ..diffusion.schedule import NoiseLevel, noise_levels
from ..ops.canvas import Network
from ..options import UpscaleOptions
from ..planning import Plan
from ..runtime import Runtime

if TYPE_CHECKING:
    from ..diffusion.upsampling import Upsampler


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
