"""One picture's reverse diffusion, from the small picture to the enlarged one.

The state lies on one canvas. At every step the network looks at it window by window, the windows' predictions are
blended, and one update of the sampler moves the whole canvas. On a CPU the native engine does all of that
(`ops.canvas`); `reference` is its definition, and the way of every other device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image

from ..configs import DiffusionConfig, UpscaleOptions
from ..diffusion.schedule import NoiseLevel, noise_levels
from ..errors import BidiffsrError
from ..networks.native import NativeUNet
from ..ops import canvas as engine
from ..ops.array import Array
from ..planning import Plan
from ..runtime import Runtime

if TYPE_CHECKING:
    from torch import Tensor

Network = Callable[["Tensor", "Tensor", "Tensor", int], "Tensor"]
"""x_t (B×3×H×W), what the network sees beside it (B×C×H×W), t (B), t as an index -> the prediction, B×3×H×W."""


@dataclass(frozen=True)
class Diffusion:
    """What it takes to enlarge one picture.

    Attributes:
        config: of the diffusion.
        network: what computes a window.
        runtime: where it does.
        plan, options: how.
        advance: is called whenever a window is done.
    """

    config: DiffusionConfig
    network: Network
    runtime: Runtime
    plan: Plan
    options: UpscaleOptions
    advance: Callable[[], None] = lambda: None

    def run(self, planes: Sequence[Image.Image], *, bits: int = 8) -> Image.Image:
        """The whole reverse diffusion, rounded to levels.

        Args:
            planes: of the small picture, as those of a `Picture`.
            bits: 8, or 16 of grey.

        Returns:
            An RGB image; of one plane an L or I;16 image, of the mean of the three channels that are drawn.

        Raises:
            BidiffsrError: the network's output is not finite.
        """
        mode = "RGB" if len(planes) == 3 else "L" if bits == 8 else "I;16"
        if self.runtime.isa is not None:
            data = self._on_engine(planes, engine.LEVELS_16 if mode == "I;16" else engine.LEVELS_8)
            return Image.frombytes(mode, self.plan.output_size, data)
        from .reference import rounded

        return rounded(self._in_torch(planes), mode)

    def values(self, planes: Sequence[Image.Image]) -> Array:
        """The same in 3×H×W floats in [0, 1], before they are rounded: what two backends are compared by."""
        width, height = self.plan.output_size
        if self.runtime.isa is not None:
            return Array((3, height, width), "float32", self._on_engine(planes, engine.FLOATS))
        return Array.of(self._in_torch(planes))

    @cached_property
    def levels(self) -> list[NoiseLevel]:
        """Where the steps begin, and the clean end."""
        return noise_levels(self.config, self.plan.steps)

    def _on_engine(self, planes: Sequence[Image.Image], kind: int) -> bytearray:
        plan, options, network = self.plan, self.options, self.network
        how = engine.Enlargement(
            self.config,
            plan.grid,
            plan.scale,
            [(level.t, level.alpha, level.sigma) for level in self.levels],
            options.sampler,
            options.eta,
            plan.temperature,
            options.seed,
            options.color_fix == "lowfreq",
            self.runtime.threads_here,
            plan.concurrent,
        )

        def in_its_place(x_t: Tensor, seen: Tensor, t: Tensor, step: int) -> Tensor:
            with self.runtime.inference():
                return network(x_t, seen, t, step).float()

        first = planes[0]
        data = b"".join(plane.tobytes() for plane in planes)
        low_res = engine.Samples(data, first.mode == "F", len(planes), first.height, first.width)
        whole = network.network if isinstance(network, NativeUNet) else in_its_place
        try:
            return engine.enlarge(low_res, how, whole, self.advance, kind)
        except engine.NotFiniteError:
            raise _not_finite() from None

    def _in_torch(self, planes: Sequence[Image.Image]) -> Tensor:
        from . import reference

        try:
            return reference.run(self, planes)
        except engine.NotFiniteError:
            raise _not_finite() from None


def _not_finite() -> BidiffsrError:
    return BidiffsrError("The network's output is not finite.", "Use --precision fp32.")
