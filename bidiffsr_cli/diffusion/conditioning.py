"""What the network sees of a picture beside x_t, and the low frequencies that its result is given back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import DiffusionConfig
from .detail import Around, detail, detail_radius, trimmed


def condition(around: Around, scale: int, config: DiffusionConfig) -> Tensor:
    """The condition of one window.

    Returns:
        …×C×H×W: `low_res` mapped to the config's range, then `detail` where the config has it.
    """
    low, high = config.condition_range
    if "detail" not in config.condition:
        return around(0) * (high - low) + low
    assert config.residual_scale is not None
    radius = detail_radius(scale)
    seen = around(radius)
    sharp = detail(seen, scale) / config.residual_scale[str(scale)]
    return torch.cat([trimmed(seen, radius) * (high - low) + low, sharp], dim=-3)


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
