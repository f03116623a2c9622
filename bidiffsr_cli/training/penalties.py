"""Patterns that PSNR and LPIPS hardly see and people do, as losses: comb, cross and weave.

They are statistics of several crops together, so that the chance of single ones averages out; crops are taken
`TOGETHER` at a time, whatever the batch, so that threads and devices come to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from .config import SPECTRUM

TOGETHER = 8
"""Crops whose statistics are taken together."""
LINES = (8, 16, 24, 32)
"""Cycles in a window of the periods that strides of 2, 4 and 8 leave behind: 8, 4, 8/3 and 2 pixels."""
RINGS = range(8, 32, 4)
"""Where rings of the spectrum begin, cycles in a window; each is 4 wide."""
FLOOR = (2 / 255) ** 2
"""Variance of the noise that is added to every spectrum, so that nothing is made of what nobody sees."""
FLAT = 2.5 / 255
"""Deviation of grey below which 8×8 pixels of the original are flat."""
LEAST_FLAT = 100
"""Flat blocks that it takes to tell a pattern from chance."""


def mean_over_groups(penalty: Callable[[Tensor, Tensor], Tensor], ours: Tensor, originals: Tensor) -> Tensor:
    """The mean over crops of a penalty on `TOGETHER` of them at a time: a scalar."""
    pairs = zip(ours.split(TOGETHER), originals.split(TOGETHER), strict=True)
    return torch.stack([penalty(a, b) * len(a) for a, b in pairs]).sum() / len(ours)


def comb(ours: Tensor, originals: Tensor) -> Tensor:
    """By how much more than in the originals the spectrum rises on horizontal and vertical lines of `LINES`.

    Of each line, what stands above its neighbours three cycles away, in log power, and the mean over crops of that; of
    ours less of the originals, squared, summed over lines.

    Args:
        ours, originals: power spectra as of `spectrum`.
    """
    return (_lines(ours) - _lines(originals)).square().sum()


def cross(ours: Tensor, originals: Tensor) -> Tensor:
    """By how much more than in the originals power lies near the axes instead of the diagonals, ring by ring.

    In each ring, the log of the mean power within 8° of the axes less that at 30° to 60°; mean over crops, of ours less
    of the originals, squared, summed over rings.

    Args:
        ours, originals: power spectra as of `spectrum`.
    """
    return (_axes(ours) - _axes(originals)).square().sum()


def weave(error: Tensor, originals: Tensor) -> Tensor:
    """The pattern that repeats every 8 pixels where the originals are flat: its mean square, 0 where little is flat.

    Args:
        error: B×3×H×W, of any unit.
        originals: B×3×H×W in [0, 1].
    """
    flat = _blocks(originals.mean(1)).flatten(-2).std(-1) < FLAT  # B, h, w
    count = flat.sum()
    blocks = _blocks(error)  # B, 3, h, w, 8, 8
    blocks = blocks - blocks.mean((-2, -1), keepdim=True)
    pattern = (blocks * flat[:, None, :, :, None, None]).sum((0, 2, 3)) / count.clamp(min=1)
    return pattern.square().mean() * (count >= LEAST_FLAT)


def spectrum(pictures: Tensor) -> Tensor:
    """Power spectra of luminance under a Hann window; B×3×64×64 in [0, 1] -> B×64×64."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pictures.device).view(3, 1, 1)
    y = (pictures * weights).sum(1)
    y = (y - y.mean((1, 2), keepdim=True)) * _hann().to(y.device)
    return torch.fft.fft2(y).abs().square()


def _lines(power: Tensor) -> Tensor:
    """Of each line of `LINES`, by how much its log power stands above its neighbours', mean over crops."""
    floor = 8 * FLOOR * float(_hann().square().sum())

    def at(k: int) -> Tensor:
        k = min(k, SPECTRUM - k)  # where the spectrum is mirrored
        return (power[:, k, :4].sum(1) + power[:, :4, k].sum(1) + floor).log()

    return torch.stack([(at(k) - (at(k - 3) + at(k + 3)) / 2).mean() for k in LINES])


def _axes(power: Tensor) -> Tensor:
    """Of each ring of `RINGS`, by how much its log power is larger near the axes than at diagonals, mean over crops."""
    flat = (power + FLOOR * float(_hann().square().sum())).flatten(1)
    logs = [[flat[:, part.to(flat.device)].mean(1).log() for part in ring] for ring in _rings()]
    return torch.stack([(axes - diagonals).mean() for axes, diagonals in logs])


@cache
def _hann() -> Tensor:
    window = torch.hann_window(SPECTRUM, periodic=False)
    return window[:, None] * window


@cache
def _rings() -> list[tuple[Tensor, Tensor]]:
    """Of each ring, indices into a flat spectrum of what lies near the axes, and at the diagonals."""
    cycles = torch.fft.fftfreq(SPECTRUM) * SPECTRUM
    radius = torch.hypot(cycles[:, None], cycles)
    degrees = torch.rad2deg(torch.atan2(cycles.abs()[:, None].expand_as(radius), cycles.abs().expand_as(radius)))
    axes, diagonals = (degrees < 8) | (degrees > 82), (degrees > 30) & (degrees < 60)
    rings = [(radius >= first) & (radius < first + RINGS.step) for first in RINGS]
    return [tuple((ring & part).flatten().nonzero()[:, 0] for part in (axes, diagonals)) for ring in rings]  # type: ignore[misc]


def _blocks(x: Tensor) -> Tensor:
    """…×H×W -> …×h×w×8×8, without what is left over at the right and the bottom."""
    height, width = (side // 8 * 8 for side in x.shape[-2:])
    x = x[..., :height, :width].unflatten(-1, (width // 8, 8))
    return x.unflatten(-3, (height // 8, 8)).transpose(-3, -2)
