"""Upsampler: a small full-precision network whose result is added to bicubic interpolation before the diffusion begins.

The sum is the mean of what the picture may look like at that size, as far as so small a network can tell, without any
texture that is not certain. Residual blocks without norms (Lim et al., arXiv 1707.02921) see the small picture, and a
pixel-shuffle (Shi et al., arXiv 1609.05158) makes a large one of what they find.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import blueprint as plans


class Upsampler(nn.Module):
    """One of them, for one scale."""

    def __init__(self, plan: plans.Upsampler) -> None:
        super().__init__()
        self.scale, self.radius = plan.scale, plan.radius
        self.head = _conv(plan.head)
        self.blocks = nn.ModuleList(_Block(*convs) for convs in plan.blocks)
        self.tail = _conv(plan.tail)
        for parameter in self.tail.parameters():  # training begins at bicubic interpolation
            nn.init.zeros_(parameter)

    def forward(self, low_res: Tensor) -> Tensor:
        """What is added to bicubic interpolation.

        Args:
            low_res: B×3×h×w in [0, 1]. Beyond its edges there are zeros: what is nearer to them than `radius` pixels is
                of little use.

        Returns:
            B×3×(scale·h)×(scale·w).
        """
        x = self.head(low_res)
        for block in self.blocks:
            x = block(x)
        return F.pixel_shuffle(self.tail(x), self.scale)


class DeviceUpsampler:
    """One for inference, which computes on a device whatever lies elsewhere.

    Args:
        plan: of it.
        state: the model's tensors, by name.
        device: by torch's name.
    """

    def __init__(self, plan: plans.Upsampler, state: Mapping[str, Tensor], device: str) -> None:
        with torch.device("meta"):
            module = Upsampler(plan)
        place = f"upsamplers.{plan.scale}."
        own = {name.removeprefix(place): tensor for name, tensor in state.items() if name.startswith(place)}
        module.load_state_dict(own, assign=True)
        self.module, self.device, self.radius = module.requires_grad_(False).to(device), device, plan.radius

    def __call__(self, low_res: Tensor) -> Tensor:
        """As `Upsampler.forward`; the result lies where the picture does."""
        return self.module(low_res.to(self.device)).to(low_res.device)


class _Block(nn.Module):
    def __init__(self, first: plans.Conv, second: plans.Conv) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(first), _conv(second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _conv(plan: plans.Conv) -> nn.Conv2d:
    return nn.Conv2d(plan.inputs, plan.outputs, plan.kernel, padding=plan.kernel // 2)
