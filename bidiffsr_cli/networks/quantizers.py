"""Sign and its gradients: each quantizer is a pair of a forward value and the gradient that training pretends it has.

BI-DiffSR takes ReActNet's pair: a piecewise polynomial for activations, a clipped straight-through
estimator for weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..ops.reference import channel_scales


class _ApproxSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp_(min=0)


class _SteSign(Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return torch.where(w >= 0, 1.0, -1.0).to(w.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return grad * (w.abs() <= 1)


class _Scale(Function):
    """alpha * signs, with the gradient of the signs left unscaled and none for alpha."""

    @staticmethod
    def forward(ctx: Any, signs: Tensor, alpha: Tensor) -> Tensor:
        return signs * alpha

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def approx_sign(x: Tensor) -> Tensor:
    """Sign(x) in {-1, +1}, Sign(0) = +1; its gradient is max(0, 2 - 2|x|) (Bi-Real Net, arXiv 1808.00278)."""
    return _ApproxSign.apply(x)


def ste_sign(w: Tensor) -> Tensor:
    """Sign(w) in {-1, +1}, Sign(0) = +1; its gradient is 1 where |w| <= 1 (BinaryNet, arXiv 1602.02830)."""
    return _SteSign.apply(w)


def scaled_ste_sign(w: Tensor) -> Tensor:
    """alpha Sign(w) with alpha the mean |w| of each output channel (paper, eq. 5-7); gradient as `ste_sign`.

    The authors leave alpha out of the gradient: it reaches w as if the weight were Sign(w) alone.
    """
    return _Scale.apply(ste_sign(w), channel_scales(w).to(w.dtype).view(-1, 1, 1, 1))
