"""Noise schedules: which time steps N steps visit, and how much signal and noise there is at each.

Models of few steps may say which numbers of steps they were trained to take. Any other number visits their levels, too:
after training on 2 and 4 steps, which visit T, 3/4 T, 1/2 T and 1/4 T, 3 visit T, 3/4 T and 1/4 T, and 5 add 7/8 T.

Everywhere x_t = alpha x_0 + sigma epsilon with alpha^2 + sigma^2 = 1 (the authors' sqrt(alphas_cumprod) is alpha).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..configs import DiffusionConfig
from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NoiseLevel:
    """One point of the reverse diffusion.

    Attributes:
        t: The time step that the network is told, 0..T-1; -1 for the clean end.
        alpha: Amount of signal, 0..1.
        sigma: Amount of noise, 0..1.
    """

    t: int
    alpha: float
    sigma: float


CLEAN = NoiseLevel(-1, 1.0, 0.0)


def alphas_cumprod(config: DiffusionConfig) -> Sequence[float]:
    """The linear schedule's products of 1 - beta, T values, float32 as upstream computes them (DDPM, eq. 4)."""
    return _alphas_cumprod(config.beta_start, config.beta_end, config.total_steps)


def noise_levels(config: DiffusionConfig, steps: int) -> list[NoiseLevel]:
    """The `steps` levels that steps begin at, noisiest first, and the clean end: steps + 1 in all.

    Raises:
        UsageError: `steps` is not in 1..T.
    """
    total = config.total_steps
    if not 1 <= steps <= total:
        raise UsageError(f"{steps} steps are not possible.", f"Choose 1 to {total} steps.")
    if config.spacing == "leading":  # T-1 is not visited; 0 is the last
        times = [float(index * (total // steps)) for index in reversed(range(steps))]
    else:  # T-1 is the first
        times = _trailing(total, steps)
        if steps > 1 and config.trained_steps and steps not in config.trained_steps:
            times = _known(_trailing(total, max(config.trained_steps)), steps)
    return [_level(config, time) for time in times] + [CLEAN]


def _trailing(total: int, steps: int) -> list[float]:
    """Times that are evenly spaced, T-1 the first of them."""
    return [total * (steps - index) / steps - 1 for index in range(steps)]


def _known(known: list[float], steps: int) -> list[float]:
    """Times of another number of steps than are known: fewer of these, or others too, between the first and the next.

    A network that was trained with few steps draws well at the levels that it knows, and too little elsewhere. So the
    last level, which decides most, is always one of them; one more near pure noise, which tells little, is harmless.
    """
    most = len(known)
    if steps < most:
        return [known[index * (most - 1) // (steps - 1)] for index in range(steps)]
    (first, second), parts = known[:2], steps - most + 1
    return [first + (second - first) * part / parts for part in range(parts)] + known[1:]


def asks_network(config: DiffusionConfig, level: NoiseLevel) -> bool:
    """Whether a step from this level asks the network; else all predictions are 0, which stands for x_0 = 0."""
    return config.first_step == "network" or level.alpha > 0


def signal_and_noise(config: DiffusionConfig) -> tuple[Tensor, Tensor]:
    """alpha and sigma of all T time steps, T values each, float32."""
    import torch

    levels = [_level(config, float(t)) for t in range(config.total_steps)]
    return torch.tensor([level.alpha for level in levels]), torch.tensor([level.sigma for level in levels])


def _level(config: DiffusionConfig, time: float) -> NoiseLevel:
    """The noise level at a time, which may lie between two steps.

    By the angle schedule phi(t) = pi/2 (t+1)/T, alpha = cos phi, sigma = sin phi; or by the linear one.
    """
    if config.schedule == "angle":
        phi = math.pi / 2 * (time + 1) / config.total_steps
        alpha = 0.0 if time == config.total_steps - 1 else math.cos(phi)  # cos(pi/2) is 6e-17 in floating point
        return NoiseLevel(round(time), alpha, math.sin(phi))
    t = round(time)
    product = alphas_cumprod(config)[t]
    return NoiseLevel(t, _single(math.sqrt(product)), _single(math.sqrt(_single(1 - product))))


@lru_cache(maxsize=16)
def _alphas_cumprod(first: float, last: float, count: int) -> Sequence[float]:
    """With torch's arithmetic: linspace goes from both ends in float32, cumprod adds up in double precision."""
    first, last = _single(first), _single(last)
    step = _single(_single(last - first) / (count - 1)) if count > 1 else 0.0
    product, products = 1.0, []
    for index in range(count):
        front = index < count // 2 or count == 1
        beta = _single(first + step * index) if front else _single(last - step * (count - 1 - index))
        product *= _single(1 - beta)
        products.append(_single(product))
    return products


def _single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
