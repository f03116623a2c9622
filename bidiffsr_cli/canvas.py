"""One picture's reverse diffusion, from the small picture to the enlarged one.

The state lies on one canvas. At every step the network looks at it window by window, the windows' predictions are
blended, and one update of the sampler moves the whole canvas. On a CPU the native engine does all of that
(`ops.canvas`); what follows in torch is its definition, and the way of every other device.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .configs import DiffusionConfig, UpscaleOptions
from .diffusion.conditioning import Enlarged, condition, match_low_frequencies, noise_gain, residual_gain
from .diffusion.samplers import BAND, SAMPLERS, parameterization
from .diffusion.schedule import NoiseLevel, noise_levels
from .errors import BidiffsrError
from .networks.native import NativeUNet
from .ops import canvas as engine
from .ops import native, reference
from .planning import Plan
from .runtime import Runtime
from .tiling import Tile, blend

Network = Callable[[Tensor, Tensor, Tensor, int], Tensor]
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

    def run(self, low_res: Tensor) -> Tensor:
        """The whole reverse diffusion: 3×h×w to 3×(scale·h)×(scale·w), both in [0, 1].

        Raises:
            BidiffsrError: the network's output is not finite.
        """
        on_engine = self.runtime.isa is not None
        result = self._run_on_engine(low_res) if on_engine else self._run_in_torch(low_res)
        return match_low_frequencies(result, low_res) if self.options.color_fix == "lowfreq" else result

    def _run_on_engine(self, low_res: Tensor) -> Tensor:
        plan, options, network = self.plan, self.options, self.network
        how = engine.Enlargement(
            self.config,
            plan.grid,
            plan.scale,
            [(level.t, level.alpha, level.sigma) for level in self._levels()],
            options.sampler,
            options.eta,
            plan.temperature,
            options.seed,
            self.runtime.threads_here,
            plan.concurrent,
        )

        def in_its_place(x_t: Tensor, seen: Tensor, t: Tensor, step: int) -> Tensor:
            with self.runtime.inference():
                return network(x_t, seen, t, step).float()

        whole = network.network if isinstance(network, NativeUNet) else in_its_place
        try:
            return engine.enlarge(low_res, how, whole, self.advance)
        except engine.NotFiniteError:
            raise _not_finite() from None

    def _run_in_torch(self, low_res: Tensor) -> Tensor:
        plan, options, grid = self.plan, self.options, self.plan.grid
        up = Enlarged(low_res, plan.scale, grid.height, grid.width, self.config)

        def predict(x: Tensor, level: NoiseLevel) -> Tensor:
            with contextlib.closing(self._predict_windows(x, up, level, grid.tiles)) as windows:
                prediction = blend(grid, counted(windows))
            if not math.isfinite(float(prediction.sum())):  # a sum needs no second canvas, as isfinite() would
                raise _not_finite()
            return prediction

        def counted(predictions: Iterator[tuple[Tile, Tensor]]) -> Iterator[tuple[Tile, Tensor]]:
            for prediction in predictions:
                self.advance()
                yield prediction

        def noise(draw: int) -> Tensor:
            field = noise_field(grid.height, grid.width, options.seed, draw, self.runtime.threads_here)
            if self.config.noise_by_detail is not None:
                _put_where_detail_is(field, up)
            return field

        start = noise(0).mul_(plan.temperature)
        x0 = SAMPLERS[options.sampler](
            predict,
            start,
            self._levels(),
            parameterization(self.config),
            eta=options.eta,
            noise=lambda step: noise(step + 1),
        )
        if self.config.target == "residual":
            _add_to_residual(x0, up)
        width, height = plan.output_size
        return x0.clamp_(0, 1)[:, :height, :width]

    def _predict_windows(
        self, x: Tensor, up: Enlarged, level: NoiseLevel, tiles: Sequence[Tile]
    ) -> Generator[tuple[Tile, Tensor]]:
        """(tile, the network's prediction there) for every tile, in the order in which they are finished."""
        grid, device = self.plan.grid, self.runtime.device
        gain = level.alpha if self.config.input_gain == "alpha" else 1.0

        def evaluate(tiles: Sequence[Tile]) -> Tensor:
            size = grid.tile_height, grid.tile_width
            x_t = torch.stack([grid.crop(x, tile) for tile in tiles]).mul_(gain)
            seen = torch.stack([condition(up, tile.top, tile.left, *size) for tile in tiles])
            t = torch.full((len(tiles),), level.t, device=device)
            return self.network(x_t.to(device), seen.to(device), t, level.t).float().cpu()

        return self.runtime.run(evaluate, tiles, self.plan.concurrent)

    def _levels(self) -> list[NoiseLevel]:
        return noise_levels(self.config, self.plan.steps)


def noise_field(height: int, width: int, seed: int, draw: int, threads: int) -> Tensor:
    """`ops.reference.noise`, by the engine where it is there: 3×height×width."""
    if native.why_unavailable() is None:
        return native.noise(height, width, seed, draw, threads)
    return reference.noise(height, width, seed, draw)


def _not_finite() -> BidiffsrError:
    return BidiffsrError("The network's output is not finite.", "Use --precision fp32.")


def _put_where_detail_is(noise: Tensor, up: Enlarged) -> None:
    """Multiply noise by its gain, in place, a band of rows at a time."""
    for top, band in _high_bands(noise):
        band *= noise_gain(up, top, 0, *band.shape[1:])


def _add_to_residual(x0: Tensor, up: Enlarged) -> None:
    """Turn r into up + s r, in place, a band of rows at a time."""
    assert up.config.residual_scale is not None
    x0.mul_(up.config.residual_scale[str(up.scale)])
    for top, band in _high_bands(x0):
        if up.config.residual_by_detail is not None:
            band *= residual_gain(up, top, 0, *band.shape[1:])
        band += up.crop(top, 0, *band.shape[1:])


def _high_bands(canvas: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, view) of bands so high that what is looked at around them matters little."""
    height = 4 * BAND
    return ((top, canvas[:, top : top + height]) for top in range(0, canvas.shape[1], height))
