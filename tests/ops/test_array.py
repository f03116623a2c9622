"""Numbers in memory, with and without torch."""

import pytest
import torch

from bidiffsr_cli.ops import Array


@pytest.mark.parametrize("tensor", [torch.randn(3, 4), torch.arange(6, dtype=torch.uint8), torch.randn(()).clone()])
def test_a_tensor_is_shared(tensor):
    array = Array.of(tensor)
    assert array.shape == tuple(tensor.shape) and array.address == tensor.data_ptr()
    assert array.numbers().tolist() == tensor.flatten().tolist()
    assert array.tensor().data_ptr() == tensor.data_ptr() and torch.equal(array.tensor(), tensor)


def test_memory_of_its_own():
    array = Array.empty((2, 3))
    array.numbers()[4] = 1.5
    assert array.tensor().tolist() == [[0, 0, 0], [0, 1.5, 0]]
    array.tensor()[0, 0] = 2
    assert array.reshaped(3, 2).numbers().tolist() == [2, 0, 0, 0, 1.5, 0]
    assert Array.empty((0, 3)).tensor().shape == (0, 3) and not len(Array.empty((0, 3)).numbers())


def test_gaps_are_closed():
    array = Array.of(torch.arange(6.0).view(2, 3)[:, ::2])
    assert array.shape == (2, 2) and array.numbers().tolist() == [0, 2, 3, 5]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="not known here"):
        Array.of(torch.zeros(2, dtype=torch.int32))
    with pytest.raises(ValueError, match="do not make float32"):
        Array((2, 3), "float32", bytearray(20))
    with pytest.raises(ValueError, match="cannot become"):
        Array.empty((2, 3)).reshaped(7)
