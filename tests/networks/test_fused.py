"""The choice between a block and its twin by Triton's pair, where no GPU is: what decides, and what stays as it is.

What the pair computes is in `tests/ops/pair_cases.py`.
"""

import copy

import pytest
import torch

from bidiffsr_cli.networks import fused
from bidiffsr_cli.networks.blocks import ResBlock
from bidiffsr_cli.networks.fused import Choice, FusedResBlock, can_be_fused, choice, fuse
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.precision import in_precision
from networks.test_methods import of
from networks.test_unet import TINY, randomized


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    monkeypatch.setattr(fused, "choices", {})
    monkeypatch.setattr(fused, "SIDE", 8)


def res_blocks(network):
    return [module for module in network.modules() if isinstance(module, ResBlock)]


def prepared(config=TINY):
    return in_precision(freeze(randomized(config, condition_channels=6)), torch.float32)


def chosen(plain, pair, seconds=(2.0, 1.0)):
    """The choice between ways to these results; the clock gives these seconds, one after the other."""
    left = iter(seconds)
    return choice(lambda: (lambda: plain, lambda: pair), lambda way: next(left))


def test_the_pair_is_taken_where_it_agrees_and_is_faster_by_more_than_chance():
    result = torch.randn(100)
    assert chosen(result, result + 1e-3) == Choice(True, "it is 2.00 times as fast")
    for seconds in ((1.0, 1.0), (1.0, 2.0), (1.04, 1.0)):
        assert not chosen(result, result, seconds).fused


@pytest.mark.parametrize("wrong", [lambda x: 1.1 * x, lambda x: x * torch.nan, torch.zeros_like])
def test_what_computes_something_else_is_left_out_and_not_timed(wrong):
    result = torch.randn(100)
    found = chosen(result, wrong(result), seconds=())
    assert not found.fused and found.why.startswith("ArithmeticError: it differs from the plain block by ")


@pytest.mark.parametrize("error", [RuntimeError("no compiler\n here"), torch.OutOfMemoryError("full"), OSError("disk")])
def test_whatever_fails_the_plain_block_stays(error):
    def fails():
        raise error

    assert choice(fails, float) == Choice(False, f"{type(error).__name__}: {' '.join(str(error).split())}")
    x = torch.ones(1)
    assert not choice(lambda: (lambda: x, fails), float).fused
    assert not choice(lambda: (lambda: x, lambda: x), lambda way: fails()).fused


def test_where_triton_or_its_gpu_is_missing_a_network_stays_as_it_is():
    """Both are missing here, or one: a block that was fused would say so."""
    network = prepared()
    before = copy.deepcopy(network)
    looked_at = []
    assert fuse(network, lambda way: looked_at.append(way) or 1.0) is network
    assert not looked_at and not [module for module in network.modules() if isinstance(module, FusedResBlock)]
    assert {size.channels for size in fused.choices} == {8, 16, 32}
    assert fused.in_words().startswith("without Triton's pair (") and "rror: " in fused.in_words()
    parts = torch.randn(1, 3, 16, 16), torch.randn(1, 6, 16, 16), torch.tensor([900])
    with torch.inference_mode():
        assert torch.equal(network(*parts), before(*parts))


def test_what_was_found_is_remembered(monkeypatch):
    fuse(prepared())
    found = dict(fused.choices)
    monkeypatch.setattr(fused, "choice", lambda *_: pytest.fail("it was looked at again"))
    fuse(prepared())
    assert fused.choices == found and len(found) == 3


@pytest.mark.parametrize(
    ("method", "kind", "count"),
    [
        ("bi_diffsr", "bi_diffsr", 7),
        ("irnet", "bi_diffsr", 7),
        ("irnet", "sr3", 3),  # elsewhere channels change
        ("bnn", "bi_diffsr", 0),
        ("reactnet", "bi_diffsr", 0),
        ("full_precision", "bi_diffsr", 0),
    ],
)
def test_blocks_that_add_their_input_behind_the_activation_can_be_fused(method, kind, count):
    config = TINY if method == "bi_diffsr" else of(method, kind)
    assert sum(map(can_be_fused, res_blocks(prepared(config)))) == count
    assert not any(map(can_be_fused, res_blocks(freeze(randomized(config)))))  # with torch's norms
