"""One convolution factory per method: what a block's `conv=` can be.

A factory makes a module with `forward(x, ctx)` that keeps height and width. Full precision is a factory like the
others, so a block never asks which one it was given.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..configs import UNetConfig
from .time_aware import BIConv, TimestepContext

ConvFactory = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, kernel_size) -> module."""


class FullPrecisionConv(nn.Conv2d):
    """An ordinary convolution with a bias that takes, and ignores, the time step."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:  # type: ignore[override]
        y = super().forward(x)
        return y.to(x.dtype) if self.training else y  # autocast computes it in few bits, training adds it up in many


def binary_conv(config: UNetConfig) -> ConvFactory:
    """The factory of the config's method."""

    def bi_diffsr(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
        return BIConv(
            in_channels, out_channels, kernel_size, config.tar_groups, config.taa_groups, identity=config.identity
        )

    return {"bi_diffsr": bi_diffsr}[config.method]
