"""Samplers: from noise to x_0 in a few steps. Mathematics only; the network is any callable.

Every sampler is `sample_*(predict, x, levels, to_x0_eps, ...)`, where `predict(x, level)` is what the network says of x
at that level and `to_x0_eps` turns it into (x_0, epsilon). x is overwritten. All updates are element-wise, and are made
band by band, so that a large canvas needs little more memory than itself and one prediction (dpmpp-2m: two).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import EllipsisType

from torch import Tensor

from ..configs import DiffusionConfig
from .schedule import NoiseLevel

Predict = Callable[[Tensor, NoiseLevel], Tensor]
"""(x_t, level) -> the network's prediction, of x_t's shape."""

Parameterization = Callable[[Tensor, Tensor, NoiseLevel], tuple[Tensor, Tensor]]
"""(prediction, x_t, level) -> (x_0, epsilon)."""

Noise = Callable[[int], Tensor]
"""(index of the step) -> fresh N(0, 1) of x_t's shape."""

MOST_EXTRAPOLATION = 1.0
"""Of dpmpp-2m: a step more than twice as long as the one before counts as twice as long, or what differs between their
predictions would be multiplied."""
BAND = 32
"""Rows that are updated at once on a CPU."""
BAND_PIXELS = 2**20
"""Pixels that are updated at once on another device, which is slow to start and fast to compute."""


def parameterization(config: DiffusionConfig) -> Parameterization:
    """How the config's network is to be understood."""

    def from_epsilon(epsilon: Tensor, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        x0 = (x - level.sigma * epsilon) / level.alpha
        return _clip(x0, config.clip), epsilon  # as upstream: epsilon is not derived again from the clipped x_0

    def from_v(v: Tensor, x: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        x0 = level.alpha * x - level.sigma * v
        return _clip(x0, config.clip), level.sigma * x + level.alpha * v

    return {"epsilon": from_epsilon, "v": from_v}[config.parameterization]


def sample_ddim(
    predict: Predict, x: Tensor, levels: Sequence[NoiseLevel], to_x0_eps: Parameterization, *, eta: float, noise: Noise
) -> Tensor:
    """DDIM (Song et al., arXiv 2010.02502, eq. 12 and 16); eta 0 is deterministic, eta 1 is as random as DDPM."""
    for index, (level, following) in enumerate(pairwise(levels)):
        fresh = eta * _posterior_deviation(level, following)
        direction = math.sqrt(max(following.sigma**2 - fresh**2, 0.0))
        prediction = predict(x, level)
        z = noise(index) if fresh else None
        for band in _bands(x):
            x0, epsilon = to_x0_eps(prediction[band], x[band], level)
            x[band] = following.alpha * x0 + direction * epsilon
            if z is not None:
                x[band] += fresh * z[band]
        del prediction, z  # before the next ones are made: each is as large as the canvas
    return x


def sample_ddpm(
    predict: Predict, x: Tensor, levels: Sequence[NoiseLevel], to_x0_eps: Parameterization, *, eta: float, noise: Noise
) -> Tensor:
    """Ancestral sampling from q(x_s | x_t, x_0) (Ho et al., arXiv 2006.11239, eq. 6 and 7), also over skipped steps.

    `eta` has no meaning here and is not read.
    """
    for index, (level, following) in enumerate(pairwise(levels)):
        ratio = level.alpha / following.alpha
        variance = level.sigma**2 - (ratio * following.sigma) ** 2
        of_x0, of_x = following.alpha * variance / level.sigma**2, ratio * (following.sigma / level.sigma) ** 2
        fresh = _posterior_deviation(level, following)
        prediction = predict(x, level)
        z = noise(index) if fresh else None
        for band in _bands(x):
            x0, _ = to_x0_eps(prediction[band], x[band], level)
            x[band] = of_x0 * x0 + of_x * x[band]
            if z is not None:
                x[band] += fresh * z[band]
        del prediction, z  # before the next ones are made: each is as large as the canvas
    return x


def sample_dpmpp_2m(
    predict: Predict, x: Tensor, levels: Sequence[NoiseLevel], to_x0_eps: Parameterization, *, eta: float, noise: Noise
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2): second order from the last two predictions of x_0.

    First order where log(alpha/sigma) is infinite: out of pure noise, and into the clean end. Where a step is more than
    twice as long as the one before, less is extrapolated than the algorithm says. Deterministic; neither `eta` nor
    `noise` is used.
    """
    last_x0, last_size = None, math.inf
    for level, following in pairwise(levels):
        size = _log_snr(following) - _log_snr(level)
        extrapolation = min(size / (2 * last_size), MOST_EXTRAPOLATION) if math.isfinite(size) else 0.0
        keep = following.sigma / level.sigma
        of_x0 = following.alpha - level.alpha * keep
        prediction = predict(x, level)
        for band in _bands(x):
            x0, _ = to_x0_eps(prediction[band], x[band], level)
            prediction[band] = x0  # the next step's last_x0
            if last_x0 is not None and extrapolation:
                x0 = x0 + extrapolation * (x0 - last_x0[band])
            x[band] = keep * x[band] + of_x0 * x0
        last_x0, last_size = prediction, size
    return x


SAMPLERS = {"ddim": sample_ddim, "ddpm": sample_ddpm, "dpmpp-2m": sample_dpmpp_2m}


def _posterior_deviation(level: NoiseLevel, following: NoiseLevel) -> float:
    """Standard deviation of q(x_s | x_t, x_0): sigma_s / sigma_t sqrt(sigma_t^2 - (alpha_t sigma_s / alpha_s)^2)."""
    variance = level.sigma**2 - (level.alpha / following.alpha * following.sigma) ** 2
    return following.sigma / level.sigma * math.sqrt(max(variance, 0.0))


def _log_snr(level: NoiseLevel) -> float:
    if not level.alpha:
        return -math.inf
    return math.log(level.alpha / level.sigma) if level.sigma else math.inf


def _clip(x0: Tensor, limits: tuple[float, float] | None) -> Tensor:
    return x0 if limits is None else x0.clamp_(*limits)


def band_rows(x: Tensor) -> int:
    """How many rows of x are updated at once."""
    return BAND if x.device.type == "cpu" else max(BAND, BAND_PIXELS // x.shape[-1])


def _bands(x: Tensor) -> Iterator[tuple[EllipsisType, slice, slice]]:
    """Indices of x's bands of rows."""
    rows = band_rows(x)
    for top in range(0, x.shape[-2], rows):
        yield ..., slice(top, top + rows), slice(None)
