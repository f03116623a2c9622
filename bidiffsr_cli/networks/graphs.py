"""The network as a CUDA graph: its some thousand small kernels are started at once instead of one by one by Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .time_aware import TimestepContext
from .unet import UNet

MOST = 32
"""Graphs that are kept; then the oldest goes."""


@dataclass(frozen=True)
class _Graph:
    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]  # x_t, condition, t: where the graph reads
    output: Tensor  # where it writes


class GraphedUNet(nn.Module):
    """A network on a CUDA device, called like a UNet.

    The first call with new sizes or a new TaR/TaA group computes as ever and so warms up; the second is captured; from
    then on the graph is replayed. All graphs work in one pool of memory, for they run one after the other.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.graphs: dict[Any, _Graph | None] = {}
        self.pool: Any = None

    def forward(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward. The result is overwritten by the next call."""
        config, step = self.network.config, int(t[0]) if step is None else step
        ctx = TimestepContext(t, step, config.total_steps)
        key = (x_t.shape, ctx.group(config.tar_groups), ctx.group(config.taa_groups))
        if key not in self.graphs:
            if len(self.graphs) == MOST:
                del self.graphs[next(iter(self.graphs))]
            self.graphs[key] = None
            return self.network(x_t, condition, t, step)
        graph = self.graphs[key]
        if graph is None:
            graph = self.graphs[key] = self._capture((x_t, condition, t), step)
        for there, value in zip(graph.inputs, (x_t, condition, t), strict=True):
            there.copy_(value)
        graph.replay()
        return graph.output

    def _capture(self, inputs: tuple[Tensor, ...], step: int) -> _Graph:
        graph = torch.cuda.CUDAGraph()
        inputs = tuple(value.clone() for value in inputs)
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        # casts of weights belong into the graph: autocast forgets those it keeps when its context ends
        with torch.cuda.graph(graph, pool=self.pool), torch.autocast("cuda", dtype, enabled, cache_enabled=False):
            output = self.network(*inputs, step)
        self.pool = graph.pool()
        return _Graph(graph.replay, inputs, output)
