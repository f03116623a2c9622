"""Parameter shards: the optimizer of a part of a network's parameters, updated by one thread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..networks.latent_conv import latent_names
from .config import OptimizerConfig


class ParameterShard:
    """Some of a network's parameters, with their gradients, Adam and moving average.

    Args:
        named: (name, parameter) of each.
        latent: names of binary convolutions' weights, which have a learning rate of their own.
        config: of Adam.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], latent: set[str], config: OptimizerConfig) -> None:
        self.named = list(named)
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        groups = [
            {"params": [parameter for name, parameter in named if name in latent], "factor": config.latent_lr},
            {"params": [parameter for name, parameter in named if name not in latent], "factor": 1.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.Adam(groups, lr=config.lr, betas=config.betas, fused=True)

    def square_norm(self) -> Tensor:
        """The square of the gradient's norm."""
        gradients = self._gradients()
        if not gradients:  # nothing of this shard took part
            return torch.zeros((), device=self.parameters[0].device)
        return torch.stack(list(torch._foreach_norm(gradients))).square().sum()

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    @torch.no_grad()
    def update(self, factor: Tensor, lr: float, decay: float) -> None:
        """Take one step of Adam on the gradient times `factor`, then update the average."""
        gradients = self._gradients()
        if gradients:
            torch._foreach_mul_(gradients, factor)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)


def shard_parameters(network: nn.Module, count: int, config: OptimizerConfig) -> list[ParameterShard]:
    """A network's parameters in `count` shards of about the same size."""
    latent = set(latent_names(network))
    named: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(count)]
    sizes = [0] * count
    for name, parameter in sorted(network.named_parameters(), key=lambda item: -item[1].numel()):
        smallest = sizes.index(min(sizes))
        named[smallest].append((name, parameter))
        sizes[smallest] += parameter.numel()
    return [ParameterShard(part, latent, config) for part in named]
