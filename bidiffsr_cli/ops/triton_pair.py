"""What stands before and behind the convolution of a binary block on a GPU, as two kernels of Triton.

    prepare    Sign(Swish(GroupNorm(x)) + TaR)                                  what is convolved
    finish     RPReLU(alpha sums) + Swish(GroupNorm(x)) [+ time] [+ residual]   and the sums for the GroupNorm behind it

Between them is cuDNN's convolution. x is read twice and normalized twice, so that nothing but signs, sums and the
result is written. `reference.py` defines what they compute. Imports Triton, which torch for CUDA brings on Linux:
import it only where it may be missing. TRITON_INTERPRET=1 runs both on a CPU.
"""

# mypy: allow-untyped-defs
# ruff: noqa: ANN001, ANN202 - types would say nothing in kernels: Triton compiles them for what they are called with

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = tl.constexpr(64)
CHANNELS = tl.constexpr(32)
"""The part of a map, pixels by channels, that one program computes."""
OPTIONS = {"enable_fp_fusion": True}
"""Products are added in one rounding, as in torch's kernels; said aloud, for Triton's default changes with 3.10."""


@dataclass(frozen=True)
class Normed:
    """A map and the GroupNorm of it, which is computed where it is needed.

    Attributes:
        x: B×C×H×W, float32 or float16, channels last.
        mean, variance: B×G, float32, of the groups of x.
        weight, bias: C, float32.
        eps: what is added to the variance.
    """

    x: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


def prepare(normed: Normed, tar: Tensor, dtype: torch.dtype) -> Tensor:
    """Sign(Swish(GroupNorm(x)) + TaR) by the rule of `reference.binarize`.

    Args:
        normed: x and its norm.
        tar: C, float32, free of -0.0.
        dtype: of the result.

    Returns:
        B×C×H×W of +1.0 and -1.0, channels last.

    Raises:
        ValueError: a tensor has another shape, type or layout.
        Exception: Triton cannot compile or start it here.
    """
    arguments, grid = _arguments(normed, tar)
    signs = torch.empty_like(normed.x, dtype=dtype)
    with torch.cuda.device_of(signs):  # Triton computes on the current one
        _prepare[grid](signs, *arguments, tar, **OPTIONS)
    return signs


