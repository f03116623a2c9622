"""The operations of 1-bit inference in plain torch: the definition that every other backend must equal.

The rule of signs: bit 1, that is +1, where the value is >= 0 (-0.0 included), else bit 0, that is -1. Zero padding
comes after the sign and contributes exactly 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def binarize(x: Tensor, shift: Tensor) -> Tensor:
    """Sign(x + shift) as +1.0 and -1.0 (paper, eq. 5-7).

    Args:
        x: B×C×H×W.
        shift: broadcastable to x, TaR's bias; free of -0.0, so that no sum is -0.0 and `copysign` keeps the rule.
    """
    y = x + shift
    return torch.copysign(torch.ones((), dtype=y.dtype, device=y.device), y, out=y)


def channel_scales(weight: Tensor) -> Tensor:
    """alpha, the mean |w| of each output channel (paper, eq. 5-7): O, float32.

    Summed in double precision, so that it is exact where all |w| of a channel are equal, as in a packed file.
    """
    return weight.detach().abs().double().mean(dim=(1, 2, 3)).float()


def rprelu(x: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """PReLU(x + shift) + offset, per channel (ReActNet's RPReLU; TaA selects its parameters).

    Args:
        x: B×C×H×W; overwritten.
        shift, offset: broadcastable to x.
        slope: C.
    """
    return F.prelu(x.add_(shift), slope).add_(offset)
