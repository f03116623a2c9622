"""The network as CUDA graphs: its some thousand small kernels are started at once instead of one by one by Python.

A graph reads and writes fixed places in memory. Inputs are copied there, and so are the parameters of the TaR/TaA group
(`SelectedGroup`), so that one graph for each shape serves every step.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import is_out_of_memory
from .time_aware import SelectedGroup, TimestepContext
from .unet import UNet

MOST = 32
"""Shapes that are remembered; then the one goes that was not seen for longest."""
WORTH_A_GRAPH = 3
"""After so many calls of one shape it is captured: a picture that is seen once is enlarged before a graph would pay."""


class CudaGraphs:
    """Graphs on a stream of their own, in one pool of memory: they run one after the other."""

    _one_at_a_time = threading.Lock()
    """A capture begins by waiting for its device, which other captures there would not survive."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool: Any = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """In it, work comes behind all that the caller has asked for before, and before what it asks for later; the
        device is the current one.
        """
        with torch.cuda.device(self.stream.device):
            caller = torch.cuda.current_stream()
            self.stream.wait_stream(caller)
            try:
                with torch.cuda.stream(self.stream):
                    yield
            finally:
                caller.wait_stream(self.stream)

    def capture(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What computes again, from the same places in memory, into the same tensor.

        Other threads may use the device meanwhile.

        Raises:
            RuntimeError: it cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        with self._one_at_a_time, torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            output = compute()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay


@dataclass
class _Shape:
    """What is known of inputs of one shape and type."""

    calls: int = 0
    places: tuple[Tensor, ...] = ()  # where the graph reads x_t, condition and t
    replay: Callable[[], Tensor] | None = None


class GraphedUNet:
    """A network on one device, called like a UNet, without gradients and from any thread.

    The first calls of a shape compute as ever, and so warm up; then that is captured and replayed. What cannot be
    captured goes on as ever.

    Args:
        network: frozen and where it stays; it is used up.
        graphs: what captures there.
    """

    def __init__(self, network: UNet, graphs: CudaGraphs) -> None:
        self.network, self.graphs = network, graphs
        self.selected = SelectedGroup(network)
        self.shapes: OrderedDict[Any, _Shape] = OrderedDict()
        self._lock = threading.Lock()  # there is one group, and one set of places
        self._warned = False

    def __call__(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward; the result has the type of x_t."""
        ctx = TimestepContext(t, int(t[0]) if step is None else step, self.network.config.total_steps)
        result = torch.empty_like(x_t)
        with self._lock, torch.inference_mode(), self.graphs.turn():
            self.selected.select(ctx)
            try:
                return result.copy_(self._computed(x_t, condition, t))
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    self.shapes.clear()  # with what the graphs hold there may be enough
                raise

    def _computed(self, *inputs: Tensor) -> Tensor:
        shape = self._shape(tuple((value.shape, value.dtype) for value in inputs))
        if shape.replay is not None:
            for place, value in zip(shape.places, inputs, strict=True):
                place.copy_(value)
            return shape.replay()
        output = self.network(*inputs, step=0)  # there is one group, whatever the step
        shape.calls += 1
        if shape.calls == WORTH_A_GRAPH:  # in the thread that has just warmed up: libraries keep handles for each
            self._capture(shape, inputs)
        return output

    def _shape(self, key: Any) -> _Shape:
        shape = self.shapes.setdefault(key, _Shape())
        self.shapes.move_to_end(key)
        if len(self.shapes) > MOST:
            self.shapes.popitem(last=False)
        return shape

    def _capture(self, shape: _Shape, inputs: tuple[Tensor, ...]) -> None:
        places = tuple(value.clone() for value in inputs)
        try:
            shape.replay = self.graphs.capture(lambda: self.network(*places, step=0))
            shape.places = places
        except RuntimeError as error:
            if not self._warned:
                why = str(error).partition("\n")[0]
                logging.getLogger("bidiffsr").warning(
                    "The network could not be captured as a CUDA graph (%s); it goes on without, and slower.", why
                )
            self._warned = True
