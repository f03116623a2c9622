"""Sign and its gradients: each quantizer is a pair of a forward value and the gradient that training pretends it has.

BI-DiffSR takes ReActNet's pair: a piecewise polynomial for activations, a clipped straight-through
estimator for weights. They are written in the few passes over memory that torch vectorizes well: `where` and the
backward of `prelu` are 10 to 90 times slower than these on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

JUST_ABOVE_1 = 1.0000001192092896
"""The float after 1: hardtanh's gradient ends before its bounds, those here include them."""


class _ApproxSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        x = (x + 0.0).to(dtype)  # -0.0 becomes 0.0
        ctx.save_for_backward(x)
        return _signs(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = torch.rsub(x.abs(), 2.0, alpha=2.0).mul_(grad)
        return torch.ops.aten.hardtanh_backward(slope, x, -1.0, 1.0), None


class _SteSign(Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return _signs(w + 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        return _clipped(grad, w)


class _ScaledSteSign(Function):
    """alpha * signs, with the gradient of the signs left unscaled and none for alpha."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(w)
        alpha = torch.linalg.vector_norm(w, 1, dim=(1, 2, 3), keepdim=True) / w[0].numel()
        return torch.copysign(alpha.to(dtype), (w + 0.0).to(dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (w,) = ctx.saved_tensors
        return _clipped(grad.to(w.dtype), w), None


class _RPReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
        x = x + shift
        slope = slope.view(1, -1, 1, 1)
        ctx.save_for_backward(x, slope)
        return torch.ops.aten._prelu_kernel(x, slope).add_(offset)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        over = (0, 2, 3)
        positive = torch.ops.aten.threshold_backward(grad, x, 0)
        grad_x = torch.lerp(positive, grad, slope)
        return (
            grad_x,
            grad_x.sum(over, keepdim=True),
            x.clamp(max=0).mul_(grad).sum(over),
            grad.sum(over, keepdim=True),
        )


def approx_sign(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sign(x) in {-1, +1}, Sign(0) = +1; its gradient is max(0, 2 - 2|x|) (Bi-Real Net, arXiv 1808.00278).

    The signs are given in `dtype`, to whose accuracy x is kept for the gradient.
    """
    return _ApproxSign.apply(x, dtype)


def ste_sign(w: Tensor) -> Tensor:
    """Sign(w) in {-1, +1}, Sign(0) = +1; its gradient is 1 where |w| <= 1 (BinaryNet, arXiv 1602.02830)."""
    return _SteSign.apply(w)


def scaled_ste_sign(w: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """alpha Sign(w) with alpha the mean |w| of each output channel (paper, eq. 5-7); gradient as `ste_sign`.

    The authors leave alpha out of the gradient: it reaches w as if the weight were Sign(w) alone.
    """
    return _ScaledSteSign.apply(w, dtype)


def rprelu(x: Tensor, shift: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """`ops.reference.rprelu` with gradients: PReLU(x + shift) + offset, per channel.

    Args:
        x: B×C×H×W; not overwritten.
        shift, offset: 1×C×1×1.
        slope: C.
    """
    return _RPReLU.apply(x, shift, slope, offset)


def _signs(x: Tensor) -> Tensor:
    """+1 and -1, by the sign bit."""
    return torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), x)


def _clipped(grad: Tensor, w: Tensor) -> Tensor:
    """grad where |w| <= 1, else 0."""
    return torch.ops.aten.hardtanh_backward(grad, w, -JUST_ABOVE_1, JUST_ABOVE_1)
