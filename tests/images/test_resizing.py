"""Shrinking, against imresize's definition written out in exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.images.resizing import downscale_bicubic


def cubic(x):
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return Fraction(-1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x < 2 else Fraction(0)


def shrink_line(line, scale):
    """One row or column: result i looks at scale i + (scale - 1) / 2, on a line that is mirrored without end."""
    mirror = line + line[::-1]
    result = []
    for i in range(math.ceil(len(line) / scale)):
        centre = scale * i + Fraction(scale - 1, 2)
        near = range(math.floor(centre) - 2 * scale, math.ceil(centre) + 2 * scale + 1)
        weights = {pixel: cubic((pixel - centre) / scale) for pixel in near}
        result.append(sum(w * mirror[pixel % len(mirror)] for pixel, w in weights.items()) / sum(weights.values()))
    return result


def to_level(value):
    return min(255, max(0, math.floor(value + Fraction(1, 2))))


def shrink(plane, scale, finish):
    """A list of rows: the height first, then the width; `finish` is applied after each."""
    columns = [[finish(v) for v in shrink_line(list(column), scale)] for column in zip(*plane, strict=True)]
    return [[finish(v) for v in shrink_line(list(row), scale)] for row in zip(*columns, strict=True)]


SIZES = [(1, 1), (3, 5), (8, 8), (13, 10), (9, 24)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_levels_are_those_of_the_definition(size, scale):
    image = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    expected = torch.tensor([shrink(plane, scale, to_level) for plane in image.tolist()])
    result = downscale_bicubic(image, scale)
    assert result.dtype == torch.uint8
    assert torch.equal(result.long(), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_floats_are_neither_rounded_nor_clamped(size, scale):
    image = torch.randint(-3, 4, (2, *size)).double()
    expected = [shrink([list(map(int, row)) for row in plane], scale, Fraction) for plane in image.tolist()]
    expected = torch.tensor([[[float(v) for v in row] for row in plane] for plane in expected], dtype=torch.float64)
    torch.testing.assert_close(downscale_bicubic(image, scale), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(downscale_bicubic(image.float(), scale), expected.float(), rtol=0, atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(0, 255))
def test_a_flat_picture_stays_flat_and_sizes_are_rounded_up(height, width, scale, level):
    size = 3, -(-height // scale), -(-width // scale)
    flat = torch.full((3, height, width), level, dtype=torch.uint8)
    assert torch.equal(downscale_bicubic(flat, scale), torch.full(size, level, dtype=torch.uint8))
    torch.testing.assert_close(downscale_bicubic(flat / 255, scale), torch.full(size, level / 255))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_slope_stays_a_slope(scale):
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(60.0), indexing="ij")
    result = downscale_bicubic((x + 2 * y)[None].double(), scale)[0]
    expected = (x + 2 * y)[: result.shape[0], : result.shape[1]] * scale + 3 * (scale - 1) / 2
    inside = slice(2, -2)  # the mirror bends slopes at the borders
    torch.testing.assert_close(result[inside, inside], expected[inside, inside].double(), rtol=0, atol=1e-10)


def test_an_edge_overshoots_in_floats_and_is_clamped_in_levels():
    edge = torch.zeros(1, 16, 16)
    edge[..., 8:] = 255
    assert downscale_bicubic(edge, 2).max() > 256
    assert set(downscale_bicubic(edge.byte(), 2).unique().tolist()) >= {0, 255}


@pytest.mark.parametrize(("dtype", "scale"), [(torch.int32, 2), (torch.bool, 2), (torch.uint8, 0)])
def test_what_it_does_not_take_is_refused(dtype, scale):
    with pytest.raises(ValueError, match="must be uint8 or floats"):
        downscale_bicubic(torch.zeros(3, 8, 8, dtype=dtype), scale)
