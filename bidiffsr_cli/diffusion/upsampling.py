"""up(LR): what the diffusion adds to, by bicubic interpolation and a model's upsampler."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import DiffusionConfig
from .detail import Around, residual_gain, trimmed

PART = 128
"""Side of the parts of the small picture that an upsampler sees one by one, pixels: the same for every machine, as
where a part begins may change the last bits."""
GAIN_MARGIN = 7
"""Pixels of the small picture that `residual_gain` sees around a place, with those that bicubic interpolation needs
for them."""


class Upsampler(Protocol):
    """What is added to bicubic interpolation (`networks/upsampler.py`).

    Attributes:
        radius: how many pixels from the edges of what it is given its result is of no use.
    """

    @property
    def radius(self) -> int: ...

    def __call__(self, low_res: Tensor, /) -> Tensor:
        """B×3×h×w in [0, 1] -> B×3×(scale·h)×(scale·w)."""


def bicubic(low_res: Tensor, scale: int) -> Tensor:
    """Bicubic interpolation with a = -0.75, half-pixel centres, edges repeated.

    Args:
        low_res: B×3×h×w in [0, 1].
        scale: of enlargement.

    Returns:
        B×3×(scale·h)×(scale·w).
    """
    return F.interpolate(low_res, scale_factor=scale, mode="bicubic", align_corners=False)


def upsample_crops(low_res: Tensor, scale: int, config: DiffusionConfig, upsampler: Upsampler | None) -> Tensor:
    """up(LR) of crops, with `upsampling_margin` pixels around them.

    Args:
        low_res: B×3×(h+2m)×(w+2m) in [0, 1].
        scale: of enlargement.
        upsampler: of the model, if it has one.

    Returns:
        B×3×(scale·h)×(scale·w).
    """
    up = bicubic(low_res, scale)
    if upsampler is None:
        return _clipped(up, config)
    margin = scale * upsampling_margin(upsampler)
    added = trimmed(upsampler(low_res), margin)
    if config.residual_by_detail is not None:
        plain = _clipped(up, config)
        added = added * residual_gain(lambda radius: trimmed(plain, margin - radius), scale, config)
    return _clipped(trimmed(up, margin) + added, config)


def upsampling_margin(upsampler: Upsampler | None) -> int:
    """How many pixels of the small picture around a crop `upsample_crops` needs, and cuts off."""
    return 0 if upsampler is None else max(upsampler.radius, GAIN_MARGIN)


def _clipped(up: Tensor, config: DiffusionConfig) -> Tensor:
    return up.clamp(0, 1) if config.upsample == "bicubic_075_clipped" else up


class Enlarged:
    """up(LR) on the canvas. Bicubic interpolation is computed where it is looked at: the whole of it would be as large
    as the result. What an upsampler makes takes too long for that, and is kept.

    The canvas may reach further to the right and downwards than the picture. There it is mirrored, as upstream does it
    where the target is the image (and the picture is large enough), else its edge is repeated.

    Args:
        low_res: 3×h×w in [0, 1].
        scale: of enlargement.
        height, width: of the canvas, at least scale·h and scale·w.
        config: says whether up is clipped, and what the target is.
        upsampler: of the model, if it has one. What it adds goes by the detail of bicubic interpolation, as the
            residual does, so that what is uniform stays so.

    Attributes:
        total: the sum of all that an upsampler made, which is finite.
    """

    def __init__(
        self,
        low_res: Tensor,
        scale: int,
        height: int,
        width: int,
        config: DiffusionConfig,
        upsampler: Upsampler | None = None,
    ) -> None:
        self.low_res, self.scale, self.config = low_res, scale, config
        picture = scale * low_res.shape[1], scale * low_res.shape[2]
        mirror = config.target == "image" and height < 2 * picture[0] and width < 2 * picture[1]
        self._rows, self._columns = _sources(height, picture[0], mirror), _sources(width, picture[1], mirror)
        self.total = low_res.new_zeros(())
        self._whole: Tensor | None = None
        if upsampler is not None:
            self._whole = self._upsampled(upsampler)

    def crop(self, top: int, left: int, height: int, width: int) -> Tensor:
        """3×height×width of the canvas; beyond the canvas its edge is repeated."""
        rows, columns = _shown(self._rows, top, height), _shown(self._columns, left, width)
        if self._whole is not None:
            return _take(_take(self._whole, rows, 0, dim=1), columns, 0, dim=2)
        return _clipped(self._interpolated(rows, columns), self.config)

    def around(self, top: int, left: int, height: int, width: int) -> Around:
        """Likewise, with as many pixels on every side as are asked for."""
        return lambda radius: self.crop(top - radius, left - radius, height + 2 * radius, width + 2 * radius)

    def _interpolated(self, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
        """These rows and columns by bicubic interpolation."""
        above, before = self._first(rows), self._first(columns)
        low_res = self.low_res[:, above : self._last(rows), before : self._last(columns)]
        up = _take(bicubic(low_res[None], self.scale)[0], rows, self.scale * above, dim=1)
        return _take(up, columns, self.scale * before, dim=2)

    def _upsampled(self, upsampler: Upsampler) -> Tensor:
        """The whole picture, part by part; where a part begins may change the last bits, so no machine chooses it."""
        height, width, r, scale = *self.low_res.shape[1:], upsampler.radius, self.scale
        around = F.pad(self.low_res[None], (r, r, r, r), mode="replicate")
        whole = self.low_res.new_empty(3, scale * height, scale * width)
        for top in range(0, height, PART):
            for left in range(0, width, PART):
                seen = around[..., top : top + PART + 2 * r, left : left + PART + 2 * r]
                added = trimmed(upsampler(seen)[0], scale * r)
                place, (high, wide) = (scale * top, scale * left), added.shape[1:]
                if self.config.residual_by_detail is not None:
                    plain = self.around(*place, high, wide)  # as there is no whole yet
                    added *= residual_gain(plain, scale, self.config)
                rows, columns = range(place[0], place[0] + high), range(place[1], place[1] + wide)
                up = self._interpolated(rows, columns) + added
                self.total += up.sum()
                whole[:, rows.start : rows.stop, columns.start : columns.stop] = _clipped(up, self.config)
        return whole

    def _first(self, sources: Sequence[int]) -> int:
        """The first pixel of the small picture that these rows or columns depend on; cubics reach two pixels far."""
        return max(0, min(sources) // self.scale - 3)

    def _last(self, sources: Sequence[int]) -> int:
        return max(sources) // self.scale + 4


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
