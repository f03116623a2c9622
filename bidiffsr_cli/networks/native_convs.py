"""SR3's network on the native engine: every packed convolution is a program of its own, all else runs in torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..configs import ModelConfig
from ..ops import Array, BinaryBlock, Program, Segment, native
from ..ops.threads import threads
from .packed import PackedBIConv, packed_network, swap
from .program import packed_conv
from .time_aware import TimestepContext


class NativeConvs(nn.Module):
    """A network whose packed convolutions, one by one, run on the native engine, and everything else in torch.

    Args:
        config: of the model.
        arrays: its packed tensors, by name.
        isa: the instruction set.
        dtype: of what the full-precision convolutions multiply, "float32" or "bfloat16".
    """

    def __init__(self, config: ModelConfig, arrays: Mapping[str, Array], isa: str, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype
        network = packed_network(config, {name: array.tensor() for name, array in arrays.items()})
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        total = config.network.total_steps
        self.network = swap(network, PackedBIConv, lambda conv: NativeBIConv(conv, isa, total))
        self.requires_grad_(False).eval()

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bfloat16"):
            return self.network(x_t, condition, t, step).float()


class NativeBIConv(nn.Module):
    """A packed convolution on the engine."""

    def __init__(self, packed: PackedBIConv, isa: str, total_steps: int) -> None:
        super().__init__()
        self.stride = packed.stride
        tensors = {name: Array.of(tensor) for name, tensor in packed.state_dict().items()}
        conv = packed_conv(tensors, "", packed.kernel, packed.identity, (Segment(0, 0, 1, packed.inputs),))
        program = Program((packed.inputs,), (BinaryBlock((0,), (conv,)),), total_steps)
        self.network = native.NativeProgram(isa, program)

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        """With a stride every pixel is computed, and some are taken."""
        x = x.float().contiguous(memory_format=torch.channels_last)
        y = self.network([x], [ctx.t] * len(x), ctx.t, threads())
        return y if self.stride == 1 else y[:, :, :: self.stride, :: self.stride]
