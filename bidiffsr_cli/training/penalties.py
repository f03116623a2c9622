"""Losses on patterns that people see and PSNR and LPIPS hardly do: comb, cross and weave.

They are statistics of several crops together, in which the randomness of single ones averages out. Crops are taken
`GROUP` at a time, whatever the batch, so that threads and devices give the same loss.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import sent
from .config import SPECTRUM

GROUP = 8
"""Crops whose statistics are taken together."""
LINES = (8, 16, 24, 32)
"""Cycles in `SPECTRUM` pixels of the periods that strides of 2, 4 and 8 leave behind: 8, 4, 8/3 and 2 pixels."""
RINGS = range(8, 32, 4)
"""Where rings of the spectrum begin, cycles in `SPECTRUM` pixels; each is 4 wide."""
FLOOR = (1 / 255) ** 2
"""Variance of the noise that is added to every spectrum, so that invisible differences count nothing: a level, as where
`evaluation/artefacts.py` measures cross."""
FLAT = 2.5 / 255
"""Standard deviation of grey below which a block of 8×8 pixels of the original is flat."""
LEAST_FLAT = 100
"""Number of flat blocks that it takes to tell a pattern from chance."""


def comb(ours: Tensor, originals: Tensor) -> Tensor:
    """The difference from the originals in how far the spectrum rises at the frequencies of `LINES`.

    For each line: its log power above that of its neighbours three cycles away, minus the same of the originals; the
    mean over the crops of a group, squared, summed over lines; the mean over groups.

    Args:
        ours, originals: power spectra as `spectrum` returns them, B×64×64.
    """
    return _mean_of_groups(_group_means(_lines(ours) - _lines(originals)).square().sum(1), len(ours))


def cross(ours: Tensor, originals: Tensor) -> Tensor:
    """The difference from the originals in how much power lies near the axes rather than the diagonals, ring by ring.

    In each ring: the log of the mean power within 8° of the axes minus that at 30° to 60°, minus the same of the
    originals; the mean over the crops of a group, squared, summed over rings; the mean over groups.

    Args:
        ours, originals: power spectra as `spectrum` returns them, B×64×64.
    """
    return _mean_of_groups(_group_means(_axes(ours) - _axes(originals)).square().sum(1), len(ours))


def weave(error: Tensor, originals: Tensor) -> Tensor:
    """The mean square of the pattern that repeats every 8 pixels where the originals are flat.

    The pattern is the mean 8×8 block over all flat blocks of a group; groups with few flat blocks count nothing.

    Args:
        error: B×3×H×W, of any unit.
        originals: B×3×H×W in [0, 1].
    """
    flat = _blocks(originals.mean(1)).flatten(-2).std(-1) < FLAT  # B×h×w
    blocks = _blocks(error)  # B×3×h×w×8×8
    blocks = blocks - blocks.mean((-2, -1), keepdim=True)
    sums = _group_sums((blocks * flat[:, None, :, :, None, None]).sum((2, 3)))  # G×3×8×8
    counts = _group_sums(flat.sum((1, 2)))
    patterns = sums / counts.clamp(min=1).view(-1, 1, 1, 1)
    return _mean_of_groups(patterns.square().mean((1, 2, 3)) * (counts >= LEAST_FLAT), len(error))


def spectrum(pictures: Tensor) -> Tensor:
    """Power spectra of luminance under a Hann window; B×3×64×64 in [0, 1] -> B×64×64."""
    red, green, blue = pictures.unbind(1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    y = (y - y.mean((1, 2), keepdim=True)) * _hann(y.device)
    return torch.fft.fft2(y).abs().square()


def _lines(power: Tensor) -> Tensor:
    """The log power on each line of `LINES` above that of its neighbours: B×64×64 -> B×4."""
    floor = 8 * FLOOR * _hann_power()

    def at(k: int) -> Tensor:
        k = min(k, SPECTRUM - k)  # where the spectrum is mirrored
        return (power[:, k, :4].sum(1) + power[:, :4, k].sum(1) + floor).log()

    return torch.stack([at(k) - (at(k - 3) + at(k + 3)) / 2 for k in LINES], dim=1)


def _axes(power: Tensor) -> Tensor:
    """The log power near the axes above that at the diagonals, in each ring: B×64×64 -> B×6."""
    axes, diagonals = ((power[:, None] * part).sum((2, 3)) for part in _parts(power.device))  # B×6 each
    floor = FLOOR * _hann_power()
    return (axes + floor).log() - (diagonals + floor).log()


@cache
def _hann(device: torch.device) -> Tensor:
    """64×64."""
    window = torch.hann_window(SPECTRUM, periodic=False)
    return sent(window[:, None] * window, device)


@cache
def _hann_power() -> float:
    """The power of white noise of variance 1 at every position of a spectrum."""
    return float(_hann(torch.device("cpu")).square().sum())


@cache
def _parts(device: torch.device) -> Tensor:
    """Weights whose sums are means over parts of a spectrum, 2×6×64×64: near the axes, at the diagonals, by ring."""
    cycles = torch.fft.fftfreq(SPECTRUM) * SPECTRUM
    radius = torch.hypot(cycles[:, None], cycles)
    degrees = torch.rad2deg(torch.atan2(cycles.abs()[:, None].expand_as(radius), cycles.abs().expand_as(radius)))
    axes, diagonals = (degrees < 8) | (degrees > 82), (degrees > 30) & (degrees < 60)
    rings = torch.stack([(radius >= first) & (radius < first + RINGS.step) for first in RINGS])
    parts = torch.stack([rings & axes, rings & diagonals]).float()
    return sent(parts / parts.sum((2, 3), keepdim=True), device)


def _blocks(x: Tensor) -> Tensor:
    """…×H×W -> …×h×w×8×8, without the rest at the right and at the bottom."""
    height, width = (side // 8 * 8 for side in x.shape[-2:])
    x = x[..., :height, :width].unflatten(-1, (width // 8, 8))
    return x.unflatten(-3, (height // 8, 8)).transpose(-3, -2)


def _group_sums(x: Tensor) -> Tensor:
    """Sums over `GROUP` crops at a time, B×… -> G×…; the last group may have fewer."""
    padding = [0, 0] * (x.dim() - 1) + [0, -len(x) % GROUP]
    return F.pad(x, padding).unflatten(0, (-1, GROUP)).sum(1)


def _group_means(x: Tensor) -> Tensor:
    """Likewise the means: B×n -> G×n."""
    return _group_sums(x) / _sizes(len(x), x.device)[:, None]


def _mean_of_groups(values: Tensor, count: int) -> Tensor:
    """The mean over crops of their groups' values."""
    return (values * _sizes(count, values.device)).sum() / count


def _sizes(count: int, device: torch.device) -> Tensor:
    return _group_sums(torch.ones(count, device=device))
