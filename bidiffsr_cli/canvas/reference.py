"""A picture's whole way in plain torch: what the engine's canvas must equal, and what runs where there is no engine."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from ..diffusion.conditioning import condition, match_low_frequencies
from ..diffusion.detail import noise_gain, raise_diagonals, residual_gain
from ..diffusion.samplers import SAMPLERS, band_rows, parameterization
from ..diffusion.schedule import NoiseLevel, asks_network
from ..diffusion.upsampling import Enlarged
from ..images.pixels import to_float, to_image
from ..images.planes import bands
from ..ops import native, reference
from ..runtime import sent
from ..tiling import Grid, Tile, blend
from .diffusion import Diffusion, not_finite


def run(diffusion: Diffusion, planes: Sequence[Image.Image]) -> Tensor:
    """The whole reverse diffusion: planes of h×w to 3×(scale·h)×(scale·w) in [0, 1], where the canvas lies.

    Raises:
        BidiffsrError: the network predicts something that is no number.
    """
    low_res = torch.cat([to_float(plane) for plane in planes]).expand(3, -1, -1)
    grid = diffusion.plan.grid
    result, total = draw(diffusion, low_res.to(diffusion.runtime.canvas_device(grid.height * grid.width)))
    if not math.isfinite(float(total)):
        raise not_finite()
    return result


@torch.inference_mode()
def draw(diffusion: Diffusion, low_res: Tensor) -> tuple[Tensor, Tensor]:
    """The same from 3×h×w in [0, 1], where that lies; and a sum of all that the networks made, which is finite.

    The canvas stays there, and nothing waits for what is computed: a device is asked for all steps at once.
    """
    config, plan, options, grid = diffusion.config, diffusion.plan, diffusion.options, diffusion.plan.grid
    up = Enlarged(low_res, plan.scale, grid.height, grid.width, config, diffusion.upsampler)
    on_cpu = low_res.device.type == "cpu"
    kept = None if on_cpu else canvas_condition(up, grid)  # which would be twice the canvas's memory
    total = up.total

    def seen(tile: Tile) -> Tensor:
        if kept is not None:
            return grid.crop(kept, tile)
        return condition(up.around(tile.top, tile.left, grid.tile_height, grid.tile_width), plan.scale, config)

    def predict(x: Tensor, level: NoiseLevel) -> Tensor:
        if not asks_network(config, level):
            return torch.zeros_like(x)
        with contextlib.closing(_predict_windows(diffusion, x, seen, level)) as windows:
            prediction = blend(grid, windows)
        total.add_(prediction.sum())  # which needs no second canvas, as isfinite() would
        return prediction

    def noise(draw: int) -> Tensor:
        field = noise_field(grid.height, grid.width, options.seed, draw, diffusion.runtime.threads_here, low_res.device)
        if config.noise_by_detail is not None:
            for top, band in _high_bands(field):
                band *= noise_gain(up.around(top, 0, *band.shape[1:]), plan.scale, config)
        return field

    if any(asks_network(config, level) for level in diffusion.levels[:-1]):
        x0 = SAMPLERS[options.sampler](
            predict,
            noise(0).mul_(plan.temperature),
            diffusion.levels,
            parameterization(config),
            eta=options.eta,
            noise=lambda step: noise(step + 1),
        )
    else:
        x0 = low_res.new_zeros(3, grid.height, grid.width)  # whatever the noise
    width, height = plan.output_size
    result = x0[:, :height, :width]
    if config.target == "residual":
        _add_to_residual(result, up)
    result.clamp_(0, 1)
    return match_low_frequencies(result, low_res) if options.color_fix == "lowfreq" else result, total


def rounded(values: Tensor, mode: str) -> Image.Image:
    """An RGB image of 3×H×W in [0, 1] on any device; an L or I;16 image of the mean of the three channels."""
    _, height, width = values.shape
    image, sixteen = Image.new(mode, (width, height)), mode == "I;16"
    for top, bottom in bands(width, height):
        band = values[:, top:bottom] if mode == "RGB" else values[:, top:bottom].mean(0, keepdim=True)
        levels = (band * (65535 if sixteen else 255)).round_().to(torch.uint16 if sixteen else torch.uint8)
        image.paste(to_image(levels.cpu(), mode), (0, top))
    return image


def noise_field(height: int, width: int, seed: int, draw: int, threads: int, device: torch.device) -> Tensor:
    """`ops.reference.noise`, on a CPU by the engine where it is there: 3×height×width."""
    if device.type == "cpu" and native.why_unavailable() is None:
        return native.noise(height, width, seed, draw, threads)
    return reference.noise(height, width, seed, draw, device)


def canvas_condition(up: Enlarged, grid: Grid) -> Tensor:
    """What the network sees beside x_t, of the whole canvas: C×height×width, of which every window sees its part."""
    whole = up.low_res.new_empty(3 * len(up.config.condition), grid.height, grid.width)
    for top, band in _high_bands(whole):
        band.copy_(condition(up.around(top, 0, *band.shape[1:]), up.scale, up.config))
    return whole


def _predict_windows(
    diffusion: Diffusion, x: Tensor, seen: Callable[[Tile], Tensor], level: NoiseLevel
) -> Generator[tuple[Tile, Tensor]]:
    """(tile, the network's prediction there) for every tile, in the order in which they are finished."""
    grid, runtime = diffusion.plan.grid, diffusion.runtime
    gain = level.alpha if diffusion.config.input_gain == "alpha" else 1.0

    def evaluate(tiles: Sequence[Tile]) -> Tensor:
        x_t = torch.stack([grid.crop(x, tile) for tile in tiles]).mul_(gain)
        beside = torch.stack([seen(tile) for tile in tiles])
        t = torch.full((len(tiles),), level.t, device=runtime.device)
        return diffusion.network(sent(x_t, t.device), sent(beside, t.device), t, level.t).float().to(x.device)

    with contextlib.closing(runtime.run(evaluate, grid.tiles, diffusion.plan.concurrent)) as windows:
        for window in windows:
            diffusion.advance()
            yield window


def _add_to_residual(residual: Tensor, up: Enlarged) -> None:
    """Turn r into up + s r with its diagonals raised, in place, a plane or a band of rows at a time."""
    assert up.config.residual_scale is not None
    if up.config.diagonal_gain:
        for plane in residual:
            plane.copy_(raise_diagonals(plane, up.scale, up.config))
    residual.mul_(up.config.residual_scale[str(up.scale)])
    for top, band in _high_bands(residual):
        if up.config.residual_by_detail is not None:
            band *= residual_gain(up.around(top, 0, *band.shape[1:]), up.scale, up.config)
        band += up.crop(top, 0, *band.shape[1:])


def _high_bands(canvas: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, view) of bands so high that what is looked at around them matters little."""
    height = 4 * band_rows(canvas)
    return ((top, canvas[:, top : top + height]) for top in range(0, canvas.shape[1], height))
