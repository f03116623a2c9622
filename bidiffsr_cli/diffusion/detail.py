"""Detail: where in a picture there is something to draw, and how much noise and residual count there."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..configs import DiffusionConfig
from ..images.filters import convolve, gaussian

Around = Callable[[int], Tensor]
"""up(LR) in a window of H×W and so many pixels of the enlarged picture, r, around it: r -> …×3×(H+2r)×(W+2r)."""


def noise_gain(around: Around, scale: int, config: DiffusionConfig) -> Tensor:
    """sqrt(deviation / noise_by_detail), at most 1: noise is drawn where there is something to draw.

    The deviation is that of grey, the mean over RGB, in the square of 4·scale+1 pixels around each one. It is taken in
    double precision: float32 leaves of a uniform picture's variance what makes a tenth of the noise.

    Returns:
        …×1×H×W, float32.
    """
    assert config.noise_by_detail is not None
    seen = around(_box_radius(scale))
    grey = seen.mean(-3, keepdim=True)
    grey = grey.cpu().double() if grey.device.type == "mps" else grey.double()  # which has no float64
    mean, mean_square = (_box_mean(x, scale) for x in (grey, grey * grey))
    deviation = mean_square.addcmul_(mean, mean, value=-1).clamp_(min=0).sqrt_()
    return (deviation / config.noise_by_detail).clamp_(max=1).sqrt_().float().to(seen.device)


def residual_gain(around: Around, scale: int, config: DiffusionConfig) -> Tensor:
    """detail / residual_by_detail, at most 1: nothing is added to what is uniform, little to an even gradient.

    The detail is what a Gaussian takes away, of all colours, so that one of the same brightness as its surroundings
    counts too; its root mean square in the square of 4·scale+1 pixels around each one.

    Returns:
        …×1×H×W, float32.
    """
    assert config.residual_by_detail is not None
    power = detail(around(_box_radius(scale) + detail_radius(scale)), scale).square_().mean(-3, keepdim=True)
    return (_box_mean(power, scale).sqrt_() / config.residual_by_detail).clamp_(max=1)


def raise_diagonals(residual: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """r + diagonal_gain D_x D_y r, where D is the second difference, (1, -2, 1); at edges r is continued.

    A frequency of u and v radians a pixel is raised by 1 + 4 diagonal_gain (1 - cos u)(1 - cos v): what lies on an
    axis, where u or v is 0, stays.

    Args:
        residual: …×H×W.
        scale: of the enlargement.
        config: whose gain it is; without one the residual stays.
    """
    gain = (config.diagonal_gain or {}).get(str(scale), 0.0)
    return residual + gain * _bend(_bend(residual, -2), -1) if gain else residual


def _bend(x: Tensor, dim: int) -> Tensor:
    """Second differences, as many as there are values."""
    none = torch.zeros_like(x.narrow(dim, 0, 1))
    return torch.cat([none, x.diff(dim=dim), none], dim).diff(dim=dim)


def detail(around: Tensor, scale: int) -> Tensor:
    """What a Gaussian takes away: …×(H+2r)×(W+2r) -> …×H×W, r its radius."""
    radius = detail_radius(scale)
    kernel = _detail_kernel(scale)
    return trimmed(around, radius) - convolve(convolve(around, kernel, dim=-2), kernel, dim=-1)


@cache
def _detail_kernel(scale: int) -> list[float]:
    return gaussian(torch.tensor(_deviation(scale)), detail_radius(scale)).tolist()


def detail_radius(scale: int) -> int:
    """Of that Gaussian, pixels."""
    return math.floor(3 * _deviation(scale))


def _box_radius(scale: int) -> int:
    """Of the square in which statistics of a place are taken."""
    return 2 * scale


def _box_mean(x: Tensor, scale: int) -> Tensor:
    """The mean in the square around each place: …×(H+2r)×(W+2r) -> …×H×W."""
    side = 2 * _box_radius(scale) + 1
    return _sums(_sums(x, side, dim=-2), side, dim=-1).div_(side**2)


def _sums(x: Tensor, count: int, dim: int) -> Tensor:
    """Sums of `count` neighbours along one dimension, without padding; added as a binary tree, the same everywhere."""
    length = x.shape[dim] - count + 1
    total, done, width = None, 0, 1
    while True:  # x holds the sums of `width` neighbours
        if count & width:
            part = x.narrow(dim, done, length)
            total, done = part if total is None else total + part, done + width
        if 2 * width > count:
            break
        x = x.narrow(dim, 0, x.shape[dim] - width) + x.narrow(dim, width, x.shape[dim] - width)
        width *= 2
    assert total is not None
    return total


def _deviation(scale: int) -> float:
    """Standard deviation of the Gaussian that detail is told by, pixels."""
    return 0.75 * scale


def trimmed(x: Tensor, by: int) -> Tensor:
    """Without so many rows and columns on every side."""
    return x[..., by : x.shape[-2] - by, by : x.shape[-1] - by]
