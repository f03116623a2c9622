"""What the network sees beside x_t: the picture enlarged by bicubic interpolation, and the detail in that."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import DiffusionConfig


def upsample(low_res: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """up(LR): bicubic with a = -0.75, half-pixel centres, edges repeated; clipped to [0, 1] where the config says so.

    Args:
        low_res: 3×h×w in [0, 1].
        scale: of enlargement.

    Returns:
        3×(scale·h)×(scale·w).
    """
    up = F.interpolate(low_res[None], scale_factor=scale, mode="bicubic", align_corners=False)[0]
    return up.clamp_(0, 1) if config.upsample == "bicubic_075_clipped" else up


def fill_up(up: Tensor, height: int, width: int, config: DiffusionConfig) -> Tensor:
    """Extend a 3×H×W picture to the right and downwards, to height×width.

    Mirrored as upstream does it where the target is the image (and the picture is large enough), else by repeating
    the edge.
    """
    bottom, right = height - up.shape[-2], width - up.shape[-1]
    if not bottom and not right:
        return up
    mirror = config.target == "image" and bottom < up.shape[-2] and right < up.shape[-1]
    return F.pad(up[None], (0, right, 0, bottom), mode="reflect" if mirror else "replicate")[0]


def condition(up: Tensor, top: int, left: int, height: int, width: int, scale: int, config: DiffusionConfig) -> Tensor:
    """The condition of one window.

    Args:
        up: 3×H×W, the whole enlarged picture in [0, 1].
        top, left, height, width: the window.
        scale: of enlargement.

    Returns:
        C×height×width: `low_res` mapped to the config's range, then `detail` where the config has it.
    """
    low, high = config.condition_range
    window = up[:, top : top + height, left : left + width] * (high - low) + low
    if "detail" not in config.condition:
        return window
    assert config.residual_scale is not None
    return torch.cat([window, _detail(up, top, left, height, width, scale) / config.residual_scale[str(scale)]])


def _detail(up: Tensor, top: int, left: int, height: int, width: int, scale: int) -> Tensor:
    """up - G(up) in a window, G a Gaussian of sigma 0.75 scale and radius floor(3 sigma); the edge is repeated."""
    sigma = 0.75 * scale
    radius = math.floor(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(up)
    rows = torch.arange(top - radius, top + height + radius).clamp_(0, up.shape[1] - 1)
    columns = torch.arange(left - radius, left + width + radius).clamp_(0, up.shape[2] - 1)
    surroundings = up[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    surroundings = surroundings[:, rows - rows[0]][:, :, columns - columns[0]][:, None]  # (3, 1, height+2r, width+2r)
    blurred = F.conv2d(F.conv2d(surroundings, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]
    return up[:, top : top + height, left : left + width] - blurred


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
