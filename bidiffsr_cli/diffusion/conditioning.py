"""What is known of a picture before it is drawn: what the network sees of it, and where noise belongs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import DiffusionConfig
from .detail import detail, detail_radius, noise_gain_of, noise_radius, residual_gain_of, residual_radius, trimmed
from .upsampling import Enlarged


def condition(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """The condition of one window.

    Args:
        up: the enlarged picture.
        top, left, height, width: the window.

    Returns:
        C×height×width: `low_res` mapped to the config's range, then `detail` where the config has it.
    """
    around = up.around(top, left, height, width, condition_radius(up.scale, up.config))
    return condition_of(around, up.scale, up.config)


def condition_radius(scale: int, config: DiffusionConfig) -> int:
    """How far around a window the condition looks, in pixels of the enlarged picture."""
    return detail_radius(scale) if "detail" in config.condition else 0


def condition_of(around: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """The condition, from up(LR) in a window and `condition_radius` pixels around it.

    Args:
        around: …×3×(H+2r)×(W+2r).

    Returns:
        …×C×H×W, as `condition`.
    """
    low, high = config.condition_range
    if "detail" not in config.condition:
        return around * (high - low) + low
    assert config.residual_scale is not None
    window = trimmed(around, condition_radius(scale, config))
    sharp = detail(around, scale) / config.residual_scale[str(scale)]
    return torch.cat([window * (high - low) + low, sharp], dim=-3)


def noise_gain(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """By how much noise is multiplied in one window of a model that has `noise_by_detail`: 1×height×width."""
    return noise_gain_of(up.around(top, left, height, width, noise_radius(up.scale)), up.scale, up.config)


def residual_gain(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """By how much the residual is multiplied in one window of a model that has `residual_by_detail`: 1×height×width."""
    return residual_gain_of(up.around(top, left, height, width, residual_radius(up.scale)), up.scale, up.config)


def match_low_frequencies(result: Tensor, low_res: Tensor) -> Tensor:
    """Give the result the low frequencies of the input, against drifts of colour.

    What the result, averaged down, differs by from the input is smoothed over about 8 pixels of the input and added.

    Args:
        result: 3×(scale·h)×(scale·w) in [0, 1]; overwritten.
        low_res: 3×h×w in [0, 1].
    """
    height, width = low_res.shape[-2:]
    drift = low_res[None] - F.adaptive_avg_pool2d(result[None], (height, width))
    for _ in range(2):  # two boxes make a tent
        drift = F.avg_pool2d(F.pad(drift, (4, 4, 4, 4), mode="replicate"), 9, stride=1)
    correction = F.interpolate(drift, size=result.shape[-2:], mode="bilinear", align_corners=False)[0]
    return result.add_(correction).clamp_(0, 1)
