"""One convolution for each method, as `convs_of` makes them by their plans.

Each has `forward(x, ctx)`, and keeps height and width, or halves both with a stride of 2. Full precision does
the same, so a block never asks which one it was given.

    bi_diffsr          BIConv            TaR, sign, alpha, TaA (K groups), + x
    bbcu               BIConv            the same with one group
    reactnet           ReActNetConv      shift, sign, alpha, BatchNorm, + x, RPReLU
    irnet              BatchNormConv     sign, scale, BatchNorm, + x
    bnn, dorefa, xnor  BatchNormConv     sign, scale, BatchNorm
    dorefa_01          BatchNormConv     the same with activations of 0 and 1
    xnor_map           BatchNormConv     the same with a scale for every pixel
    full_precision     FullPrecisionConv

GroupNorm and Swish before a convolution are the block's, whatever the method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs import METHODS, UNetConfig
from ..ops.reference import channel_scales
from . import blueprint
from .latent_conv import Folded, LatentConv, conv_dtype
from .quantizers import (
    approx_sign,
    dorefa_weight,
    ede_shape,
    ede_sign,
    irnet_weight,
    open_ste_sign,
    scaled_ste_sign,
    ste_sign,
    unit_step,
    xnor_weight,
)
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


class FullPrecisionConv(nn.Conv2d):
    """An ordinary convolution with a bias that takes, and ignores, the time step."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:  # type: ignore[override]
        y = super().forward(x)
        return y.to(x.dtype) if self.training else y  # autocast computes it in few bits, training adds it up in many


class BatchNorm(nn.Module):
    """BatchNorm over B×H×W (arXiv 1502.03167) whose statistics for inference are measured when training is over.

    In training the statistics are the batch's own. A moving average of them would be one of weights that are gone by
    then; `measuring` takes them for the weights that are kept.
    """

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.mean: Tensor
        self.variance: Tensor
        self.seen: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps)
        if self.seen is not None:
            variance, mean = torch.var_mean(x, (0, 2, 3))
            self.seen.append((mean, variance))
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Of inference, as scale x + shift, O each."""
        scale = self.weight.detach() / (self.variance + self.eps).sqrt()
        return scale, self.bias.detach() - self.mean * scale


@contextlib.contextmanager
def measuring(network: nn.Module) -> Iterator[None]:
    """Measure the statistics of every BatchNorm on the batches that the network, in training mode, sees meanwhile."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.seen = []
    try:
        yield
        for norm in norms:
            if norm.seen:
                means, variances = (torch.stack(list(values)) for values in zip(*norm.seen, strict=True))
                norm.mean.copy_(means.mean(0))
                # of all batches together: within them, and between them
                norm.variance.copy_(variances.mean(0) + means.var(0, correction=0))
    finally:
        for norm in norms:
            norm.seen = None


