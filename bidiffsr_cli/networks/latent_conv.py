"""What the binary convolutions of all methods have in common: a latent weight, and a form that the engine can compute.

The latent weight is a real number of which sign and scale count; it is what is trained. For inference a method folds
everything around its signs (scales, BatchNorm, shifts, RPReLU) into one form, `Folded`, so that packed files, plain
torch and the native engine know one kind of binary convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .time_aware import TaA, TaR, TimestepContext


@dataclass(frozen=True)
class Folded:
    """A binary convolution for inference: TaA(Sign(x + TaR) * alpha Sign(w)), with x where `LatentConv.identity` says.

    Attributes:
        signs: O×I×k×k, of which the sign counts.
        alpha: O, at least 0.
        tar, taa: what is before the signs and behind the sums; of one group where the method knows no time steps.
    """

    signs: Tensor
    alpha: Tensor
    tar: TaR
    taa: TaA


class LatentConv(nn.Module):
    """A convolution with a latent weight; subclasses say what is computed with it.

    Attributes:
        identity: where the input is added to the result: "none", "before" or "after" the activation; what changes
            channels or size has none.
        stride: 1, or 2 in both directions.
        foldable: whether there is a form of signs, scales and RPReLU alone.
    """

    foldable = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, identity: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.stride = stride
        self.identity = identity
        if not self.weight.is_meta:
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """B×I×H×W -> B×O×H×W, or half of both sides with a stride of 2."""
        raise NotImplementedError

    def fold(self) -> Folded:
        """The form for inference; it shares what it can with this module."""
        raise NotImplementedError


def latent_names(network: nn.Module) -> list[str]:
    """Names of the latent weights."""
    return [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, LatentConv)]


def conv_dtype(x: Tensor) -> torch.dtype:
    """In what convolutions of x compute: autocast's type where that is on, else x's own."""
    device = x.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # meta has none
    return torch.get_autocast_dtype(device) if enabled else x.dtype
