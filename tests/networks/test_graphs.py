"""Graphs of a network by a stand-in that records on a CPU: it computes again what lies at the same places in memory."""

import contextlib
import copy
import logging
import threading
import time

import pytest
import torch

from bidiffsr_cli.networks.graphs import MOST, WORTH_A_GRAPH, GraphedUNet
from bidiffsr_cli.networks.packed import freeze
from networks.test_unet import TINY, randomized

STEPS = [1999, 1200, 0, 700, 450, 1999, 900]  # of every TaR/TaA group


class Recorded:
    """Instead of CUDA's graphs; `fails` is raised instead of a capture."""

    def __init__(self, fails=None) -> None:
        self.captured, self.replayed, self.fails = 0, 0, fails

    @contextlib.contextmanager
    def turn(self):
        yield

    def capture(self, compute):
        self.captured += 1
        if self.fails is not None:
            raise self.fails
        output = compute()

        def replay():
            self.replayed += 1
            output.copy_(compute())
            time.sleep(0)  # lets other threads in, as a real replay does
            return output

        return replay


@pytest.fixture
def network():
    return freeze(randomized(TINY, condition_channels=6))


def inputs(step, height=16, width=16, windows=1):
    shape = windows, 3, height, width
    return torch.randn(shape), torch.randn(windows, 6, height, width), torch.full((windows,), step), step


def graphed_twin(network, graphs):
    return GraphedUNet(copy.deepcopy(network), graphs)


@torch.no_grad()
def test_one_graph_for_each_shape_serves_every_step(network):
    graphs = Recorded()
    graphed = graphed_twin(network, graphs)
    for step in STEPS:
        for size in ((16, 16), (16, 32), (16, 16, 2)):
            drawn = inputs(step, *size)
            assert torch.equal(graphed(*drawn), network(*drawn))
    assert graphs.captured == 3 and graphs.replayed == 3 * (len(STEPS) - WORTH_A_GRAPH) > 0


@torch.no_grad()
def test_what_was_given_out_stays(network):
    graphed = graphed_twin(network, Recorded())
    drawn = [inputs(step) for step in STEPS]
    results = [graphed(*one) for one in drawn]
    for result, one in zip(results, drawn, strict=True):
        assert torch.equal(result, network(*one))


@torch.no_grad()
def test_threads_do_not_mix_their_windows(network):
    graphed = graphed_twin(network, Recorded())
    work = [[inputs(step) for step in STEPS * 3] for _ in range(4)]
    found = [[] for _ in work]

    def run(mine, results):
        results.extend(graphed(*one) for one in mine)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(work, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, results in zip(work, found, strict=True):
        assert len(results) == len(mine)
        assert all(torch.equal(result, network(*one)) for result, one in zip(results, mine, strict=True))


@torch.no_grad()
def test_what_cannot_be_captured_goes_on_without_and_one_warning(network, caplog):
    graphs = Recorded(fails=RuntimeError("CUDA error: operation not permitted\nmore of it"))
    graphed = graphed_twin(network, graphs)
    with caplog.at_level(logging.WARNING, "bidiffsr"):
        for step in STEPS:
            for width in (16, 32):
                drawn = inputs(step, 16, width)
                assert torch.equal(graphed(*drawn), network(*drawn))
    assert graphs.captured == 2  # once for each shape
    (record,) = caplog.records
    assert "operation not permitted);" in record.message


@torch.no_grad()
def test_graphs_give_their_memory_back_where_it_runs_out(network, monkeypatch):
    graphed = graphed_twin(network, Recorded())
    for step in STEPS:
        graphed(*inputs(step))
    assert [shape.replay is not None for shape in graphed.shapes.values()] == [True]

    def forward(*_, **__):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(graphed.network, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        graphed(*inputs(0, 32))
    assert not graphed.shapes


@torch.no_grad()
def test_shapes_that_were_not_seen_for_long_are_forgotten(network):
    graphed = graphed_twin(network, Recorded())
    for windows in range(1, MOST + 2):
        graphed(*inputs(0, 8, 8, windows))
        graphed(*inputs(0, 8, 8, 1))
    assert len(graphed.shapes) == MOST
    assert [shape[0][0][0] for shape in graphed.shapes][-2:] == [MOST + 1, 1] and graphed.shapes.popitem()[1].replay