class ReActNetConv(BIConv):
    """ReActNet's unit: RPReLU(BatchNorm(Sign(x + shift) * alpha Sign(w)) + x) (arXiv 2003.03488, figure 4)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, identity: str = "before"
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, identity=identity)
        self.norm = BatchNorm(out_channels)

    def sums(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        return self.norm(super().sums(x, ctx))

    def fold(self) -> Folded:
        plain = super().fold()
        signs, alpha, shift = _folded(plain.signs, plain.alpha, self.norm)
        taa = TaA.of_one_group(self.taa.shift[0] + shift, self.taa.slope[0], self.taa.offset[0])
        return Folded(signs, alpha, self.tar, taa)


class BatchNormConv(LatentConv):
    """Signs of the input and of the weight, a scale, BatchNorm: BNN, DoReFa, XNOR and IRNet differ in the quantizers.

    Args:
        method: a name of `METHODS`.
        identity: "after" or "none"; IRNet's papers add the input to the result, the older ones do not.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, method: str, identity: str
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, identity)
        self.method, self.foldable = method, not METHODS[method]
        self.norm = BatchNorm(out_channels)
        # (t, k) of IRNet's gradient, which `anneal` changes
        self.register_buffer("ede", torch.tensor([0.1, 10.0]) if method == "irnet" else None)
        self.ede: Tensor

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        dtype, padding = conv_dtype(x), self.weight.shape[-1] // 2
        signs, weight = self.quantized(x).to(dtype), self.quantized_weight().to(dtype)
        y = F.conv2d(signs, weight, stride=self.stride, padding=padding).to(x.dtype)
        if self.method == "xnor_map":
            y = y * self.scale_map(x)
        y = self.norm(y)
        return y + x if self.identity == "after" else y

    def quantized(self, x: Tensor) -> Tensor:
        """The input in one bit, with the method's gradient."""
        match self.method:
            case "dorefa_01":
                return unit_step(x)
            case "xnor" | "xnor_map":
                return open_ste_sign(x)
            case "irnet":
                return ede_sign(x, *self.ede)
        return ste_sign(x)

    def quantized_weight(self) -> Tensor:
        """The weight in one bit and a scale, with the method's gradient."""
        match self.method:
            case "dorefa" | "dorefa_01":
                return dorefa_weight(self.weight)
            case "xnor" | "xnor_map":
                return xnor_weight(self.weight)
            case "irnet":
                return irnet_weight(self.weight, *self.ede)
        return ste_sign(self.weight)

    def scale_map(self, x: Tensor) -> Tensor:
        """XNOR-Net's K, B×1×H×W: the mean over a kernel's window of the mean |x| over channels (section 3.2)."""
        kernel = self.weight.shape[-1]
        magnitude = x.abs().mean(1, keepdim=True)
        return F.avg_pool2d(magnitude, kernel, self.stride, kernel // 2)

    def fold(self) -> Folded:
        weight = self.quantized_weight().detach()
        signs, alpha, shift = _folded(weight, weight[:, 0, 0, 0].abs(), self.norm)
        tar = TaR(weight.shape[1], 1).to(weight.device)
        return Folded(signs, alpha, tar, TaA.of_one_group(shift, torch.ones_like(shift), torch.zeros_like(shift)))


@torch.no_grad()
def anneal(network: nn.Module, part_done: float) -> None:
    """Bring what changes with the progress of training, 0 to 1, to where it belongs: IRNet's gradients."""
    convs = [module for module in network.modules() if isinstance(module, BatchNormConv) and module.method == "irnet"]
    if convs:
        shape = torch.tensor(ede_shape(part_done)).to(convs[0].ede.device)
        torch._foreach_copy_([conv.ede for conv in convs], [shape] * len(convs))


def convs_of(config: UNetConfig) -> Callable[[blueprint.Conv], nn.Module]:
    """Makes the convolutions of a blueprint, full precision or of the config's method as they say."""

    def make(plan: blueprint.Conv) -> nn.Module:
        size = plan.inputs, plan.outputs, plan.kernel, plan.stride
        identity = blueprint.identity(config, plan.inputs, plan.outputs, plan.stride)
        match method := "full_precision" if plan.full else config.method:
            case "full_precision":
                return FullPrecisionConv(*size)
            case "bi_diffsr" | "bbcu":
                groups = {"tar_groups": config.tar_groups, "taa_groups": config.taa_groups}
                return BIConv(*size, **groups, identity=identity)
            case "reactnet":
                return ReActNetConv(*size, identity=identity)
        return BatchNormConv(*size, method=method, identity=identity)

    return make


def _folded(signs: Tensor, alpha: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """(signs, alpha, shift) of a binary convolution with the BatchNorm behind it; a negative scale turns the signs."""
    scale, shift = norm.coefficients()
    turned = ste_sign(signs.detach()) * ste_sign(scale).view(-1, 1, 1, 1)
    return turned, alpha * scale.abs(), shift
