"""Sign and its gradients: each quantizer is a pair of a forward value and the gradient that training pretends it has.

    method                      activations    weights
    BI-DiffSR, ReActNet, BBCU   approx_sign    scaled_ste_sign
    BNN                         ste_sign       ste_sign
    DoReFa                      ste_sign       dorefa_weight
    DoReFa with 0 and 1         unit_step      dorefa_weight
    XNOR                        open_ste_sign  xnor_weight
    IRNet                       ede_sign       irnet_weight

Those of BI-DiffSR are written in the few passes over memory that torch vectorizes well: `where` and the backward of
`prelu` are 10 to 90 times slower than these on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

JUST_ABOVE_1 = 1.0000001192092896
JUST_BELOW_0 = -1.1754943508222875e-38
"""Floats beyond 1 and 0: hardtanh's gradient ends before its bounds, and on those it has to be here. (What clamp's is
on a bound depends on the version of torch.)"""


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
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.open_interval = low, high
        return _signs(x + 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, x, *ctx.open_interval), None, None


class _UnitStep(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1).round_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, x, JUST_BELOW_0, JUST_ABOVE_1)


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


class _XnorWeight(Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        alpha = w.abs().mean((1, 2, 3), keepdim=True)
        ctx.save_for_backward(w, alpha)
        return torch.copysign(alpha, w + 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        w, alpha = ctx.saved_tensors
        return grad / w[0].numel() + _clipped(grad * alpha, w)


class _EdeSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(x, t, k)
        return _signs(x + 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, t, k = ctx.saved_tensors
        return grad * (k * t) * (1 - torch.tanh(t * x).square()), None, None


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


def ste_sign(x: Tensor) -> Tensor:
    """Sign(x) in {-1, +1}, Sign(0) = +1; its gradient is 1 where |x| <= 1 (BNN, arXiv 1602.02830)."""
    return _SteSign.apply(x, -JUST_ABOVE_1, JUST_ABOVE_1)


def open_ste_sign(x: Tensor) -> Tensor:
    """Likewise with gradient 1 where |x| < 1 (XNOR-Net, arXiv 1603.05279)."""
    return _SteSign.apply(x, -1.0, 1.0)


def ede_sign(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """Sign(x), Sign(0) = +1; its gradient is k t (1 - tanh²(t x)) (EDE of IR-Net, arXiv 1909.10788).

    t grows and k falls while training goes on, see `ede_shape`: from an identity's gradient to a sign's.
    """
    return _EdeSign.apply(x, t, k)


def ede_shape(part_done: float) -> tuple[float, float]:
    """(t, k) of `ede_sign` when a part of the training is over, 0 to 1: t from 1e-3, as in the authors' code, to 10."""
    t = 1e-3 * 10 ** (4 * part_done)
    return t, max(1 / t, 1.0)


def unit_step(x: Tensor) -> Tensor:
    """round(clip(x, 0, 1)) in {0, 1}, 0 at 1/2; gradient 1 where 0 <= x <= 1 (DoReFa, arXiv 1606.06160)."""
    return _UnitStep.apply(x)


def dorefa_weight(w: Tensor) -> Tensor:
    """E Sign(w) with E the mean |w| of the layer; all of the gradient goes to w, none to E (DoReFa)."""
    binary = torch.copysign(w.detach().abs().mean(), w.detach() + 0.0)
    return binary + (w - w.detach())


def xnor_weight(w: Tensor) -> Tensor:
    """alpha Sign(w) with alpha the mean |w| of each output channel (XNOR-Net).

    Its gradient is 1/n + alpha where |w| <= 1 and 1/n elsewhere, n numbers in each output channel.
    """
    return _XnorWeight.apply(w)


def irnet_weight(w: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """s Sign(u), u = (w - mean) / std of each output channel, s = 2^round(log2 mean |u|) (IR-Net).

    The gradient goes through `ede_sign` and through mean and std (of n - 1), and not through s.
    """
    over = (1, 2, 3)
    u = w - w.mean(over, keepdim=True)
    u = u / u.std(over, keepdim=True).clamp_min(1e-12)  # equal weights have none
    scale = u.detach().abs().mean(over, keepdim=True).log2().round().exp2()
    return scale * ede_sign(u, t, k)


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
