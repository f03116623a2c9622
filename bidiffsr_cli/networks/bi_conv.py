"""BI-DiffSR's binary convolution (paper, figure 5, eq. 5-7), which with one group is BBCU's (arXiv 2210.00405) too."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..ops.reference import channel_scales
from .latent_conv import Folded, LatentConv, conv_dtype
from .quantizers import approx_sign, scaled_ste_sign
from .time_aware import TaA, TaR, TimestepContext


class BIConv(LatentConv):
    """The basic BI-Conv block: TaA(Sign(x + TaR) * alpha Sign(w)) + x (paper, figure 5, eq. 5-7).

    With one group each, TaR and TaA are a fixed shift and a plain RPReLU: BBCU's unit (arXiv 2210.00405).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        tar_groups: int = 1,
        taa_groups: int = 1,
        identity: str = "after",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, identity)
        self.tar = TaR(in_channels, tar_groups)
        self.taa = TaA(out_channels, taa_groups)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        y = self.sums(x, ctx)
        if self.identity == "before":
            y = y + x
        y = self.taa(y, ctx)
        return y + x if self.identity == "after" else y

    def sums(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """The binary convolution, scaled."""
        dtype = conv_dtype(x)
        signs = approx_sign(x + self.tar(ctx), dtype)
        weight = scaled_ste_sign(self.weight, dtype)
        return F.conv2d(signs, weight, stride=self.stride, padding=weight.shape[-1] // 2).to(x.dtype)

    def fold(self) -> Folded:
        return Folded(self.weight, channel_scales(self.weight), self.tar, self.taa)
