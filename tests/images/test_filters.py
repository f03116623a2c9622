"""Gaussians and sums tap by tap, against the plain definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from bidiffsr_cli.images.filters import convolve, gaussian, weighted_sum


def test_gaussians() -> None:
    (narrow, wide) = gaussian(torch.tensor([0.5, 2.0], dtype=torch.float64), 3)
    assert float(narrow.sum()) == pytest.approx(1) and torch.equal(wide, wide.flip(0))
    assert float(wide[3] / wide[1]) == pytest.approx(math.exp(2**2 / (2 * 2.0**2)))
    assert torch.equal(gaussian(torch.tensor(0.5, dtype=torch.float64), 3), narrow)
    assert gaussian(torch.ones(2, 5), 1).shape == (2, 5, 3) and gaussian(torch.tensor(1.0), 4).dtype == torch.float32


@pytest.mark.parametrize("dim", [1, -1])
def test_convolve(dim: int) -> None:
    x, kernel = torch.rand(2, 9, 11), [0.25, 0.5, 0.25]
    weight = torch.tensor(kernel).view((1, 1, 3, 1) if dim == 1 else (1, 1, 1, 3))
    torch.testing.assert_close(convolve(x, kernel, dim), F.conv2d(x[:, None], weight)[:, 0])


def test_parts_stay_as_they_are() -> None:
    a, b = torch.ones(3), torch.full((3,), 2.0)
    assert weighted_sum([a, b], [2.0, 10.0]).tolist() == [22.0] * 3 and a.tolist() == [1.0] * 3
    with pytest.raises(ValueError, match="longer"):
        weighted_sum([a], [1.0, 2.0])
