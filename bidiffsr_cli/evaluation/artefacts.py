"""Artefacts of an enlarged picture that PSNR and LPIPS hardly see: grain, weave, comb and cross.

All are of luminance (0.299 R + 0.587 G + 0.114 B, levels of 0 to 255) in the whole picture, no border left out, and all
are less what the original has of them, so that 0 is as in nature:

- grain: how much higher the standard deviation is, in levels, in blocks of 8×8 that are flat in the original. Above
  about 0.5 the eye sees it in skies and walls; below 0 they are smoother than they were.
- weave: what repeats every 8 pixels in those flat blocks, in levels. Above about 0.15 the eye sees a grid.
- comb: how much more the power of horizontal and vertical lines that repeat every 8, 4, 8/3 or 2 pixels stands out from
  the frequencies beside it, in dB; the highest of the four. Above about 1 the eye sees a grid.
- cross: how much more the power near the horizontal and vertical axes of the spectrum stands out from that near the
  diagonals, in dB; the highest of five rings of frequencies. Above about 2 the eye sees linen.

Networks that halve and double resolution leave patterns of 2, 4 and 8 pixels behind. The definitions, and what the eye
is said to see, are this project's own. Chance is large in one picture and averages out over many. So many are pooled:
the patterns of weave are averaged over all flat blocks, and comb and cross over the pictures, period by period and ring
by ring, before the highest is taken.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import luma

NAMES = ("grain", "weave", "comb", "cross")
BLOCK = 8
FLAT = 2.5
"""Standard deviation, in levels, below which a block of the original is flat."""
LEAST_FLAT = 50
"""Number of flat blocks from which on grain and weave are told."""
SURROUNDING = 9
"""Pixels a side of the mean that is taken off before the pattern of weave is looked for."""
WINDOW = 64
LINES = {"8": 8, "4": 16, "8/3": 24, "2": 32}
"""Period in pixels -> cycles in a window."""
RINGS = (12, 16, 20, 24, 28)
"""Where rings of the spectrum begin, cycles in a window; each is 4 wide."""


@dataclass(frozen=True)
class Artefacts:
    """What a picture has of them, or several together.

    Attributes:
        flat: number of blocks that are flat in the original; 0 if there are fewer than `LEAST_FLAT` in a picture.
        grain: levels; None if `flat` is 0.
        pattern: levels of the mean flat block of the result minus the original, row by row; empty if `flat` is 0.
        comb: dB at each of `LINES`; empty for pictures smaller than a window.
        cross: dB in each of `RINGS`; likewise.
    """

    flat: int
    grain: float | None
    pattern: Sequence[float]
    comb: Sequence[float]
    cross: Sequence[float]

    def figures(self) -> dict[str, float]:
        """Those of `NAMES` that are known: grain and weave in levels, comb and cross in dB."""
        known = {} if self.grain is None else {"grain": self.grain, "weave": statistics.pstdev(self.pattern)}
        return known | ({"comb": max(self.comb), "cross": max(self.cross)} if self.comb else {})

    def spectrum(self) -> dict[str, dict[str, float]]:
        """comb by period in pixels, and cross by ring in cycles of 64 pixels; nothing for small pictures."""
        if not self.comb:
            return {}
        rings = [f"{first}-{first + 4}" for first in RINGS]
        pairs = {"comb": zip(LINES, self.comb, strict=True), "cross": zip(rings, self.cross, strict=True)}
        return {name: dict(values) for name, values in pairs.items()}


def find_artefacts(sr: Tensor, hr: Tensor) -> Artefacts:
    """The artefacts of one enlarged picture.

    Args:
        sr, hr: 3×H×W uint8, the enlarged picture and its original.
    """
    ours, original = _luminance(sr), _luminance(hr)
    deviations = _deviations(original)
    flat = deviations < FLAT
    count, grain, pattern = int(flat.sum()), None, torch.empty(0)
    if count >= LEAST_FLAT:
        grain = float((_deviations(ours) - deviations)[flat].mean())
        error = ours - original
        pattern = _tiles(error - _surrounding_mean(error), BLOCK)[flat].mean(0)
    comb = cross = torch.empty(0)
    if min(original.shape) >= WINDOW:
        powers = _powers(ours), _powers(original)
        comb, cross = (part(powers[0]) - part(powers[1]) for part in (_rise_of_lines, _axes_over_diagonals))
    lists = [values.flatten().tolist() for values in (pattern, comb, cross)]
    return Artefacts(0 if grain is None else count, grain, *lists)


def pool(found: Sequence[Artefacts]) -> Artefacts:
    """Those of several pictures together, each counting alike, and in the pattern each flat block."""
    flat = [one for one in found if one.grain is not None]
    total = sum(one.flat for one in flat)
    patterns = zip(*(one.pattern for one in flat), strict=True)
    return Artefacts(
        total,
        statistics.fmean(one.grain for one in flat if one.grain is not None) if flat else None,
        [sum(one.flat * level for one, level in zip(flat, levels, strict=True)) / total for levels in patterns],
        [statistics.fmean(values) for values in zip(*(one.comb for one in found if one.comb), strict=True)],
        [statistics.fmean(values) for values in zip(*(one.cross for one in found if one.cross), strict=True)],
    )


def restored(value: Any) -> Artefacts | None:
    """What `dataclasses.asdict` made of some, after a way through JSON; None for anything else."""
    names = {field.name for field in dataclasses.fields(Artefacts)}
    return Artefacts(**value) if isinstance(value, dict) and value.keys() == names else None


def _luminance(image: Tensor) -> Tensor:
    """3×H×W, levels -> H×W float64, 0 for black to 255 for white, not rounded."""
    return (luma(image) - 16) * (255 / 219)


def _tiles(y: Tensor, side: int) -> Tensor:
    """H×W -> h×w×side×side, without the rest at the right and at the bottom."""
    h, w = (length // side for length in y.shape)
    return y[: h * side, : w * side].reshape(h, side, w, side).transpose(1, 2)


def _deviations(y: Tensor) -> Tensor:
    """H×W -> the standard deviation of each block, h×w."""
    blocks = _tiles(y, BLOCK)
    return (blocks - blocks.mean((2, 3), keepdim=True)).square().mean((2, 3)).sqrt()


def _surrounding_mean(y: Tensor) -> Tensor:
    """The mean around each pixel, H×W; beyond the border the outermost pixels go on."""
    padded = F.pad(y[None, None], [SURROUNDING // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, SURROUNDING, stride=1)[0, 0]


def _powers(y: Tensor) -> Tensor:
    """Power spectra of all windows that lie side by side in a picture: H×W -> N×64×64."""
    windows = _tiles(y, WINDOW).flatten(0, 1)
    return torch.fft.fft2((windows - windows.mean((1, 2), keepdim=True)) * _hann()).abs().square()


def _rise_of_lines(powers: Tensor) -> Tensor:
    """The mean spectrum at each of `LINES` above that three cycles beside it, dB: N×64×64 -> 4."""
    power = powers.mean(0) + 1e-6 * _power_of_one_level()  # so that nothing rises where there is nothing

    def at(k: int) -> Tensor:
        k = min(k, WINDOW - k)  # where the spectrum is mirrored
        return power[k, :4].mean() + power[:4, k].mean()

    return torch.stack([_decibels(2 * at(k) / (at(k - 3) + at(k + 3))) for k in LINES.values()])


def _axes_over_diagonals(powers: Tensor) -> Tensor:
    """The power within 8° of the axes above that at 30° to 60°, in each of `RINGS`, dB: N×64×64 -> 5.

    The logarithm is taken in each window, where noise of one level is added to all, and then the mean over windows.
    """
    levels = powers + _power_of_one_level()
    axes, diagonals = (_decibels(levels.flatten(1) @ part.T).mean(0) for part in _parts())
    return axes - diagonals


def _decibels(ratio: Tensor) -> Tensor:
    return 10 * ratio.log10()


@cache
def _hann() -> Tensor:
    """64×64 float64."""
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    return window[:, None] * window


def _power_of_one_level() -> float:
    """The power at any place of the spectrum of white noise whose standard deviation is one level."""
    return float(_hann().square().sum())


@cache
def _parts() -> Tensor:
    """Weights whose sums are means over parts of a spectrum, 2×5×4096: near the axes and at the diagonals, by ring."""
    cycles = torch.fft.fftfreq(WINDOW, 1 / WINDOW, dtype=torch.float64).abs()
    down, across = cycles[:, None].expand(WINDOW, WINDOW), cycles.expand(WINDOW, WINDOW)
    radius, degrees = torch.hypot(down, across), torch.rad2deg(torch.atan2(down, across))
    rings = torch.stack([(radius >= first) & (radius < first + 4) for first in RINGS])
    axes, diagonals = (degrees < 8) | (degrees > 82), (degrees > 30) & (degrees < 60)
    parts = torch.stack([rings & axes, rings & diagonals]).flatten(2).double()
    return parts / parts.sum(2, keepdim=True)
