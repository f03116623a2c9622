"""What depends on the time step inside a binary convolution: TaR before the sign, TaA behind it.

T time steps are split evenly into K groups; a group selects one of K sets of parameters. One `TimestepContext` is built
per forward pass and handed to every block.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from ..ops import reference
from ..ops.reference import TimestepContext
from . import quantizers

__all__ = ["SelectedGroup", "TaA", "TaR", "TimestepContext"]


class TaR(nn.Module):
    """Time-aware redistribution: one learned shift per channel and group, added before the sign."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(groups, channels))

    def forward(self, ctx: TimestepContext) -> Tensor:
        return self.bias[ctx.group(self.bias.shape[0])].view(1, -1, 1, 1)


class TaA(nn.Module):
    """Time-aware activation: one RPReLU per group, PReLU(x + shift) + offset per channel."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(groups, channels))
        self.slope = nn.Parameter(torch.full((groups, channels), 0.25))
        self.offset = nn.Parameter(torch.zeros(groups, channels))

    @classmethod
    def of_one_group(cls, shift: Tensor, slope: Tensor, offset: Tensor) -> TaA:
        """An RPReLU with these parameters, C each, whatever the time step."""
        with torch.device("meta"):
            taa = cls(len(shift), 1)
        for name, value in (("shift", shift), ("slope", slope), ("offset", offset)):
            setattr(taa, name, nn.Parameter(value.detach().clone()[None]))
        return taa

    def forward(self, x: Tensor, ctx: TimestepContext) -> Tensor:
        group = ctx.group(self.slope.shape[0])
        rprelu = quantizers.rprelu if torch.is_grad_enabled() else reference.rprelu  # which overwrites x
        return rprelu(x, self.shift[group].view(1, -1, 1, 1), self.slope[group], self.offset[group].view(1, -1, 1, 1))


class SelectedGroup:
    """Makes a network's TaR and TaA ones of a single group, whose parameters are copied from a table for each step.

    So they lie at the same places whatever the step, which a CUDA graph needs.

    Args:
        network: frozen and where it stays; its TaR and TaA are changed in place.
    """

    def __init__(self, network: nn.Module) -> None:
        self.tables: list[tuple[Tensor, Tensor]] = []  # K×N of all groups, and N of the selected one
        of_groups = defaultdict(list)
        for module in network.modules():
            if isinstance(module, TaR | TaA):
                for name, value in module.named_parameters(recurse=False):
                    of_groups[len(value)].append((module, name, value.detach()))
        for groups, entries in of_groups.items():
            table = torch.cat([value for _, _, value in entries], dim=1)
            selected = table[0].clone()
            for (module, name, _), part in zip(
                entries, selected.split([value.shape[1] for _, _, value in entries]), strict=True
            ):
                setattr(module, name, nn.Parameter(part[None], requires_grad=False))
            if groups > 1:
                self.tables.append((table, selected))

    def select(self, ctx: TimestepContext) -> None:
        """Put the parameters of a step's group in their places."""
        for table, selected in self.tables:
            selected.copy_(table[ctx.group(len(table))])
