"""How upsamplers are trained beside their network: when it is their turn, and where they compute for its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn


def turn(share: float, scales: Sequence[int], iteration: int) -> int | None:
    """The scale whose upsampler an iteration's batch is for, if it is for one: the same in all processes.

    Args:
        share: of the batches that are; they lie evenly.
        scales: of enlargement, which come in turn.
        iteration: its number, from 0.
    """
    turns = int(share * iteration)
    return scales[turns % len(scales)] if int(share * (iteration + 1)) > turns else None


class InThreads:
    """An upsampler as it is now, for crops that are shared out to several threads, without gradients.

    Args:
        upsampler: what computes.
        spread: like `map`, in threads.
        count: of them.
    """

    def __init__(self, upsampler: Any, spread: Callable[..., Iterable[Tensor]], count: int) -> None:
        self.upsampler, self.spread, self.count = upsampler, spread, count
        self.radius: int = upsampler.radius

    def __call__(self, low_res: Tensor) -> Tensor:
        compute = torch.no_grad()(self.upsampler)  # which holds for the thread that calls it alone
        return torch.cat(list(self.spread(compute, low_res.chunk(self.count))))


def average_gradients(module: nn.Module) -> None:
    """Give every process the mean of all processes' gradients."""
    for parameter in module.parameters():
        assert parameter.grad is not None
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()
