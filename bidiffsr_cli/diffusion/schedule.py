"""Noise schedules: which time steps N steps visit, and how much signal and noise there is at each.

Everywhere x_t = alpha x_0 + sigma epsilon with alpha^2 + sigma^2 = 1 (the authors' sqrt(alphas_cumprod) is alpha).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..configs import DiffusionConfig
from ..errors import UsageError


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


def alphas_cumprod(config: DiffusionConfig) -> Tensor:
    """The linear schedule's products of 1 - beta, T values, float32 as upstream computes them (DDPM, eq. 4)."""
    betas = torch.linspace(config.beta_start, config.beta_end, config.total_steps, dtype=torch.float32)
    return torch.cumprod(1 - betas, dim=0)


def noise_levels(config: DiffusionConfig, steps: int) -> list[NoiseLevel]:
    """The `steps` levels that the network is asked at, noisiest first, and the clean end: steps + 1 in all.

    Raises:
        UsageError: `steps` is not in 1..T.
    """
    total = config.total_steps
    if not 1 <= steps <= total:
        raise UsageError(f"{steps} steps are not possible.", f"Choose 1 to {total} steps.")
    if config.spacing == "leading":  # T-1 is not visited; 0 is the last
        times = [float(index * (total // steps)) for index in reversed(range(steps))]
    else:  # T-1 is the first
        times = [total * (steps - index) / steps - 1 for index in range(steps)]
    at = _angle if config.schedule == "angle" else _Linear(config)
    return [at(time, total) for time in times] + [CLEAN]


def signal_and_noise(config: DiffusionConfig) -> tuple[Tensor, Tensor]:
    """alpha and sigma of all T time steps, T values each, float32."""
    at = _angle if config.schedule == "angle" else _Linear(config)
    levels = [at(float(t), config.total_steps) for t in range(config.total_steps)]
    return torch.tensor([level.alpha for level in levels]), torch.tensor([level.sigma for level in levels])


def _angle(time: float, total: int) -> NoiseLevel:
    """phi(t) = pi/2 (t+1)/T, alpha = cos phi, sigma = sin phi; `time` may lie between two steps."""
    phi = math.pi / 2 * (time + 1) / total
    alpha = 0.0 if time == total - 1 else math.cos(phi)  # cos(pi/2) is 6e-17 in floating point
    return NoiseLevel(round(time), alpha, math.sin(phi))


class _Linear:
    def __init__(self, config: DiffusionConfig) -> None:
        self.table = alphas_cumprod(config)

    def __call__(self, time: float, total: int) -> NoiseLevel:
        t = round(time)
        return NoiseLevel(t, self.table[t].sqrt().item(), (1 - self.table[t]).sqrt().item())
