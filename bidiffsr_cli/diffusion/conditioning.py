"""What is known of a picture before it is drawn: up(LR), what the network sees of it, and where noise belongs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import DiffusionConfig
from ..images.filters import convolve, gaussian


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


class Enlarged:
    """up(LR) on the canvas, computed where it is looked at: the whole of it would be as large as the result.

    The canvas may reach further to the right and downwards than the picture. There it is mirrored, as upstream does it
    where the target is the image (and the picture is large enough), else its edge is repeated.

    Args:
        low_res: 3×h×w in [0, 1].
        scale: of enlargement.
        height, width: of the canvas, at least scale·h and scale·w.
        config: says whether up is clipped, and what the target is.
    """

    def __init__(self, low_res: Tensor, scale: int, height: int, width: int, config: DiffusionConfig) -> None:
        self.low_res, self.scale, self.config = low_res, scale, config
        picture = scale * low_res.shape[1], scale * low_res.shape[2]
        mirror = config.target == "image" and height < 2 * picture[0] and width < 2 * picture[1]
        self._rows, self._columns = _sources(height, picture[0], mirror), _sources(width, picture[1], mirror)

    def crop(self, top: int, left: int, height: int, width: int) -> Tensor:
        """3×height×width of the canvas; beyond the canvas its edge is repeated."""
        rows, columns = _shown(self._rows, top, height), _shown(self._columns, left, width)
        above, before = self._first(rows), self._first(columns)
        low_res = self.low_res[:, above : self._last(rows), before : self._last(columns)]
        up = _take(upsample(low_res, self.scale, self.config), rows, self.scale * above, dim=1)
        return _take(up, columns, self.scale * before, dim=2)

    def _first(self, sources: Sequence[int]) -> int:
        """The first pixel of the small picture that these rows or columns depend on; cubics reach two pixels far."""
        return max(0, min(sources) // self.scale - 3)

    def _last(self, sources: Sequence[int]) -> int:
        return max(sources) // self.scale + 4


def condition(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """The condition of one window.

    Args:
        up: the enlarged picture.
        top, left, height, width: the window.

    Returns:
        C×height×width: `low_res` mapped to the config's range, then `detail` where the config has it.
    """
    around = _around(up, top, left, height, width, detail_radius(up.scale, up.config))
    return condition_of(around, up.scale, up.config)


def detail_radius(scale: int, config: DiffusionConfig) -> int:
    """How far around a window the condition looks, in pixels of the enlarged picture."""
    return _detail_radius(scale) if "detail" in config.condition else 0


def condition_of(around: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """The condition, from up(LR) in a window and `detail_radius` pixels around it.

    Args:
        around: …×3×(H+2r)×(W+2r).

    Returns:
        …×C×H×W, as `condition`.
    """
    low, high = config.condition_range
    if "detail" not in config.condition:
        return around * (high - low) + low
    assert config.residual_scale is not None
    radius = detail_radius(scale, config)
    window = around[..., radius : around.shape[-2] - radius, radius : around.shape[-1] - radius]
    detail = _detail(around, scale) / config.residual_scale[str(scale)]
    return torch.cat([window * (high - low) + low, detail], dim=-3)


def noise_gain(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """By how much noise is multiplied in one window of a model that has `noise_by_detail`: 1×height×width."""
    return noise_gain_of(_around(up, top, left, height, width, noise_radius(up.scale)), up.scale, up.config)


def noise_radius(scale: int) -> int:
    """How far around a window `noise_gain` looks, in pixels of the enlarged picture."""
    return _box_radius(scale)


def noise_gain_of(around: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """sqrt(deviation / noise_by_detail), at most 1: noise is drawn where there is something to draw.

    The deviation is that of grey, the mean over RGB, in the square of 4·scale+1 pixels around each one. It is taken in
    double precision: float32 leaves of a uniform picture's variance what makes a tenth of the noise.

    Args:
        around: …×3×(H+2r)×(W+2r), up(LR) in a window and r = `noise_radius` pixels around it.

    Returns:
        …×1×H×W, float32.
    """
    assert config.noise_by_detail is not None
    grey = around.mean(-3, keepdim=True)
    grey = grey.cpu().double() if grey.device.type == "mps" else grey.double()  # which has no float64
    mean, mean_square = (_box_mean(x, scale) for x in (grey, grey * grey))
    deviation = mean_square.addcmul_(mean, mean, value=-1).clamp_(min=0).sqrt_()
    return (deviation / config.noise_by_detail).clamp_(max=1).sqrt_().float().to(around.device)


def residual_gain(up: Enlarged, top: int, left: int, height: int, width: int) -> Tensor:
    """By how much the residual is multiplied in one window of a model that has `residual_by_detail`: 1×height×width."""
    return residual_gain_of(_around(up, top, left, height, width, residual_radius(up.scale)), up.scale, up.config)


def residual_radius(scale: int) -> int:
    """How far around a window `residual_gain` looks, in pixels of the enlarged picture."""
    return _box_radius(scale) + _detail_radius(scale)


def residual_gain_of(around: Tensor, scale: int, config: DiffusionConfig) -> Tensor:
    """detail / residual_by_detail, at most 1: nothing is added to what is uniform, little to an even gradient.

    The detail is what a Gaussian takes away, of all colours, so that one of the same brightness as its surroundings
    counts too; its root mean square in the square of 4·scale+1 pixels around each one.

    Args:
        around: …×3×(H+2r)×(W+2r), up(LR) in a window and r = `residual_radius` pixels around it.

    Returns:
        …×1×H×W, float32.
    """
    assert config.residual_by_detail is not None
    power = _detail(around, scale).square_().mean(-3, keepdim=True)
    return (_box_mean(power, scale).sqrt_() / config.residual_by_detail).clamp_(max=1)


def _around(up: Enlarged, top: int, left: int, height: int, width: int, radius: int) -> Tensor:
    return up.crop(top - radius, left - radius, height + 2 * radius, width + 2 * radius)


def _detail(around: Tensor, scale: int) -> Tensor:
    """What a Gaussian takes away: …×(H+2r)×(W+2r) -> …×H×W, r its radius."""
    radius = _detail_radius(scale)
    kernel = _detail_kernel(scale)
    window = around[..., radius : around.shape[-2] - radius, radius : around.shape[-1] - radius]
    return window - convolve(convolve(around, kernel, dim=-2), kernel, dim=-1)


@cache
def _detail_kernel(scale: int) -> list[float]:
    return gaussian(torch.tensor(_deviation(scale)), _detail_radius(scale)).tolist()


def _detail_radius(scale: int) -> int:
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


def _take(x: Tensor, sources: Sequence[int], first: int, dim: int) -> Tensor:
    """Rows or columns of x, which begins with number `first`; a view where they follow one another, as most do."""
    start, count = sources[0] - first, len(sources)
    if all(there == here + 1 for here, there in pairwise(sources)):
        return x.narrow(dim, start, count)
    return x.index_select(dim, torch.tensor(sources, device=x.device) - first)


def _sources(length: int, picture: int, mirror: bool) -> list[int]:
    """Which row (or column) of the enlarged picture each one of the canvas shows."""
    inside = range(min(length, picture))
    beyond = [2 * (picture - 1) - place if mirror else picture - 1 for place in range(picture, length)]
    return [*inside, *beyond]


def _shown(sources: Sequence[int], first: int, count: int) -> list[int]:
    """`sources` of so many rows or columns; beyond the canvas its edge is repeated."""
    return [sources[min(max(place, 0), len(sources) - 1)] for place in range(first, first + count)]


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