def finish(
    sums: Tensor,
    normed: Normed,
    alpha: Tensor,
    rprelu: tuple[Tensor, Tensor, Tensor],
    *,
    time: Tensor | None = None,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """RPReLU(alpha sums) + Swish(GroupNorm(x)), and what is added to that.

    Args:
        sums: B×C×H×W, float16 or float32, channels last: the signs' convolution, which keeps the shape of x.
        normed: x and its norm.
        alpha: C, float32.
        rprelu: shift, slope and offset, C each, float32.
        time: B×C, float32.
        residual: like x, float16 or float32.

    Returns:
        (B×C×H×W, float32, channels last; its sums and those of its squares, B×N×2×C, float32, in N parts).

    Raises:
        ValueError: a tensor has another shape, type or layout.
        Exception: Triton cannot compile or start it here.
    """
    arguments, grid = _arguments(normed, alpha, *rprelu)
    x = normed.x
    _check(x.shape, sums, *(() if residual is None else (residual,)))
    _check(x.shape[:2], *(() if time is None else (time,)))
    result = torch.empty_like(x, dtype=torch.float32)
    moments = torch.empty(x.shape[0], grid[0], 2, x.shape[1], device=x.device)
    with torch.cuda.device_of(result):
        _finish[grid](result, moments, *arguments, sums, alpha, *rprelu, time, residual, **OPTIONS)
    return result, moments


def statistics(moments: Tensor, groups: int, pixels: int) -> tuple[Tensor, Tensor]:
    """(mean, variance), B×G each, float32, from the sums that `finish` took of maps of so many pixels.

    Parts are added up in double precision: what is lost is the rounding of squares, 1e-7 (1 + mean² / variance).
    """
    batch, parts, _, channels = moments.shape
    grouped = moments.view(batch, parts, 2, groups, channels // groups)
    mean, square = (grouped.sum((1, 4), dtype=torch.float64) / (pixels * channels // groups)).unbind(1)
    return mean.float(), (square - mean * mean).clamp_min_(0).float()


def _arguments(normed: Normed, *of_channels: Tensor) -> tuple[tuple[object, ...], tuple[int, int, int]]:
    """What both kernels are told of x, and how many programs there are, behind the checks of all that lies there."""
    x, (batch, channels, height, width) = normed.x, normed.x.shape
    groups = normed.mean.shape[-1]
    if channels % groups:
        raise ValueError(f"{channels} channels are not {groups} groups.")
    _check(x.shape, x)
    _check((batch, groups), normed.mean, normed.variance)
    _check((channels,), normed.weight, normed.bias, *of_channels)
    told = x, normed.mean, normed.variance, normed.weight, normed.bias, normed.eps, height * width, channels, groups
    return told, (triton.cdiv(height * width, ROWS.value), triton.cdiv(channels, CHANNELS.value), batch)


def _check(shape: tuple[int, ...], *tensors: Tensor) -> None:
    """Kernels go by shapes alone, and would read whatever lies there: maps are channels last, all else as written."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    types = (torch.float32, torch.float16) if len(shape) == 4 else (torch.float32,)
    for tensor in tensors:
        if tensor.shape != shape or tensor.dtype not in types or not tensor.is_contiguous(memory_format=layout):
            found = f"{tuple(tensor.shape)}, {tensor.dtype}, strides {tensor.stride()}"
            wanted = f"{tuple(shape)}, {' or '.join(map(str, types))}, {layout}"
            raise ValueError(f"A tensor is {found}; it should be {wanted}.")


@triton.jit
def _part(pixels, C):
    """This program's picture, channels 1×CHANNELS, places in a map ROWS×CHANNELS, and which of them exist."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    picture = tl.program_id(2).to(tl.int64)  # all of a batch may be more than 32 bits count
    return picture, channels, (picture * pixels + rows) * C + channels, (rows < pixels) & (channels < C)


@triton.jit
def _activated(x, mean, variance, weight, bias, eps, picture, channels, at, inside, C, groups):
    """Swish(GroupNorm(x)), float32."""
    group = picture * groups + channels // (C // groups)
    known = channels < C
    scale = tl.load(weight + channels, known) / tl.sqrt(tl.load(variance + group, known, 1.0) + eps)
    shift = tl.load(bias + channels, known) - tl.load(mean + group, known) * scale
    y = tl.load(x + at, inside, 0.0).to(tl.float32) * scale + shift
    return y / (1.0 + tl.exp(-y))


@triton.jit(do_not_specialize=["pixels"])
def _prepare(signs, x, mean, variance, weight, bias, eps, pixels, C, groups, tar):
    picture, channels, at, inside = _part(pixels, C)
    y = _activated(x, mean, variance, weight, bias, eps, picture, channels, at, inside, C, groups)
    y += tl.load(tar + channels, channels < C)
    tl.store(signs + at, tl.where(y >= 0, 1.0, -1.0).to(signs.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["pixels"])
def _finish(
    result, moments, x, mean, variance, weight, bias, eps, pixels, C, groups,
    sums, alpha, shift, slope, offset, time, residual,
):  # fmt: skip
    picture, channels, at, inside = _part(pixels, C)
    known = channels < C
    y = tl.load(sums + at, inside, 0.0).to(tl.float32) * tl.load(alpha + channels, known)
    y += tl.load(shift + channels, known)
    y = tl.where(y > 0, y, y * tl.load(slope + channels, known)) + tl.load(offset + channels, known)
    y += _activated(x, mean, variance, weight, bias, eps, picture, channels, at, inside, C, groups)
    if time is not None:
        y += tl.load(time + picture * C + channels, known)
    if residual is not None:
        y += tl.load(residual + at, inside, 0.0).to(tl.float32)
    tl.store(result + at, y, inside)
    y = tl.where(inside, y, 0.0)
    place = moments + (picture * tl.num_programs(0) + tl.program_id(0)) * 2 * C + channels
    tl.store(place, tl.sum(y, 0)[None, :], known)
    tl.store(place + C, tl.sum(y * y, 0)[None, :], known)
